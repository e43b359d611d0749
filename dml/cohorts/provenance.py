"""The sample ledger: which file, sample, slide, row and rule gave each value of a patient, and what was left out."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa

from dml.core.errors import InputError, listed, refuse_unreadable
from dml.core.files import read_parquet, write_parquet
from dml.readers.joins import Join, match_ids

Status = Literal["used", "left out", "contradiction"]


@dataclass(frozen=True, slots=True)
class Record:
    """Where one value of a patient comes from, or why something of his is not used.

    Attributes
    ----------
    patient_id : str
        '' where it is not known whose it is.
    item : str
        site, age, sex, survival, a label, expression or slide.
    status : str
        used, left out, or contradiction (used by the rule, but another cell speaks against it).
    value : str
        What is stored, in short.
    file, source : str
        File (as the description names it), and in it the column, sample or slide.
    row : int or None
        Row of the file, as a text editor counts.
    rule : str
        By which rule it was taken or left out.
    """

    patient_id: str
    item: str
    status: Status
    value: str = ""
    file: str = ""
    source: str = ""
    row: int | None = None
    rule: str = ""


_TYPES = {"row": pa.int64()}
SCHEMA = pa.schema([(each.name, _TYPES.get(each.name, pa.string())) for each in fields(Record)])


@dataclass(slots=True)
class Ledger:
    """Records and joins, gathered while the tables of a cohort are built; `ids` are the patients of each table."""

    records: list[Record] = field(default_factory=list)
    joins: list[Join] = field(default_factory=list)
    ids: dict[str, set[str]] = field(default_factory=dict)

    def add(self, records: Iterable[Record]) -> None:
        """Append records."""
        self.records.extend(records)

    def match(self, name: str, left: Iterable[str], right: Iterable[str]) -> Join:
        """Match two sets of ids and remember how they match."""
        join = match_ids(name, left, right)
        self.joins.append(join)
        return join

    def frame(self) -> pd.DataFrame:
        """Return the records as a table."""
        return pd.DataFrame([astuple(r) for r in self.records], columns=SCHEMA.names).astype({"row": "Int64"})

    def leave_out(self, item: str, patients: set[str], rule: str) -> None:
        """Turn what was used of some patients into left out."""
        self.records = [
            replace(r, status="left out", rule=rule) if r.item == item and r.patient_id in patients else r
            for r in self.records
        ]

    def left_out(self, item: str) -> dict[str, int]:
        """Count what was left out of one kind, by rule."""
        rules = [r.rule for r in self.records if r.item == item and r.status == "left out"]
        return {rule: rules.count(rule) for rule in sorted(set(rules))}


def write_provenance(path: Path, ledger: Ledger) -> None:
    """Write one row a record; how ids match goes to the metadata."""
    table = pa.Table.from_pandas(ledger.frame(), schema=SCHEMA, preserve_index=False).replace_schema_metadata(None)
    write_parquet(path, table, {"joins": [asdict(join) for join in ledger.joins]})


def read_provenance(path: Path) -> Ledger:
    """Read what `write_provenance` wrote."""
    table, metadata = read_parquet(path)
    with refuse_unreadable(path, "Delete it and run: dvc repro cohort"):
        joins = [
            Join(**{**join, "only_left": tuple(join["only_left"]), "only_right": tuple(join["only_right"])})
            for join in metadata.get("joins", [])
        ]
        return Ledger([Record(**row) for row in table.replace_schema_metadata(None).to_pylist()], joins)


def explain_patient(path: Path, patient_id: str) -> pd.DataFrame:
    """Return the records of one patient.

    Raises
    ------
    InputError
        If the ledger does not mention the patient; the message shows ids that it does.
    """
    ledger = read_provenance(path)
    records = [record for record in ledger.records if record.patient_id == patient_id]
    if not records:
        ids: Sequence[str] = sorted({record.patient_id for record in ledger.records} - {""})
        near = match_ids("", [patient_id], ids).hint
        raise InputError(path, f"no patient {patient_id!r}; there are {listed(ids)}", near or "Check the id")
    return Ledger(records).frame().drop(columns="patient_id")
