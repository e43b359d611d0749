"""The tables of a report as rows of text, for Markdown and for the page."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dml.core.types import SUBSPACES, Kind
from dml.evaluation.metric_sets import MAIN
from dml.evaluation.metrics.registry import entries, find, metric_form, metric_label
from dml.evaluation.results import PAIR
from dml.models.registry import description
from dml.models.registry import label as model_label
from dml.report.number_format import format_difference, format_estimate, format_p
from dml.report.patient_flow import PatientFlow

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]
SITE_SOURCES = {"input": "mean tile features", "outcome": "outcome alone"}
SUBSPACE_TARGETS = {"genes": "{} genes, leading components", "planted": "planted {} factor"}


@dataclass(frozen=True, slots=True)
class Table:
    """A heading of columns and rows of text."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def subset(self, first: Collection[str]) -> "Table":
        """Return the rows that begin with some names."""
        return Table(self.columns, tuple(row for row in self.rows if row[0] in first))

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        return (
            "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"
        )


def main_table(metrics: Metrics, kind: Kind) -> Table:
    """One row a model, the main metrics with their intervals."""
    return _by_model(metrics, [name for name in MAIN[kind] if any(name in values for values in metrics.values())])


def further_table(metrics: Metrics, kind: Kind, subgroups: Iterable[str]) -> Table:
    """One row a model, the metrics per horizon or class except those of calibration, metric by metric."""
    nulls = {entry.null for entry in entries(kind)}
    chosen = {name: find(name, kind) for name in overall(metrics, subgroups)}
    names = [name for name, e in chosen.items() if e and not (e.main or e.calibration or e.name in nulls)]
    return _by_model(metrics, sorted(names, key=lambda name: name.partition("_")[0]))


def calibration_table(metrics: Metrics, kind: Kind, subgroups: Iterable[str]) -> Table:
    """One row a model: level and spread of its probabilities."""
    chosen = {name: find(name, kind) for name in overall(metrics, subgroups)}
    return _by_model(metrics, sorted(name for name, entry in chosen.items() if entry and entry.calibration))


def overall(metrics: Metrics, subgroups: Iterable[str]) -> list[str]:
    """Names of the metrics of all patients, without those of subgroups."""
    endings = tuple(f"_{subgroup}" for subgroup in subgroups)
    return [name for name in _names(metrics) if not (endings and name.endswith(endings))]


def subgroup_table(metrics: Metrics, primary: str, subgroups: Iterable[str]) -> Table:
    """One row a model, the leading metric overall and in each subgroup."""
    names = _names(metrics)
    scored = [subgroup for subgroup in subgroups if f"{primary}_{subgroup}" in names]
    table = _by_model(metrics, [primary, *(f"{primary}_{subgroup}" for subgroup in scored)])
    return Table(("model", "all", *(subgroup.replace("_", " ") for subgroup in scored)), table.rows)


def fold_table(metrics: Metrics, metric: str) -> Table:
    """One row a model, the metric inside each fold."""
    folds = {model: values[metric]["folds"] for model, values in metrics.items() if metric in values}
    rows = (
        (model_label(model), *(format_estimate({"value": value}) for value in values))
        for model, values in folds.items()
    )
    return Table(("model", *(f"fold {k}" for k in range(max(map(len, folds.values()), default=0)))), tuple(rows))


def comparison_table(compared: Mapping[str, Any], included: Callable[[str], bool] = lambda metric: True) -> Table:
    """One row a paired difference of the metrics that are included."""
    rows = (
        (model_label(model), model_label(reference), metric_label(metric), *_difference_cells(entry, metric))
        for model, references in compared.items()
        for reference, differences in references.items()
        for metric, entry in differences.items()
        if included(metric)
    )
    return Table(("model", "reference", "metric", "difference (interval)", "p", "p, Holm"), tuple(rows))


def models_table(models: Iterable[str]) -> Table:
    """One row a model: its label, its inputs, and its name in files."""
    return Table(("model", "inputs and method", "in files"), tuple((model_label(n), description(n), n) for n in models))


def patients_table(details: Mapping[str, Any]) -> Table:
    """Characteristics of the test patients and of all patients."""
    rows = ((row["characteristic"], row["tested"], row["all"]) for row in details["patients_tested"])
    return Table(("", "tested", "whole cohort"), tuple(rows))


