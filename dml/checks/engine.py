"""The engine of the checks: tables with expectations on their columns, validated by Great Expectations, as one page.

Great Expectations skips nulls in column expectations (one that needs values says `not_null`, too), draws random ids and
stamps times; what is reported here is free of both, so that equal inputs give equal bytes.
"""

import logging
import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pandas as pd

from dml.config.params import Severity
from dml.core.errors import CheckFailed, ConfigError
from dml.core.files import atomic, write_json

NO_OVERRIDES: Mapping[str, Severity] = MappingProxyType({})
TABLES = (
    *("patients", "sizes", "follow_up", "joins", "samples", "slides", "expression", "genes", "gene_groups", "sites"),
    *("bags", "embedding", "feature_sites", "spot_slides", "sections"),
)
"""Tables of the cohort's and of the features' check, as ``checks.severity`` names them."""
MAX_ROWS_REPORTED = 20
"""Failing rows that the report lists; it counts all of them."""
MAX_ROWS_IN_SUMMARY = 8
MAX_ROWS_IN_MESSAGE = 5
YES: Mapping[str, Any] = MappingProxyType({"value_set": ["yes"]})
"""Arguments of `in_set` for columns of yes and no."""

_EXPECTATIONS = {
    "not_null": "ExpectColumnValuesToNotBeNull",
    "unique": "ExpectColumnValuesToBeUnique",
    "between": "ExpectColumnValuesToBeBetween",
    "in_set": "ExpectColumnValuesToBeInSet",
}
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:1rem;color:#222}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0}"
    "td,th{border:1px solid #d5d5d5;padding:.3rem .6rem;text-align:left;vertical-align:top}"
    ".ok{color:#1a7f37}.error{color:#c62828}.warning{color:#b26a00}"
    "@media (prefers-color-scheme:dark){body{background:#161616;color:#ddd}td,th{border-color:#444}}"
)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a column of a table must be: one of not_null, unique, between (minimum, maximum), in_set (values).

    ``checks.severity`` of params.yaml calls an expectation ``<table>.<name>``; the name is the column's if none is
    given.
    """

    column: str
    kind: Literal["not_null", "unique", "between", "in_set"]
    description: str
    remedy: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["error", "warning"] = "error"
    name: str = ""

    @property
    def key(self) -> str:
        """Its name in params.yaml, behind the table's name."""
        return self.name or self.column


