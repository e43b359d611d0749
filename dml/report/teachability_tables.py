"""Tables and sentences of the section on what a slide can be taught; the command prints the same rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dml.models.registry import label as model_label
from dml.report.tables import Table
from dml.teachability.verdict import sentence

PROTOCOLS = {"patients": "patient folds", "sites": "unseen sites"}
ARMS = {
    "slide": "slide",
    "genes": "genes",
    "predicted": "gene risk predicted from the slide",
    "slide_predicted": "slide + predicted gene risk",
    "slide_residual": "slide + residual gene risk",
    "slide_genes": "slide + genes",
}
PARTS = {
    "gap": "gap: slide to slide + genes",
    "teachable": "teachable: predicted from the slide",
    "residual": "residual: the rest of the gap",
}
KINDS = ("risk", "gene set", "component", "gene")
MOST = 10
"""Rows of one kind of target in a table."""


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return for each protocol whether distillation can pay, or why it was left out."""
    return [
        f"{PROTOCOLS[protocol].capitalize()}: "
        + (f"left out, {part['left_out']}." if "left_out" in part else sentence(summary, protocol))
        for protocol, part in summary["protocols"].items()
    ]


def gap_table(summary: Mapping[str, Any]) -> Table:
    """Return arms, parts of the gap and the teachable share; one column a protocol and group of patients."""
    columns = dict(_groups(summary))
    rows = [(label, *(interval(g["arms"][arm], "value") for g in columns.values())) for arm, label in ARMS.items()]
    rows += [
        (label, *(interval(g[part], "difference", "+") for g in columns.values())) for part, label in PARTS.items()
    ]
    rows.append(("teachable share of the gap", *(interval(g["teachable_share"], "value") for g in columns.values())))
    return Table((summary["metric_label"], *columns), tuple(rows))


def _groups(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for protocol, part in summary["protocols"].items():
        for group, gaps in part.get("gaps", {}).items():
            if "left_out" not in gaps:
                name = PROTOCOLS[protocol] + ("" if group == "all" else f", {group.replace('_', ' ')}")
                yield f"{name}, n = {gaps['patients']}", gaps


def association_table(summary: Mapping[str, Any], most: int = MOST) -> Table:
    """Return the targets that are predicted best, and the median of all genes and gene sets, by protocol."""
    rows = []
    for protocol, part in summary["protocols"].items():
        for kind in KINDS:
            content = part.get("associations", {}).get(kind)
            if content is None:
                continue
            for target in content["targets"][:most]:
                name = f"{kind}: {target['name']}" if kind in ("gene", "gene set") else target["name"]
                rows.append((PROTOCOLS[protocol], name, *(interval(target[m], "value") for m in ("r", "r2", "nats"))))
            if kind in ("gene", "gene set"):
                share = 100 * content["share_above"]["value"]
                name = f"median of {content['number']} {kind}s ({share:.0f} % above r 0.3)"
                rows.append((PROTOCOLS[protocol], name, interval(content["median_r"], "value"), "", ""))
    return Table(("folds", "target", "r", "R2", "information (nats)"), tuple(rows))


def association_rows(associations: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return one row a target: its name, r, R2 and nats with intervals."""
    return [
        {"target": target["name"], **{name: interval(target[name], "value") for name in ("r", "r2", "nats")}}
        for target in associations
    ]


def share_table(shares: Sequence[Mapping[str, Any]]) -> Table:
    """Return one row a model and group of patients."""
    rows = [
        (
            model_label(row["model"]),
            PROTOCOLS[row["protocol"]] + ("" if row["group"] == "all" else f", {row['group'].replace('_', ' ')}"),
            interval(row["gain"], "difference", "+"),
            interval(row["teachable_share"], "value"),
            interval(row["whole_share"], "value"),
            interval(row["by_distillation"], "difference", "+") if "by_distillation" in row else "-",
            interval(row["distilled_share"], "value") if "distilled_share" in row else "-",
        )
        for row in shares
    ]
    head = ("model", "patients", "gain over the slide", "share of the teachable gap", "share of the whole gap")
    return Table((*head, "by distillation", "its share of the teachable gap"), tuple(rows))


def agreement_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return one row a model and score: correlation and information with the teacher's predictions."""
    cells = [
        (
            model_label(row["model"]) + (f", {row['score']}" if row["score"] else ""),
            str(row["patients"]),
            interval(row["r"], "value"),
            interval(row["nats"], "value"),
        )
        for row in rows
    ]
    return Table(("model", "patients", "r with the teacher", "information (nats)"), tuple(cells))


def interval(entry: Mapping[str, Any], key: str, sign: str = "") -> str:
    """Print a value with its interval; where a gap may be zero, its share has none."""
    if entry[key] is None:
        return "not defined"
    if entry["ci_low"] is None:
        return f"{entry[key]:{sign}.3f} (not bounded)"
    return f"{entry[key]:{sign}.3f} ({entry['ci_low']:{sign}.3f} to {entry['ci_high']:{sign}.3f})"