def roles_table(flow: PatientFlow | None) -> Table:
    """Patients with a known outcome by fold and role."""
    roles = ("train", "validation", "test")
    folds = () if flow is None else flow.folds
    return Table(
        ("fold", *roles), tuple((str(k), *(str(fold[role]) for role in roles)) for k, fold in enumerate(folds))
    )


def left_out_table(flow: PatientFlow | None) -> Table:
    """Left-out patients, slides and samples of the raw tables, by rule."""
    rows = () if flow is None else flow.left_out
    return Table(
        ("left out", "by rule", "records", "patients"),
        tuple((each.item, each.rule, str(each.records), str(each.patients or "")) for each in rows),
    )


def hazard_table(fits: Mapping[str, Any]) -> Table:
    """Hazard ratios of the risk groups of some models, unadjusted and adjusted for clinical columns."""
    columns = ("model", "fit", "column", "hazard ratio (95% interval)", "p", "fitted on")
    return Table(columns, tuple(row for model, fit in fits.items() for row in _hazard_rows(model_label(model), fit)))


def _hazard_rows(model: str, fit: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    size = f"{fit['patients']} patients, {fit['deaths']} deaths"
    lines = [("unadjusted", fit["unadjusted"], size), *(("adjusted", row, "") for row in fit["adjusted"])]
    for kind, row, note in lines:
        ratio = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        yield model, kind, row["column"].replace("_", " "), ratio, format_p(row["p"]), note


def horizon_table(details: Mapping[str, Any]) -> Table:
    """Test patients by their status at each horizon."""
    rows = details.get("at_horizons", ())
    cells = ((f"{r['year']:g}", str(r["died"]), str(r["followed"]), str(r["left"])) for r in rows)
    return Table(("years", "died by then", "followed for longer", "censored before"), tuple(cells))


def d_calibration_table(details: Mapping[str, Any]) -> Table:
    """Patients by tenths of the survival predicted for the day of death."""
    models = {m: v["d_calibration"] for m, v in details.get("survival", {}).items() if "d_calibration" in v}
    rows = ((model_label(m), *(f"{n:.0f}" for n in v["counts"]), format_p(v["p"])) for m, v in models.items())
    return Table(("model", *(f"to {(k + 1) / 10:.1f}" for k in range(10)), "p"), tuple(rows))


def group_table(details: Mapping[str, Any], models: Sequence[str] = ()) -> Table:
    """Leading metric of some models (default all) in groups of patients, with the corrected p of the difference."""
    groups = details["subgroups"]["groups"]
    names = list(models) or list(dict.fromkeys(name for group in groups for name in group["models"]))
    others = "number" if details["kind"] == "regression" else "class"
    outcomes = "deaths" if details["kind"] == "survival" else f"outside the most frequent {others}"
    rows = (
        (
            f"{group['column']}: {group['value']}",
            str(group["patients"]),
            str(group["outcomes"]),
            *(cell for name in names for cell in _group_cells(group["models"].get(name))),
        )
        for group in groups
        if any(name in group["models"] for name in names)
    )
    columns = (column for name in names for column in (model_label(name), "p, others"))
    return Table(("group", "patients", outcomes, *columns), tuple(rows))


def _group_cells(entry: Mapping[str, Any] | None) -> tuple[str, str]:
    return format_estimate(entry), format_p(((entry or {}).get("rest") or {}).get("p_holm"))


def exchange_table(probes: Mapping[str, Any]) -> Table:
    """Leading metric with a patient's own modality and with that of another patient."""
    rows = (
        (
            model,
            modality,
            *(format_estimate(e[k]) for k in ("original", "exchanged")),
            format_difference(e["difference"]),
        )
        for model, modalities in probes["modality_exchange"].items()
        for modality, e in modalities.items()
    )
    metric = metric_label(probes["metric"])
    return Table(("model", "exchanged", f"{metric}, own", "of another patient", "difference"), tuple(rows))


def clinical_table(probes: Mapping[str, Any]) -> Table:
    """Leading metric of the student with clinical inputs hidden; no rows for a student without."""
    metric, probe = metric_label(probes["metric"]), probes.get("missing_clinical") or {"curve": (), "without": {}}
    shares = [(f"{point['share']:.0%} of all inputs", "", point) for point in probe["curve"]]
    single = [(name, f"{point['known']:.0%}", point) for name, point in probe["without"].items()]
    rows = ((name, known, format_estimate(p), format_difference(p["difference"])) for name, known, p in shares + single)
    return Table(("hidden", "known of", metric, "difference"), tuple(rows))


def site_table(probes: Mapping[str, Any]) -> Table:
    """How well the site is predicted, and from what."""
    site = probes["site"]
    rows = (
        (
            SITE_SOURCES.get(name, f"embedding of the {name}"),
            format_estimate(entry["auc"]),
            format_estimate(entry["balanced_accuracy"]),
        )
        for name, entry in site.get("sources", {}).items()
    )
    chance = site.get("chance", {}).get("balanced_accuracy")
    accuracy = "balanced accuracy" if chance is None else f"balanced accuracy, chance {chance:.2f}"
    return Table(("site predicted from", "AUC (site against the others), chance 0.5", accuracy), tuple(rows))


def subspace_table(probes: Mapping[str, Any]) -> Table:
    """Share of variance of each gene group (and planted factor) that each subspace explains."""
    rows = (
        (
            model,
            text.format({"tme": "TME"}.get(target, target)),
            *(format_estimate(entry[source], 2) for source in SUBSPACES),
            format_difference(entry["difference"]),
        )
        for model, results in probes["subspaces"].items()
        for kind, text in SUBSPACE_TARGETS.items()
        for target, entry in results.get(kind, {}).items()
    )
    columns = ("model", "variance explained of", "from tumor token", "from TME token", "difference, own to other")
    return Table(columns, tuple(rows))


def faithfulness_table(faithfulness: Mapping[str, Any]) -> Table:
    """How much more the first tiles of an order decide the output than those left."""
    rows = (
        (
            model,
            order,
            format_estimate(faithfulness[model][order]["faithfulness"]),
            format_difference(faithfulness[model]["differences"].get(order)),
        )
        for model in PAIR
        for order in ("contribution", "attention", "random")
    )
    return Table(("model", "order of tiles", "insertion less deletion", "contribution less this order"), tuple(rows))


def neighbours_table(neighbours: Mapping[str, Any]) -> Table:
    """Outcomes of similar learning patients beside the model, and the labels of the ten nearest."""
    rows = []
    for model in PAIR:
        content = neighbours.get(model, {})
        if "prediction" not in content:
            continue
        site = content["same_site"] or {}
        coverage = content.get("survival", {}).get("coverage", {}).get("share")
        cells = (format_estimate(content["prediction"]), format_difference(content["difference"]))
        hospital = (
            f"{format_estimate(site.get('share'))}, expected {format_estimate(site.get('chance'))}" if site else ""
        )
        rows.append((model, *cells, "" if coverage is None else f"{coverage:.0%}", hospital))
    columns = ("model", "neighbours alone", "less the model", "coverage of their interval", "of the same hospital")
    return Table(columns, tuple(rows))


def ablation_table(content: Mapping[str, Any], subgroup: str = "") -> Table:
    """One row a model: the full one of each kind, then its variants, inside a subgroup ("" = everybody)."""
    rows = [row for row in content["rows"] if row["subgroup"] == subgroup]
    if not rows:
        return Table()
    cells = ((row["variant"], format_estimate(row), *_difference_cells(ablation_difference(row))) for row in rows)
    return Table(("model", metric_label(rows[0]["metric"]), "difference to full model", "p", "p, Holm"), tuple(cells))


def ablation_difference(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a row's difference to the full model in the form of comparisons.json; None of the full model itself."""
    if "p" not in row:
        return None
    names = {"difference": "difference", "ci_low": "difference_low", "ci_high": "difference_high", "p": "p"}
    return {name: row[key] for name, key in {**names, "p_holm": "p_holm"}.items()}


def _difference_cells(entry: Mapping[str, Any] | None, metric: str = "") -> tuple[str, str, str]:
    if entry is None:
        return "", "", ""
    return format_difference(entry, metric_form(metric)), format_p(entry["p"]), format_p(entry["p_holm"])


def _by_model(metrics: Metrics, names: Sequence[str]) -> Table:
    rows = (
        (model_label(model), *(format_estimate(values.get(name), form=metric_form(name)) for name in names))
        for model, values in metrics.items()
    )
    return Table(("model", *(metric_label(name) for name in names)), tuple(rows))


def _names(metrics: Metrics) -> list[str]:
    return list(dict.fromkeys(name for values in metrics.values() for name in values))
