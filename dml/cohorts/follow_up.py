"""Time and event of patients from one table: day of death for the dead, last follow-up for the others.

GDC's tables since 2025 hold follow-up apart from the clinical table, several rows a patient: the latest counts.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dml.core.errors import InputError, listed
from dml.readers.columns import SurvivalColumns
from dml.readers.table_files import column, numbers, rows

DAYS = {"days": 1.0, "weeks": 7.0, "months": 30.4375, "years": 365.25}
_UNIT_WORDS = {
    "days": (r"day", set()), "weeks": (r"week", {"wk", "wks"}),
    "months": (r"month", {"mo", "mos", "mths"}), "years": (r"year", {"yr", "yrs"}),
}  # fmt: skip
_ALIVE = re.compile(r"(?<![a-z])(?:is_?)?(?:alive|living|survived|survivor)", re.IGNORECASE)
_NOT_DEATH = re.compile(
    r"(?<![a-z])(?:[dpre]fs|dmfs|dfi|pfi|ttp|progress\w*|recur\w*|relaps\w*)(?![a-z])", re.IGNORECASE
)
"""Names of endpoints other than death."""
MAX_MEDIAN_YEARS, MAX_YEARS = 40.0, 90.0
"""Nobody's cohort is followed so long in the middle, and no patient so long after a diagnosis."""
_YES = {"1", "true", "yes", "y"}
_NO = {"0", "false", "no", "n"}
COLUMNS = ("days", "event", "row", "rule", "contradiction")


def read_follow_up(
    frame: pd.DataFrame, ids: pd.Series, event: pd.Series | None, path: Path, spec: SurvivalColumns
) -> pd.DataFrame:
    """Return one row a patient: days, event, the row of the table, the rule, and what contradicts it.

    Parameters
    ----------
    frame, ids : DataFrame, Series
        Rows of a table, and the patient of each.
    event : Series or None
        True, False or null of each row; None: the table has no such column, its times are of the last follow-up.
    path : Path
        The table, for messages.
    spec : SurvivalColumns
        Its description.

    Returns
    -------
    DataFrame
        Indexed by patient: days (NaN: not known), event (None: not known), row, rule, contradiction ('' if none). A
        patient who died without a day of death has neither days nor event.

    Raises
    ------
    InputError
        If rows of a patient disagree, a cell is no number, or names of columns contradict unit or event.
    """
    death, last = (_first_filled(frame, path, names) * DAYS[spec.unit] for names in (spec.time.dead, spec.time.alive))
    if not spec.confirmed:
        days = last.combine_first(death)
        _check_unit(spec, path, days)
        _check_range(spec, path, days.dropna())
        _check_event(spec, path)
    rows_ = pd.DataFrame({"id": ids, "death": death, "last": last, "row": frame.index}, index=frame.index)
    rows_["event"] = pd.Series(None, index=frame.index, dtype=object) if event is None else event
    one_column = spec.time.dead == spec.time.alive
    described = [_follow_up(part, one_column, spec, path) for _, part in rows_.groupby("id", sort=True)]
    return pd.DataFrame(described, columns=["id", *COLUMNS]).set_index("id")


def _first_filled(frame: pd.DataFrame, path: Path, names: tuple[str, ...]) -> pd.Series:
    times = [numbers(column(frame, path, name), path) for name in names]
    first = times[0]
    for other in times[1:]:
        first = first.combine_first(other)
    return first


def _follow_up(part: pd.DataFrame, one_column: bool, spec: SurvivalColumns, path: Path) -> tuple[object, ...]:
    """Return patient, days, event, row, rule and contradiction from the rows of one patient."""
    patient = part["id"].iloc[0]
    coded = part["event"].dropna()
    event = bool(coded.any()) if len(coded) else None
    times = "death" if event else "last"
    if not spec.longitudinal:
        _check_rows(part, "event", spec.event, path)
    filled = part[part["event"].isin([True])] if event else part
    filled = filled.dropna(subset=[times])
    if event or not spec.longitudinal:
        _check_rows(filled, times, " or ".join(spec.time.dead if event else spec.time.alive), path)
    if filled.empty:
        day = part["last"].max()
        row = int(part["row"].iloc[0])
        if event and not one_column:
            text = f"dead without a day of death{'' if pd.isna(day) else f' (last follow-up: day {day:g})'}"
            return patient, float("nan"), None, row, "not used", text
        return patient, float("nan"), event, row, "no time", ""
    latest = filled.loc[filled[times].idxmax()]
    rule = "time of the event" if one_column else ("day of death" if event else "last follow-up")
    if len(filled) > 1 and filled[times].nunique() > 1:
        rule = f"latest of {len(filled)} rows"
    contradiction = "" if one_column else _contradiction(part, event)
    return patient, float(latest[times]), event, int(latest["row"]), rule, contradiction


