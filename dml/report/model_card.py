"""MODEL_CARD.md of teacher and student: who may use a model for what, how good it is for whom, and what it relies on.

Headings follow Mitchell et al., Model Cards for Model Reporting, FAT* 2019; everything is filled from the evaluation.
"""

from pathlib import Path

from dml.core.files import atomic
from dml.evaluation.metric_sets import PRIMARY
from dml.report import clinical_tables, probe_tables
from dml.report.conclusions import summary, verdict
from dml.report.contents import OURS, Contents
from dml.report.findings import findings
from dml.report.names import described, named
from dml.report.tables import Table, shown, title


def write_cards(contents: Contents, folder: Path) -> None:
    """Write ``<folder>/<model>.md`` of teacher and student, as far as they were evaluated."""
    folder.mkdir(parents=True, exist_ok=True)
    for model in (name for name in OURS if name in contents.metrics):
        with atomic(folder / f"{model}.md") as temporary:
            temporary.write_text(model_card(contents, model), encoding="utf-8")


def model_card(c: Contents, model: str) -> str:
    """Return the card of one model in Markdown."""
    parts = [
        f"# {c.about.cohort} · {c.task} · {model}\n",
        f"{described(model)}. {_aim(c)}\n",
        "## Intended use\n",
        "Research on how much of a transcriptome's prognosis or diagnosis a slide tells. Not a medical device: no "
        "decision about a patient may rest on it. Made for slides stained and scanned like those of the cohort; other "
        "encoders and resolutions are refused, other organs or stains are out of scope but not noticed.\n",
        "## Trained and evaluated on\n",
        f"{_cohort(c)}\n",
        clinical_tables.patients_table(c.details).markdown(),
        "## Metrics\n",
        f"{summary(c)}\n",
        _metrics(c, model).markdown(),
        *(f"{line}\n" for line in [*verdict(c, PRIMARY[c.kind]), *findings(c)] if line.startswith(_subjects(model))),
        "## Subgroups\n",
        *_subgroups(c, model),
        "## What it relies on\n",
        *_probes(c, model),
        "## Limitations\n",
        *(f"- {line}" for line in c.limitations),
    ]
    return "\n".join(parts) + "\n"


def _subjects(model: str) -> tuple[str, ...]:
    """How a sentence about a model begins."""
    return f"The {model}: ", f"The {model} predicts", f"The {model} is", f"The {named(model + '-clinical')}: "


def _aim(c: Contents) -> str:
    if c.kind == "survival":
        return "Predicts the risk of death and survival at fixed years; discrete-time hazards."
    return f"Predicts {c.task}: {', '.join(c.details['classes'])}."


def _cohort(c: Contents) -> str:
    text = f"Cohort {c.about.cohort}. {c.about.description}".strip()
    if c.about.flow is not None:
        text += " " + "; ".join(f"{count} {step}" for step, count in c.about.flow.steps()) + "."
    return " ".join([text, *([f"Licence: {c.about.licence}"] if c.about.licence else [])])


def _metrics(c: Contents, model: str) -> Table:
    inside = tuple(f"_{name}" for name in c.subgroups)
    own = {name: entry for name, entry in c.metrics[model].items() if not (inside and name.endswith(inside))}
    return Table(("metric", "value (interval)"), tuple((title(name), shown(entry)) for name, entry in own.items()))


def _subgroups(c: Contents, model: str) -> list[str]:
    groups = [group for group in c.details["subgroups"]["groups"] if model in group["models"]]
    if not groups:
        return ["No group of test patients is large enough to be judged alone.\n"]
    rows = tuple(
        (f"{g['column']}: {g['value']}", str(g["patients"]), str(g["outcomes"]), shown(g["models"][model]))
        for g in groups
    )
    table = Table(("group", "patients", "events", title(PRIMARY[c.kind])), rows).markdown()
    return [table, clinical_tables.small_groups(c.details), ""]


def _probes(c: Contents, model: str) -> list[str]:
    if c.about.probes is None:
        return ["Not probed.\n"]
    sentences = probe_tables.probe_sentences(c.about.probes)
    other = next(name for name in OURS if name != model)
    return [*(f"- {line}" for line in sentences if not line.startswith(f"The {other}")), ""]
