"""The items of TRIPOD+AI (Collins et al., BMJ 2024;385:e078378), filled from the run as far as it knows.

Topics are named in our words. What a run cannot know (ethics, funding, treatments) is marked for the authors.
"""

from dml.evaluation.metric_sets import PRIMARY
from dml.report.conclusions import summary
from dml.report.contents import Contents
from dml.report.tables import MAIN, Table, shown, title

AUTHORS = "For the authors of a paper; a run does not know it."


def tripod_table(c: Contents) -> Table:
    """One row an item: number, topic, and what this run says."""
    said = {**_methods(c), **_results(c)}
    rows = tuple((number, topic, said.get(number, AUTHORS)) for number, topic in ITEMS.items())
    return Table(("item", "topic", "this run"), rows)


ITEMS = {
    "1": "title",
    "2": "abstract",
    "3a-c": "context, intended users, inequalities",
    "4": "objectives",
    "5a": "source of the data",
    "5b": "dates",
    "6a-b": "setting, eligibility",
    "6c": "treatments",
    "7": "data preprocessor",
    "8a": "outcome",
    "8b-c": "who judged the outcome, and blinding",
    "9a-b": "predictors",
    "9c": "who assessed predictors",
    "10": "sample size",
    "11": "missing data",
    "12a": "use of the data",
    "12b-c": "model type and building",
    "12d": "differences between sites",
    "12e": "performance measures",
    "12f": "model updating",
    "12g": "how predictions are calculated",
    "13": "class imbalance",
    "14": "fairness",
    "15": "model output",
    "16": "development against evaluation data",
    "17": "ethics",
    "18a-b": "funding, conflicts of interest",
    "18c-d": "protocol, registration",
    "18e-f": "data and code sharing",
    "19": "patient and public involvement",
    "20a": "flow of participants",
    "20b": "characteristics",
    "20c": "comparison with development data",
    "21": "patients and events",
    "22": "the whole model",
    "23a": "performance with intervals, subgroups",
    "23b": "performance by site",
    "24": "updated model",
    "25": "interpretation",
    "26": "limitations",
    "27a-c": "use in practice, poor input, next steps",
}


def _methods(c: Contents) -> dict[str, str]:
    survival = c.kind == "survival"
    outcome = "time to death from any cause, censored at last contact" if survival else f"label {c.task}"
    licence = " ".join(c.about.licence.split()) or "see the description of the cohort"
    inside = "Evaluated on a cohort the models were not trained on." if c.about.external else ""
    return {
        "4": f"Predict {outcome} from a slide (student) or slide and transcriptome (teacher); development and "
        f"{'external evaluation' if c.about.external else 'internal evaluation'}.",
        "5a": " ".join(f"Cohort {c.about.cohort}. {c.about.description}".split()),
        "6a-b": f"Every patient of the cohort with {_needed(c)} and a known outcome is tested once.",
        "7": "Slides are tiled at fixed microns per pixel and encoded; genes aligned by symbol, winsorised and scaled; "
        "all fitted on learning patients of a fold only.",
        "8a": f"{outcome[0].upper()}{outcome[1:]}.",
        "9a-b": "Tile features of the slide; for the teacher two groups of genes (tumor, microenvironment); clinical "
        "columns only where a model's name says so.",
        "10": f"All available patients: {summary(c)}",
        "11": "A missing transcriptome is a normal input (see the probes); a missing gene takes the learning patients' "
        "mean; patients without outcome are not tested. Nothing is imputed from test patients.",
        "12a": inside or "Outer folds with an inner validation part; the fold's test patients are only predicted.",
        "12b-c": "Discrete-time hazard or class probabilities from two subspace tokens; early stopping on the "
        "validation part. Settings are in params.yaml of the commit that the tracking store names."
        + (" What each part is worth: see the ablation." if c.about.ablation else ""),
        "12d": "Sites are compared in the subgroup table and by the site probe.",
        "12e": f"{_measures(c)}; each number with a patient bootstrap interval.",
        "12f": "Recalibrated predictions are shown apart." if c.about.external else "None.",
        "12g": "Code and weights are in the registry (dml predict).",
        "13": "No resampling." if survival else "Class weights from the learning patients; macro-averaged metrics.",
        "14": "Subgroups by age, sex, site and labels with floors and corrected p-values.",
        "15": "Risk and survival probabilities at fixed years." if survival else "Class probabilities.",
        "16": "Another cohort: see coverage." if c.about.external else "Same cohort; see limitations.",
        "18e-f": f"Code: Apache-2.0, this repository. Data: {licence}",
    }


def _needed(c: Contents) -> str:
    either = c.about.external or (c.about.flow is not None and c.about.flow.unpaired_tested)
    return "usable features" if either else "a usable slide, a transcriptome"


def _measures(c: Contents) -> str:
    known = {name for own in c.metrics.values() for name in own}
    main = [title(name) for name in MAIN[c.kind] if name in known]
    if c.kind == "survival":
        years = ", ".join(f"{year:g}" for year in c.details["years"])
        per_year = [f"AUC and observed/expected deaths at {years} years"] if years else []
        return ", ".join([*main, *per_year, "D-calibration, log-rank test, hazard ratios, decision curves"])
    return ", ".join([*main, "AUC, recall and observed/expected of each class, confusion table, decision curves"])


def _results(c: Contents) -> dict[str, str]:
    primary = PRIMARY[c.kind]
    numbers = "; ".join(f"{m} {shown(c.metrics[m].get(primary))}" for m in ("teacher", "student") if m in c.metrics)
    steps = () if c.about.flow is None else c.about.flow.steps()
    sites = [g["value"] for g in c.details["subgroups"]["groups"] if g["column"] == "site"]
    return {
        "20a": "; ".join(f"{count} {text}" for text, count in steps) or "See the number of test patients.",
        "20b": "Table under Who was evaluated.",
        "20c": "Coverage of genes and features."
        if c.about.external
        else "Tested patients beside the whole cohort, same table.",
        "21": summary(c),
        "22": "Weights, scaling, bins and gene order of every fold: models/<cohort>/<task>/<model>/fold-<k>.",
        "23a": f"{title(primary)}: {numbers}. All metrics and subgroups above.",
        "23b": f"{len(sites)} sites are large enough to be judged alone."
        if sites
        else "No site is large enough alone.",
        "24": "See the recalibrated rows." if c.about.external else "None.",
        "26": "Listed above.",
        "27a-c": "Research use only. Slides of another encoder or resolution, or without tissue, are refused with the "
        "reason. Next: evaluation on another cohort (dml external).",
    }