def _contradiction(part: pd.DataFrame, event: bool | None) -> str:
    death, last = part["death"].max(), part["last"].max()
    if event is False and pd.notna(death):
        return f"alive with a day of death ({death:g}): the last follow-up counts"
    if event and pd.notna(last) and last > death:
        return f"followed until day {last:g}, after the day of death ({death:g}), which counts"
    return ""


def _check_rows(part: pd.DataFrame, name: str, written: str, path: Path) -> None:
    """Refuse rows of one patient that disagree in a column."""
    if part[name].dropna().nunique() <= 1:
        return
    where = rows(pd.Series(True, index=part["row"]))
    problem = f"rows of the same patient disagree in {written!r}: {part['id'].iloc[0]} ({where})"
    remedy = "Each patient has one value; correct the rows or the id column"
    if name == "last":
        remedy += ", or take the latest follow-up: survival.rows: latest"
    raise InputError(path, problem, remedy)


def _check_unit(spec: SurvivalColumns, path: Path, days: pd.Series) -> None:
    """Refuse a unit that the name of a column contradicts; both readings are shown."""
    for name in dict.fromkeys((*spec.time.dead, *spec.time.alive)):
        units = list(_units_in(name))
        if len(units) == 1 and units[0] != spec.unit and days.notna().any():
            longest = float(days.max()) / DAYS[spec.unit]
            readings = [f"in {unit} {longest * DAYS[unit] / 365.25:.1f} years" for unit in (spec.unit, units[0])]
            problem = f"column {name!r} is declared in {spec.unit}; the longest follow-up is {' or '.join(readings)}"
            remedy = f"Set survival.unit: {units[0]}, or confirm {spec.unit} by survival.confirmed: true"
            raise InputError(path, problem, remedy)


def _check_range(spec: SurvivalColumns, path: Path, days: pd.Series) -> None:
    """Refuse times that are no follow-up: dates, ages, another unit; both readings are shown."""
    names = " or ".join(dict.fromkeys((*spec.time.dead, *spec.time.alive)))
    if days.empty:
        return
    given = days / DAYS[spec.unit]
    reading = ""
    if given.between(1900, 2100).all() and given.nunique() > 1:
        reading = "they look like calendar years"
    elif days.median() > MAX_MEDIAN_YEARS * DAYS["years"]:
        dates = spec.unit == "days" and given.between(20_000, 60_000).mean() > 0.9
        reading = "they look like dates of a spreadsheet or ages in days" if dates else "is it another unit"
    elif days.max() > MAX_YEARS * DAYS["years"]:
        reading = f"the longest ({given.max():g}) is no follow-up"
    if reading:
        years = f"{days.median() / DAYS['years']:.1f} years in the middle, {days.max() / DAYS['years']:.1f} at most"
        problem = f"{names}: read in {spec.unit} patients are followed for {years}; {reading}"
        raise InputError(path, problem, "Correct survival.time or unit, or confirm them by survival.confirmed: true")


def _units_in(name: str) -> Iterator[str]:
    words = set(re.split(r"[^a-z]+", name.casefold()))
    for unit, (part, short) in _UNIT_WORDS.items():
        if re.search(part, name, re.IGNORECASE) or words & short:
            yield unit


def _check_event(spec: SurvivalColumns, path: Path) -> None:
    """Refuse a coding of the event that the name of its column contradicts; both readings are shown."""
    names = (spec.event, *spec.time.dead, *spec.time.alive)
    if other := next((name for name in names if _NOT_DEATH.search(name)), None):
        problem = f"column {other!r} is, by its name, of another endpoint than death"
        raise InputError(path, problem, "Name the column of death, or confirm it by survival.confirmed: true")
    name, dead = spec.event.casefold(), {cell.casefold() for cell in spec.dead}
    alive = _ALIVE.search(name) is not None
    censored = "cens" in name
    died = not censored and not alive and re.search(r"event|dead|death|died|deceas", name) is not None
    if ((censored or alive) and dead and dead <= _YES) or (died and dead and dead <= _NO):
        what = "censored" if censored else "alive" if alive else "died"
        problem = f"column {spec.event!r} is read as: {listed(spec.dead)} died, {listed(spec.alive)} alive"
        other = f"by its name {listed(spec.dead if censored or alive else spec.alive)} means {what}"
        remedy = "Exchange survival.dead and survival.alive, or confirm them by survival.confirmed: true"
        raise InputError(path, f"{problem}; {other}", remedy)
