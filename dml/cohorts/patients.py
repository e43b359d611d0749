"""One row a patient: site, follow-up, age, sex and labels, gathered from the tables that a description names."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dml.cohorts.description import CohortDescription
from dml.cohorts.follow_up import COLUMNS, read_follow_up
from dml.cohorts.provenance import Ledger, Record
from dml.core.errors import InputError, listed
from dml.core.files import write_parquet
from dml.readers.columns import Cells, Label, LabelSource, PatientTable, canonical
from dml.readers.table_files import column, identifiers, keys, numbers, read_table, rows

logger = logging.getLogger(__name__)

YEARS = {"years": 1.0, "months": 1 / 12, "days": 1 / 365.25, "minus_days": -1 / 365.25}
TYPES = {"survival_days": pa.float64(), "event": pa.bool_(), "age": pa.float64(), "sex": pa.float64()}


def build_patients(
    description: CohortDescription, ledger: Ledger | None = None, others: Iterable[str] = ()
) -> pd.DataFrame:
    """Gather the patients of all tables, and `others` of whom only the id is known; the ledger gets all sources.

    Returns
    -------
    DataFrame
        Sorted by patient_id: site (``unknown`` where no table has it), survival_days [days], event (True: died),
        survival_source (name of the table), age [years], sex (1 female, 0 male), and one column per label (text, or
        float64 of a number); null where unknown. Survival is taken as a whole from the first table that has it, the
        rest field by field.

    Raises
    ------
    InputError
        If a file or column is missing, a cell is not what the description says, or rows of one patient disagree.
    """
    ledger = Ledger() if ledger is None else ledger
    tables = {spec.key: _Table(spec, description.raw_folder / spec.file) for spec in description.patients}
    everybody: set[str] = set(others).union(*(set(table.ids) for table in tables.values()))
    ids = sorted(everybody - set(description.exclude))
    ledger.ids |= {name: set(table.ids) - set(description.exclude) for name, table in tables.items()}
    excluded = [(each, why) for each, why in description.exclude.items() if each in everybody]
    ledger.add(Record(patient, "patient", "left out", rule=f"exclude: {why}") for patient, why in excluded)
    patients = pd.DataFrame(index=pd.Index(ids, name="patient_id"))
    patients["site"] = _combine("site", [t.site() for t in tables.values()], patients.index, ledger).fillna("unknown")
    patients = patients.join(_combine_survival(tables, patients.index, ledger))
    for name in ("age", "sex"):
        fields = [getattr(table, name)() for table in tables.values()]
        patients[name] = _combine(name, fields, patients.index, ledger).astype(np.float64)
    for name, label in description.labels.items():
        fields = [tables[source.table].label(source, label) for source in label.sources]
        _warn_of_conflicts(name, fields)
        combined = _combine(name, fields, patients.index, ledger)
        patients[name] = combined.astype(np.float64) if label.kind == "number" else combined
    return patients.reset_index()


def write_patients(path: Path, patients: pd.DataFrame, classes: Mapping[str, Sequence[str]], cohort: str) -> None:
    """Write the table; the metadata hold the classes of each label in order (none: a number), and the cohort's name."""
    numeric = {name: pa.float64() for name, names in classes.items() if not len(names)}
    schema = [(name, TYPES.get(name) or numeric.get(name, pa.string())) for name in patients.columns]
    table = pa.Table.from_pandas(patients, schema=pa.schema(schema), preserve_index=False).replace_schema_metadata(None)
    write_parquet(path, table, {"classes": {k: list(v) for k, v in classes.items()}, "cohort": cohort})


@dataclass(frozen=True, slots=True)
class _Field:
    """The values of one column by patient, without unknown ones, and the row that each is from."""

    values: pd.Series
    rows: pd.Series
    file: str = ""
    column: str = ""


