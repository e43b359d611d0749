"""The ablation of a task, as `dml ablate` wrote it, as a table and sentences for the report page."""

from collections.abc import Mapping, Sequence
from typing import Any

from dml.report.tables import Table, shown, signed, title

Ablation = Mapping[str, Any]
"""Content of ablation.json: ``rows``, ``seeds``, and ``members``, the models per fold that were averaged."""


def ablation_table(content: Ablation, subgroup: str = "") -> Table:
    """One row a model: the full one of each kind, then what differs from it, inside a subgroup ("" = everybody)."""
    rows = [row for row in content["rows"] if row["subgroup"] == subgroup]
    if not rows:
        return Table((), ())
    cells = tuple((row["variant"], shown(row), *_apart(row)) for row in rows)
    return Table(("model", title(rows[0]["metric"]), "minus the full model", "p", "p, Holm"), cells)


def subgroups_of(content: Ablation) -> list[str]:
    """Names of the subgroups that were judged besides everybody."""
    return list(dict.fromkeys(row["subgroup"] for row in content["rows"] if row["subgroup"]))


def ablation_sentences(content: Ablation) -> list[str]:
    """Say how it was trained, and which differences are more than chance."""
    seeds, members = content["seeds"], content.get("members")
    each = "" if members is None else f", {members} member{'s' if members > 1 else ''} a fold"
    found = [
        f"Trained anew on the same folds with one thing switched off or exchanged (seed{'s' if len(seeds) > 1 else ''} "
        f"{', '.join(map(str, seeds))}{each}), so the full models here are not the very ones of the tables above."
    ]
    compared = [row for row in content["rows"] if "p" in row and not row["subgroup"]]
    sure = [row for row in compared if row["difference_low"] > 0 or row["difference_high"] < 0]
    found += [
        f"{row['variant'].capitalize()}: the {row['kind']} changes by {signed(_entry(row))}, p = {row['p']:.3f}, "
        f"{row['p_holm']:.3f} after correction for the rows of the {row['kind']}."
        for row in sure
    ]
    if compared and not sure:
        found.append("No interval of a difference leaves zero: these patients do not show that any part matters.")
    return found


def _apart(row: Mapping[str, Any]) -> Sequence[str]:
    if "p" not in row:
        return "", "", ""
    return signed(_entry(row)), f"{row['p']:.3f}", f"{row['p_holm']:.3f}"


def _entry(row: Mapping[str, Any]) -> dict[str, float]:
    return {"difference": row["difference"], "ci_low": row["difference_low"], "ci_high": row["difference_high"]}
