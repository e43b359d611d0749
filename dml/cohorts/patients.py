"""One row a patient: site, follow-up, age, sex and labels, gathered from the tables that a description names."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dml.cohorts.columns import Age, Cells, LabelSource, PatientTable, SurvivalColumns, canonical
from dml.cohorts.description import CohortDescription
from dml.cohorts.readers.tables import column, keys, numbers, read_table, rows
from dml.cohorts.slide_table import build_slides, write_slides
from dml.core.errors import InputError, listed
from dml.core.files import write_parquet

__all__ = ["build_patients", "build_slides", "write_patients", "write_slides"]

logger = logging.getLogger(__name__)

DAYS = {"days": 1.0, "months": 30.4375, "years": 365.25}
YEARS = {"years": 1.0, "months": 1 / 12, "days": 1 / 365.25, "minus_days": -1 / 365.25}
FIXED = ("patient_id", "site", "survival_days", "event", "survival_source", "age", "sex")
TYPES = {"survival_days": pa.float64(), "event": pa.bool_(), "age": pa.float64(), "sex": pa.float64()}


def build_patients(description: CohortDescription) -> pd.DataFrame:
    """Gather the patients of all tables.

    Returns
    -------
    DataFrame
        Sorted by patient_id: site (``unknown`` where no table says it), survival_days [days], event (True = death was
        seen), survival_source (name of the table), age [years], sex (1 female, 0 male), and one column per label;
        null where unknown. Survival is taken as a whole from the first table that has it, the rest field by field.

    Raises
    ------
    InputError
        If a file or column is missing, a cell is not what the description says, or rows of one patient disagree.
    """
    read = [(table, _Table(table, description.raw_folder / table.file)) for table in description.patients]
    ids = sorted(set().union(*(set(opened.ids) for _, opened in read)) - set(description.exclude))
    patients = pd.DataFrame(index=pd.Index(ids, name="patient_id"))
    patients["site"] = _first([t.site() for _, t in read], patients.index).fillna("unknown")
    patients = patients.join(_survival([(s.key, t.survival()) for s, t in read], patients.index))
    patients["age"] = _first([t.age() for _, t in read], patients.index).astype(np.float64)
    patients["sex"] = _first([t.sex() for _, t in read], patients.index).astype(np.float64)
    tables = {spec.key: opened for spec, opened in read}
    for name, label in description.labels.items():
        known = [tables[source.table].label(source, label.classes) for source in label.sources]
        _tell_conflicts(name, known)
        patients[name] = _first(known, patients.index)
    return patients.reset_index()


def write_patients(path: Path, patients: pd.DataFrame, classes: Mapping[str, Sequence[str]], cohort: str) -> None:
    """Write the table; the metadata hold the classes of each label in order, and the cohort's name."""
    schema = [(name, TYPES.get(name, pa.string())) for name in patients.columns]
    table = pa.Table.from_pandas(patients, schema=pa.schema(schema), preserve_index=False).replace_schema_metadata(None)
    write_parquet(path, table, {"classes": {k: list(v) for k, v in classes.items()}, "cohort": cohort})