@dataclass(frozen=True, slots=True)
class CheckTable:
    """Rows to validate; `keys` are the columns that name a row in a message, `file` is where it comes from."""

    name: str
    file: str
    frame: pd.DataFrame
    keys: tuple[str, ...]
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Whether one expectation holds, and the rows in which it does not."""

    name: str
    table: str
    file: str
    check: str
    severity: str
    success: bool
    failing: int
    rows: list[dict[str, Any]]
    remedy: str

    def format_line(self) -> str:
        """Return one line of a message."""
        rows = "; ".join(self._format_rows(MAX_ROWS_IN_MESSAGE))
        return f"{self.severity:8} {self.file}: {self.check}: failed for {rows}. {self.remedy}"

    def format_paragraph(self) -> list[str]:
        """Return lines of a page: the expectation, the rows that break it, the remedy."""
        head = f"{self.severity:9}{self.file}: {self.check} [{self.table}.{self.name}]"
        inner = [*self._format_rows(MAX_ROWS_IN_SUMMARY), f"-> {self.remedy}"]
        wrapped = [textwrap.wrap(each, 100, subsequent_indent="  ") for each in inner]
        return [f"  {head}", *(f"             {line}" for lines in wrapped for line in lines)]

    def format_html(self) -> str:
        """Return one row of the HTML page."""
        mark = '<td class="ok">&#10003;</td>' if self.success else f'<td class="{self.severity}">&#10007;</td>'
        rows = "<br>".join(map(escape, self._format_rows(MAX_ROWS_REPORTED)))
        failed = "" if self.success else f"<br><b>{self.failing} failed</b><br>{rows}<br>&rarr; {escape(self.remedy)}"
        return f"<tr>{mark}<td>{escape(f'{self.table}.{self.name}')}</td><td>{escape(self.check)}{failed}</td></tr>"

    def _format_rows(self, most: int) -> list[str]:
        """Name the first failing rows; a bare "no" goes without saying."""
        rows = [", ".join(f"{k} {v}" for k, v in row.items() if v != "no") for row in self.rows[:most]]
        return [*rows, f"and {self.failing - most} more"] if self.failing > most else rows


def override_severity(tables: Sequence[CheckTable], severity: Mapping[str, Severity]) -> list[CheckTable]:
    """Give expectations the severity that params.yaml sets; those to ignore are left out.

    Raises
    ------
    ConfigError
        If there is no such table, or one that is here has no such expectation; the message lists what there is.
    """
    for key in severity:
        if key.split(".")[0] not in TABLES:
            raise ConfigError(f"checks.severity: no table of checks for {key!r}; there are {', '.join(TABLES)}")
        keys = {f"{t.name}.{each.key}": None for t in tables for each in t.expectations if t.name == key.split(".")[0]}
        if keys and key not in keys:
            raise ConfigError(f"checks.severity: no check {key!r}; there are {', '.join(keys)}")

    def override(table: CheckTable) -> CheckTable:
        pairs = [(each, severity.get(f"{table.name}.{each.key}", each.severity)) for each in table.expectations]
        return replace(table, expectations=tuple(replace(e, severity=new) for e, new in pairs if new != "ignore"))

    return [table for table in map(override, tables) if table.expectations]


def validate(
    name: str, tables: Sequence[CheckTable], counts: dict[str, Any], out: Path,
    severity: Mapping[str, Severity] = NO_OVERRIDES,
) -> None:  # fmt: skip
    """Validate all tables and write the report, whatever the result.

    Parameters
    ----------
    name : str
        cohort, spots or features.
    tables : sequence of CheckTable
        What is validated.
    counts : dict
        Numbers for the head of the report.
    out : Path
        Folder for ``<name>.json``, ``<name>/summary.txt`` and ``<name>/docs/index.html``.
    severity : mapping of str to error, warning or ignore
        Of single expectations, from ``checks.severity`` of params.yaml.

    Raises
    ------
    CheckFailed
        If an expectation of severity `error` does not hold; lists file, rows and remedy of each.
    ConfigError
        If `severity` names an expectation that does not exist.
    """
    results = _run(name, override_severity(tables, severity))
    failed = [r for r in results if not r.success and r.severity == "error"]
    report = {"checks": [asdict(r) for r in results], "counts": counts, "stage": name, "success": not failed}
    write_json(out / f"{name}.json", report)
    for path, text in (("summary.txt", format_summary), ("docs/index.html", format_page)):
        with atomic(out / name / path) as temporary:
            temporary.write_text(text(name, results, counts))
    for result in results:
        if not result.success and result.severity == "warning":
            logging.getLogger(__name__).warning(result.format_line())
    if failed:
        lines = "\n".join(f"  {r.format_line().removeprefix('error').strip()}" for r in failed)
        raise CheckFailed(f"{len(failed)} of {len(results)} checks failed ({out / name / 'summary.txt'}):\n{lines}")


def format_summary(name: str, results: Sequence[ValidationResult], counts: dict[str, Any]) -> str:
    """Return one page of text: the outcome, the numbers, what is wrong in full, what is right in brief."""
    wrong = sorted((r for r in results if not r.success), key=lambda r: r.severity)
    width = max(map(len, counts), default=0) + 2
    lines = [_headline(name, results), "", *(f"  {key:{width}}{_format_value(v)}" for key, v in counts.items())]
    if wrong:
        lines += ["", "What is wrong", *(line for result in wrong for line in result.format_paragraph())]
    lines += ["", "What holds"]
    for table in dict.fromkeys(r.table for r in results):
        good = "; ".join(r.check for r in results if r.success and r.table == table)
        lines += textwrap.wrap(f"{table}: {good}", 110, initial_indent="  ", subsequent_indent="    ") if good else []
    if wrong:
        lines += ["", "checks.severity in params.yaml makes a check [in brackets] an error, a warning, or ignores it."]
    return "\n".join(lines) + "\n"


def format_page(name: str, results: Sequence[ValidationResult], counts: dict[str, Any]) -> str:
    """Return the same as one HTML file that needs nothing else."""
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Checks: {escape(name)}</title>'
    numbers = "".join(f"<tr><td>{escape(k)}</td><td>{escape(_format_value(v))}</td></tr>" for k, v in counts.items())
    rows = "".join(r.format_html() for r in sorted(results, key=lambda r: (r.success, r.severity)))
    tables = f"<table>{numbers}</table><table>{rows}</table>"
    return (
        f"{head}<style>{_STYLE}</style></head><body><h1>{escape(_headline(name, results))}</h1>{tables}</body></html>\n"
    )


def yes_no(mask: pd.Series) -> pd.Series:
    """Turn truth into the words yes and no, which a report can show."""
    return mask.astype(bool).map({True: "yes", False: "no"}).astype(object)


def _headline(name: str, results: Sequence[ValidationResult]) -> str:
    wrong = [r for r in results if not r.success]
    outcome = "FAILED" if any(r.severity == "error" for r in wrong) else "passed"
    return f"{name} checks {outcome}: {len(results) - len(wrong)} of {len(results)} checks hold"


def _format_value(value: Any) -> str:
    return ", ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _run(name: str, tables: Sequence[CheckTable]) -> list[ValidationResult]:
    gx = _import_quietly()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    source = context.data_sources.add_pandas(name)
    results = []
    for table in tables:
        suite = gx.ExpectationSuite(table.name, [_to_great_expectations(each) for each in table.expectations])
        batch = source.add_dataframe_asset(table.name).add_batch_definition_whole_dataframe("all")
        rows = {"result_format": "COMPLETE", "unexpected_index_column_names": list(table.keys)}
        definition = gx.ValidationDefinition(name=table.name, data=batch, suite=context.suites.add(suite))
        outcome = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": table.frame}, result_format=rows
        )
        by_text = {r.expectation_config.meta["description"]: r for r in outcome.results}
        results += [_result(table, each, by_text[each.description]) for each in table.expectations]
    return results


def _import_quietly() -> Any:
    """Import Great Expectations without analytics; its own use of deprecated modules is not the user's to see."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "module 'sre_", DeprecationWarning)
        import great_expectations
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.ERROR)  # sets its own to INFO
    return great_expectations


def _to_great_expectations(expectation: Expectation) -> Any:
    from great_expectations.expectations import core

    severity = "critical" if expectation.severity == "error" else "warning"
    kind = getattr(core, _EXPECTATIONS[expectation.kind])
    meta = {"description": expectation.description}
    return kind(column=expectation.column, severity=severity, meta=meta, **expectation.arguments)


def _result(table: CheckTable, expectation: Expectation, outcome: Any) -> ValidationResult:
    if (outcome.exception_info or {}).get("raised_exception"):
        raise RuntimeError(f"{table.name}.{expectation.column}: {outcome.exception_info}")
    failing = outcome.result.get("unexpected_index_list") or []
    names = [*table.keys, *([] if expectation.column in table.keys else [expectation.column])]
    rows = sorted(({k: _plain(row.get(k)) for k in names} for row in failing), key=str)
    return ValidationResult(
        expectation.key, table.name, table.file, expectation.description, expectation.severity, bool(outcome.success),
        len(rows), rows[:MAX_ROWS_REPORTED], expectation.remedy,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if pd.isna(value) else value
