"""``dml similar``: the patients of a model's case bank that are most like a new one, and what became of them."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dml.cli.output import Json, bar, note, show
from dml.cli.predict import Model


def similar(
    model: Model,
    slides: Annotated[Path, typer.Option(help="A slide or feature file, a folder of them, or a CSV patient_id,path.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Number of cases.")] = 20,
    space: Annotated[str, typer.Option(help="Of the distance: tumor, tme, or both.")] = "both",
    expression: Annotated[Path | None, typer.Option(help="Table of transcriptomes, for a teacher.")] = None,
    cohort: Annotated[str | None, typer.Option(help="Cohort whose slide table names the patient of a slide.")] = None,
    site: Annotated[
        str | None, typer.Option(help="Site of the patients: cases of it are left out, as slides tell their site.")
    ] = None,
    same_site: Annotated[bool, typer.Option("--same-site", help="Allow cases of the same site.")] = False,
    mpp: Annotated[
        float | None, typer.Option(min=0.0, help="Microns per pixel of slides that do not say it, as JPEG and PNG.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write: .json, everything that is known.")] = None,
    as_json: Json = False,
) -> None:
    """Show the nearest cases of each patient, by the tokens of a registered model, with their outcomes."""
    from dml.core.errors import CheckFailed
    from dml.core.files import write_json
    from dml.inference.similar_cases import CaseQuery
    from dml.registry import predict as prediction

    table = Path("data") / cohort / "slides.parquet" if cohort else None
    query = CaseQuery(k, space, same_site)
    progress = partial(bar, label="comparing")
    rows = prediction.predict(model, slides, expression, table, progress, False, mpp, cases=query, site=site)
    results: list[dict[str, Any]] = []
    for row in rows.to_dict("records"):
        if row["status"] == "refused":
            note(f"refused {row['patient_id']}: {row['reason']}")
        else:
            results.append({"patient_id": row["patient_id"], **json.loads(row[prediction.SIMILAR])})
    if out is not None:
        write_json(out, {"model": model, "patients": results})
    if as_json:
        show(results, as_json)
    else:
        for result in results:
            show(_lines(result), False, f"{result['patient_id']}: nearest cases ({result['space']})")
            note(_summary(result))
    if not results:
        raise CheckFailed(f"{slides}: no patient could be compared")


def _lines(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One line a case."""
    return [
        {
            "case": case["patient_hash"][:8],
            "cohort": case["cohort"],
            "site": case["site"],
            "distance": f"{case['distance']:.2f}",
            "follow-up": _follow_up(case),
            "labels": ", ".join(f"{name} {value}" for name, value in case["labels"].items()),
        }
        for case in result["cases"]
    ]


def _follow_up(case: dict[str, Any]) -> str:
    if case["days"] is None:
        return ""
    return f"{'died' if case['event'] else 'alive'} after {case['days']:.0f} days"


def _summary(result: dict[str, Any]) -> str:
    """Say what became of the cases, and which were left out."""
    outcomes = result["outcomes"]
    known = {name: value for name, value in outcomes.items() if isinstance(value, dict)}
    horizons = [name for name in outcomes if name.startswith("survival_") and not name.endswith(("_low", "_high"))]
    parts = [f"{name} {each['share']:.2f} ({each['low']:.2f} to {each['high']:.2f})" for name, each in known.items()]
    for name in horizons:
        if outcomes[name] is not None:
            ends = f"{outcomes[f'{name}_low']:.2f} to {outcomes[f'{name}_high']:.2f}"
            parts.append(f"alive after {name.removeprefix('survival_')} days {outcomes[name]:.2f} ({ends})")
    if "mean" in outcomes:
        parts.append(f"mean {outcomes['mean']:.3g} ({outcomes['low']:.3g} to {outcomes['high']:.3g})")
    left_out = [f"{count} {why}" for why, count in result["excluded"].items() if count]
    text = f"outcome known of {outcomes['n']}: {'; '.join(parts)}" if parts else f"outcome known of {outcomes['n']}"
    return text + (f". Left out: {', '.join(left_out)}" if left_out else "")