class _Table:
    """One opened table; every method returns a Series by patient, without unknown entries."""

    def __init__(self, spec: PatientTable, path: Path) -> None:
        self.spec, self.path = spec, path
        self.frame = read_table(path)
        for name, wanted in spec.where.items():
            self.frame = self.frame[column(self.frame, path, name).map(canonical, na_action="ignore").isin(wanted)]
        if spec.where and self.frame.empty:
            raise InputError(path, f"no row is left by where: {dict(spec.where)}", "Correct patients.where")
        self.ids = keys(self.frame, path, spec.id)

    def site(self) -> pd.Series:
        if self.spec.site is None:
            return _nothing()
        if self.spec.site.pattern is None:
            return self._by_patient(column(self.frame, self.path, self.spec.site.column).str.strip())
        return self._by_patient(keys(self.frame, self.path, self.spec.site).rename(self.spec.site.column))

    def survival(self) -> pd.DataFrame:
        spec = self.spec.survival
        if spec is None:
            return pd.DataFrame({"survival_days": _nothing(), "event": _nothing()})
        return pd.DataFrame({"survival_days": self._by_patient(self._days(spec)), "event": self._event(spec)})

    def _days(self, spec: SurvivalColumns) -> pd.Series:
        times = [numbers(column(self.frame, self.path, name), self.path) for name in spec.time]
        days = times[0]
        for later in times[1:]:
            days = days.combine_first(later)
        return (days * DAYS[spec.unit]).rename(" or ".join(spec.time))

    def _event(self, spec: SurvivalColumns) -> pd.Series:
        coding: dict[str, Any] = {**dict.fromkeys(spec.dead, True), **dict.fromkeys(spec.alive, False)}
        return self._coded(spec.event, coding, spec.unknown, "survival.dead, .alive or .unknown")

    def age(self) -> pd.Series:
        spec: Age | None = self.spec.age
        if spec is None:
            return _nothing()
        return self._by_patient(numbers(column(self.frame, self.path, spec.column), self.path) * YEARS[spec.unit])

    def sex(self) -> pd.Series:
        spec = self.spec.sex
        if spec is None:
            return _nothing()
        coding: dict[str, Any] = {**dict.fromkeys(spec.female, 1.0), **dict.fromkeys(spec.male, 0.0)}
        return self._coded(spec.column, coding, spec.unknown, "sex.female, .male or .unknown")

    def label(self, source: LabelSource, classes: Sequence[str]) -> pd.Series:
        coding = dict(source.values) or {name: name for name in classes}
        return self._coded(source.column, coding, source.unknown, "the label's `values` or `unknown`")

    def _coded(self, name: str, coding: Mapping[str, Any], unknown: Cells, where: str) -> pd.Series:
        cells = column(self.frame, self.path, name).dropna().map(canonical)
        wrong = ~cells.isin([*coding, *unknown])
        if wrong.any():
            found = f"column {name!r} holds {listed(sorted(set(cells[wrong])))} in {rows(wrong)}"
            raise InputError(self.path, f"{found}, which the description does not explain", f"List it under {where}")
        return self._by_patient(cells[cells.isin(list(coding))].map(coding))

    def _by_patient(self, cells: pd.Series) -> pd.Series:
        known = cells.dropna()
        ids = self.ids[known.index]
        differ = known.groupby(ids).nunique() > 1
        if differ.any():
            who = list(differ.index[differ])
            where = rows(ids.isin(who))
            found = f"rows of the same patient disagree in {cells.name!r}: {listed(who)} ({where})"
            raise InputError(self.path, found, "Each patient has one value; correct the rows or the id column")
        return known.groupby(ids).first()


def _nothing() -> pd.Series:
    return pd.Series(dtype=object)


def _first(known: Sequence[pd.Series], index: pd.Index) -> pd.Series:
    """Field by field, the earliest source that knows a patient."""
    result = pd.Series(None, index=index, dtype=object)
    for series in known:
        result = result.where(result.notna(), series.reindex(index).astype(object))
    return result


def _survival(known: Sequence[tuple[str, pd.DataFrame]], index: pd.Index) -> pd.DataFrame:
    """As a whole from the first table that has time and event; a lone half only where no table has both."""
    result = pd.DataFrame(index=index, columns=["survival_days", "event", "survival_source"], dtype=object)
    wholeness: tuple[Callable[..., pd.Series], ...] = (pd.DataFrame.all, pd.DataFrame.any)
    for enough in wholeness:
        for name, frame in known:
            has = frame.reindex(index)
            new = result["survival_source"].isna() & enough(has.notna(), axis=1)
            result.loc[new, ["survival_days", "event"]] = has.loc[new]
            result.loc[new, "survival_source"] = name
    return result.astype({"survival_days": np.float64})


def _tell_conflicts(label: str, known: Sequence[pd.Series]) -> None:
    for i, earlier in enumerate(known):
        for later in known[i + 1 :]:
            both = earlier.index.intersection(later.index)
            differ = both[(earlier[both] != later[both]).to_numpy()]
            if len(differ):
                logger.warning(
                    "label %s: two sources disagree on %s; the earlier one counts", label, listed(list(differ))
                )
