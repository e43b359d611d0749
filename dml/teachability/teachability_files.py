"""Files of a measured teachability, ``reports/<cohort>/<task>/teachability``, and their readers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dml.core.errors import InputError
from dml.core.files import read_json, read_parquet, write_json, write_parquet

SUMMARY, TARGETS, PREDICTIONS = "summary.json", "targets.parquet", "predictions.parquet"
_AGAIN = "Delete the folder and run: dvc repro teachability"


@dataclass(frozen=True, slots=True)
class Teachability:
    """What was measured for one cohort and task.

    Attributes
    ----------
    summary : mapping
        Content of summary.json: metric, and by protocol counts, gaps (overall and in subgroups) and associations.
    targets : DataFrame
        One row a protocol and target (gene, gene set, component, risk): r, r2 and nats with intervals.
    predictions : DataFrame
        One row a protocol, arm and test patient: outputs and what was observed.
    """

    summary: Mapping[str, Any]
    targets: pd.DataFrame
    predictions: pd.DataFrame


def write_teachability(folder: Path, result: Teachability) -> None:
    """Write summary.json, targets.parquet (one row a target) and predictions.parquet (arms for the test patients)."""
    write_json(folder / SUMMARY, dict(result.summary))
    for name, table in ((TARGETS, result.targets), (PREDICTIONS, result.predictions)):
        write_parquet(folder / name, pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None))


def write_left_out(folder: Path, cohort: str, task: str, reason: str) -> None:
    """Write why nothing was measured: a cohort without pairs, or with too few of them or of their events."""
    write_json(folder / SUMMARY, {"cohort": cohort, "task": task, "left_out": reason})


def read_teachability(folder: Path) -> Teachability | None:
    """Read what `write_teachability` wrote; None if nothing was, or of a cohort that was left out.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    if not (folder / SUMMARY).exists():
        return None
    summary = read_json(folder / SUMMARY)
    if not isinstance(summary, dict) or not {"left_out", "protocols"} & set(summary):
        raise InputError(folder / SUMMARY, "not a summary of teachability", _AGAIN)
    if "left_out" in summary:
        return None
    tables: list[pd.DataFrame] = [read_parquet(folder / name)[0].to_pandas() for name in (TARGETS, PREDICTIONS)]
    if absent := {"protocol", "arm", "patient_id", "fold"} - set(tables[1].columns):
        raise InputError(folder / PREDICTIONS, f"no column {', '.join(sorted(absent))}", _AGAIN)
    return Teachability(summary, *tables)