class _Table:
    """One opened table; every method returns the values of a field by patient."""

    def __init__(self, spec: PatientTable, path: Path) -> None:
        self.spec, self.path = spec, path
        self.frame = read_table(path)
        for name, wanted in spec.where.items():
            cells = column(self.frame, path, name, keep=wanted)
            self.frame = self.frame[cells.map(canonical, na_action="ignore").isin(wanted)]
        if spec.where and self.frame.empty:
            raise InputError(path, f"no row is left by where: {dict(spec.where)}", "Correct patients.where")
        self.ids = identifiers(self.frame, path, spec.id)

    def site(self) -> _Field:
        if self.spec.site is None:
            return _nothing()
        name = self.spec.site.column
        if self.spec.site.pattern is None:
            return self._by_patient(column(self.frame, self.path, name).str.strip(), name)
        return self._by_patient(keys(self.frame, self.path, self.spec.site), name)

    def follow_up(self) -> pd.DataFrame:
        """Return days, event, row, rule and contradiction by patient."""
        spec = self.spec.survival
        if spec is None:
            return pd.DataFrame(columns=list(COLUMNS))
        event = None
        if spec.event:
            coding: dict[str, Any] = {**dict.fromkeys(spec.dead, True), **dict.fromkeys(spec.alive, False)}
            event = self._code(spec.event, coding, spec.unknown, "survival.dead, .alive or .unknown")
        return read_follow_up(self.frame, self.ids, event, self.path, spec)

    def age(self) -> _Field:
        spec = self.spec.age
        if spec is None:
            return _nothing()
        years = numbers(column(self.frame, self.path, spec.column), self.path) * YEARS[spec.unit]
        return self._by_patient(years, spec.column)

    def sex(self) -> _Field:
        spec = self.spec.sex
        if spec is None:
            return _nothing()
        coding: dict[str, Any] = {**dict.fromkeys(spec.female, 1.0), **dict.fromkeys(spec.male, 0.0)}
        cells = self._code(spec.column, coding, spec.unknown, "sex.female, .male or .unknown")
        return self._by_patient(cells, spec.column)

    def label(self, source: LabelSource, label: Label) -> _Field:
        if label.kind == "number":
            return self._number(source, label)
        coding = dict(source.values) or {name: name for name in label.classes}
        cells = self._code(source.column, coding, source.unknown, "the label's `values` or `unknown`")
        return self._by_patient(cells, source.column)

    def _number(self, source: LabelSource, label: Label) -> _Field:
        cells = column(self.frame, self.path, source.column, keep=source.unknown)
        text = cells.where(~cells.map(canonical, na_action="ignore").isin(source.unknown))
        values = numbers(text, self.path)
        low, high = label.range or (-np.inf, np.inf)
        wrong = values.notna() & ~values.between(low, high)
        if wrong.any():
            problem = f"column {source.column!r} holds {listed(sorted(set(values[wrong])))} in {rows(wrong)}"
            remedy = f"The label's range is {low:g} to {high:g}: correct the cells, the unit or `range`"
            raise InputError(self.path, problem, remedy)
        return self._by_patient(values, source.column)

    def _code(self, name: str, coding: Mapping[str, Any], unknown: Cells, where: str) -> pd.Series:
        """Return what the cells of a column mean, null where unknown; a listed word means itself, even "None"."""
        cells = column(self.frame, self.path, name, keep=[*coding, *unknown]).dropna().map(canonical)
        wrong = ~cells.isin([*coding, *unknown])
        if wrong.any():
            problem = f"column {name!r} holds {listed(sorted(set(cells[wrong])))} in {rows(wrong)}"
            raise InputError(self.path, f"{problem}, which the description does not explain", f"List it under {where}")
        return cells[cells.isin(list(coding))].map(coding).reindex(self.frame.index)

    def _by_patient(self, cells: pd.Series, name: str) -> _Field:
        filled = cells.dropna()
        ids = self.ids[filled.index]
        differ = filled.groupby(ids).nunique() > 1
        if differ.any():
            patients = list(differ.index[differ])
            problem = f"rows of the same patient disagree in {name!r}: {listed(patients)} ({rows(ids.isin(patients))})"
            raise InputError(self.path, problem, "Each patient has one value; correct the rows or the id column")
        first_rows = pd.Series(filled.index, index=filled.index).groupby(ids).first()
        return _Field(filled.groupby(ids).first(), first_rows, self.spec.file, name)


