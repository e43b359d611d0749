"""``dml similar``: the learning patients most like a new one, and what became of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dml.cli.output import Json, note, show

SHOWN = ("distance", "cohort", "site", "held_out")


def similar(
    model: Annotated[str, typer.Option(help="<name>@<alias>, or a folder models/<cohort>/<task>/<model>.")],
    slides: Annotated[Path, typer.Option(help="A slide or feature file, a folder of them, or a CSV patient_id,path.")],
    expression: Annotated[Path | None, typer.Option(help="Table of transcriptomes, for a teacher.")] = None,
    cohort: Annotated[str | None, typer.Option(help="Cohort whose slide table names the patient of a slide.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours in each space.")] = 20,
    site: Annotated[str | None, typer.Option(help="Hospital of the patients, as the model's cohort codes it.")] = None,
    same_site: Annotated[bool, typer.Option("--same-site", help="Allow patients of the same hospital.")] = False,
    space: Annotated[str, typer.Option(help="Shown: both, tumor or tme; JSON has all.")] = "both",
    mpp: Annotated[float | None, typer.Option(min=0.0, help="Microns per pixel of slides that do not say it.")] = None,
    as_json: Json = False,
) -> None:
    """Show similar learning patients, alike in the tumor, in its microenvironment, or in both, with their outcomes."""
    from dml.core.errors import ConfigError
    from dml.registry.similar import find_similar

    table = Path("data") / cohort / "slides.parquet" if cohort else None
    answers = find_similar(model, slides, expression, table, k, same_site, site, mpp)
    if as_json:
        show([{**answer.prediction, "similar": answer.similar} for answer in answers], as_json)
        return
    for prediction, content in answers:
        if content is None:
            note(f"refused {prediction['patient_id']}: {prediction['reason']}")
            continue
        if space not in content["spaces"]:
            raise ConfigError(f"--space: {space!r}; there are: {', '.join(content['spaces'])}")
        part = content["spaces"][space]
        show(
            [_row(neighbour) for neighbour in part["neighbours"]], False, f"{prediction['patient_id']}: like in {space}"
        )
        show(_outcomes(prediction, part["outcomes"]), False, f"outcomes of {part['outcomes']['n']} neighbours")
        note(_summary(content))


def _row(neighbour: Mapping[str, Any]) -> dict[str, Any]:
    follow_up = {"days": neighbour.get("days"), "died": neighbour.get("event")}
    hidden = {*SHOWN, "days", "event", "patient"}
    labels = {name: value for name, value in neighbour.items() if name not in hidden}
    return {**{name: neighbour[name] for name in SHOWN}, **follow_up, **labels}


def _outcomes(prediction: Mapping[str, Any], outcomes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Neighbours' outcomes beside the model's prediction."""
    if "horizons" in outcomes:
        return [_horizon(year, at, prediction) for year, at in outcomes["horizons"].items()]
    if "classes" in outcomes:
        names = {"ci_low": "low", "ci_high": "high"}
        return [
            {"class": name, "model": prediction.get(f"p_{name}"), "neighbours": share["share"]}
            | {text: share[key] for key, text in names.items()}
            for name, share in outcomes["classes"].items()
        ]
    return [{"model": prediction.get("value"), "neighbours": outcomes["mean"], **_ends(outcomes, "low", "high")}]


def _horizon(year: str, at: Mapping[str, Any] | None, prediction: Mapping[str, Any]) -> dict[str, Any]:
    from dml.core.tasks import survival_column

    none = dict.fromkeys(("survival", "ci_low", "ci_high", "at_risk"))
    known = none if at is None else at
    model = prediction.get(survival_column(float(year)))
    ends = {"low": known["ci_low"], "high": known["ci_high"], "at_risk": known["at_risk"]}
    return {"years": year, "model": model, "neighbours": known["survival"], **ends}


def _ends(outcomes: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: outcomes[name] for name in names}


def _summary(content: Mapping[str, Any]) -> str:
    out = content["excluded"]
    counts = f"{out['patient']} as the patient, {out['near_duplicates']} as near duplicates, {out['same_site']} as of"
    hospital = "the same hospital" if content["site"] else "the same hospital (unknown: give --site)"
    return f"of {content['cases']} learning patients left out: {counts} {hospital}"