def _nothing() -> _Field:
    return _Field(pd.Series(dtype=object), pd.Series(dtype=object))


def _combine(item: str, fields: Sequence[_Field], index: pd.Index, ledger: Ledger) -> pd.Series:
    """Field by field, the earliest source that has a patient."""
    result = pd.Series(None, index=index, dtype=object)
    for i, field in enumerate(fields):
        new = result.index[result.isna() & result.index.isin(field.values.index)]
        result.loc[new] = field.values.loc[new].astype(object)
        rule = "only source" if len(fields) == 1 else f"source {i + 1} of {len(fields)}: the first that has the patient"
        for patient in new:
            value, row = str(field.values[patient]), int(field.rows[patient])
            ledger.add([Record(patient, item, "used", value, field.file, field.column, row, rule)])
    return result


def _combine_survival(tables: Mapping[str, _Table], index: pd.Index, ledger: Ledger) -> pd.DataFrame:
    """As a whole from the first table that has time and event; an alive patient's time may come from one without event.

    A lone half counts only where no table has both.
    """
    parts = {name: table.follow_up().reindex(index) for name, table in tables.items()}
    result = pd.DataFrame(index=index, columns=["survival_days", "event", "survival_source"], dtype=object)
    alive = pd.Series(False, index=index)
    for part in parts.values():
        alive |= part["event"].isin([False])
    enough: tuple[Callable[[str, pd.DataFrame], pd.Series], ...] = (
        lambda name, part: part["days"].notna() & part["event"].notna(),
        lambda name, part: part["days"].notna() & alive & _has_no_event(tables[name]),
        lambda name, part: part["days"].notna() | part["event"].notna(),
    )
    for k, has in enumerate(enough):
        for name, part in parts.items():
            new = result["survival_source"].isna() & has(name, part)
            result.loc[new, "survival_days"] = part.loc[new, "days"].astype(object)
            result.loc[new, "event"] = False if k == 1 else part.loc[new, "event"]
            result.loc[new, "survival_source"] = name
    for name, part in parts.items():
        used = set(result.index[result["survival_source"] == name])
        ledger.add(_survival_records(tables[name], part, used))
    return result.astype({"survival_days": np.float64})


def _has_no_event(table: _Table) -> bool:
    return table.spec.survival is not None and not table.spec.survival.event


def _survival_records(table: _Table, part: pd.DataFrame, used: set[str]) -> list[Record]:
    spec = table.spec.survival
    columns = () if spec is None else dict.fromkeys((*spec.time.dead, *spec.time.alive, spec.event))
    source, records = ", ".join(filter(None, columns)), []
    for patient, row in part[part["rule"].notna()].iterrows():
        event = {True: "dead", False: "alive"}.get(row["event"], "event unknown")
        value = f"{event}, day {row['days']:g}" if pd.notna(row["days"]) else event
        location = table.spec.file, source, int(row["row"])
        if patient in used:
            records.append(Record(str(patient), "survival", "used", value, *location, row["rule"]))
        if row["contradiction"]:
            records.append(Record(str(patient), "survival", "contradiction", value, *location, row["contradiction"]))
    return records


def _warn_of_conflicts(label: str, fields: Sequence[_Field]) -> None:
    for i, earlier in enumerate(fields):
        for later in fields[i + 1 :]:
            both = earlier.values.index.intersection(later.values.index)
            differ = both[(earlier.values[both] != later.values[both]).to_numpy()]
            if len(differ):
                logger.warning(
                    "label %s: two sources disagree on %s; the earlier one counts", label, listed(list(differ))
                )
