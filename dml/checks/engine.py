"""The engine of the checks: sheets of rows, rules on their columns, judged and documented by Great Expectations.

Great Expectations skips nulls in column rules (a rule that needs values says `present` too), draws random ids and
stamps times; what is reported here is free of both, so that equal inputs give equal bytes.
"""

import logging
import os
import shutil
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pandas as pd

from dml.checks.data_docs import NO_TIME, make_offline, write_front_page
from dml.config.params import Severity
from dml.core.errors import CheckFailed, ConfigError
from dml.core.files import atomic, write_json

NONE: Mapping[str, Severity] = MappingProxyType({})
MOST = 20
"""Failing rows that a report lists; it counts all of them."""
SHEETS = (
    *("patients", "sizes", "slides", "expression", "genes", "gene_groups", "sites"),
    *("bags", "embedding", "feature_sites"),
)
"""Sheets of the cohort's and of the features' check, as ``checks.severity`` names them."""
SHOWN = 8
"""Failing rows that the summary shows."""


_KINDS = {
    "present": "ExpectColumnValuesToNotBeNull",
    "unique": "ExpectColumnValuesToBeUnique",
    "within": "ExpectColumnValuesToBeBetween",
    "among": "ExpectColumnValuesToBeInSet",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a column of a sheet must be. `kind` is one of present, unique, within (minimum, maximum), among (values).

    ``checks.severity`` of params.yaml calls a rule ``<sheet>.<name>``; the name is the column's if none is given.
    """

    column: str
    kind: Literal["present", "unique", "within", "among"]
    says: str
    remedy: str
    arguments: dict[str, Any] = field(default_factory=dict)
    severity: Literal["error", "warning"] = "error"
    name: str = ""

    @property
    def key(self) -> str:
        """What params.yaml calls it, behind the sheet's name."""
        return self.name or self.column


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows to be judged; `keys` are the columns that name a row in a message, `file` is where it comes from."""

    name: str
    file: str
    frame: pd.DataFrame
    keys: tuple[str, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one rule."""

    name: str
    sheet: str
    file: str
    check: str
    severity: str
    success: bool
    failing: int
    rows: list[dict[str, Any]]
    remedy: str

    def line(self) -> str:
        """One line of a summary or message."""
        if self.success:
            return f"ok       {self.file}: {self.check}"
        shown = "; ".join(map(_told, self.rows[:5]))
        more = f" (+{self.failing - 5} more)" if self.failing > 5 else ""
        return f"{self.severity:8} {self.file}: {self.check}: failed for {shown}{more}. {self.remedy}"

    def paragraph(self) -> list[str]:
        """Several lines of a page: the rule, the rows that break it, the remedy."""
        head = f"{self.severity:9}{self.file}: {self.check} [{self.sheet}.{self.name}]"
        more = [f"and {self.failing - SHOWN} more"] if self.failing > SHOWN else []
        inner = [*map(_told, self.rows[:SHOWN]), *more, f"-> {self.remedy}"]
        wrapped = [textwrap.wrap(each, 100, subsequent_indent="  ") for each in inner]
        return [f"  {head}", *(f"             {line}" for lines in wrapped for line in lines)]


def with_severity(sheets: Sequence[Sheet], wanted: Mapping[str, Severity]) -> list[Sheet]:
    """Give rules the severity that params.yaml asks for; rules to ignore are left out.

    Raises
    ------
    ConfigError
        If there is no such sheet, or one that is here has no such rule; the message lists what there is.
    """
    for key in wanted:
        if key.split(".")[0] not in SHEETS:
            raise ConfigError(f"checks.severity: no sheet of rules for {key!r}; there are {', '.join(SHEETS)}")
        rules = {f"{s.name}.{rule.key}": None for s in sheets for rule in s.rules if s.name == key.split(".")[0]}
        if rules and key not in rules:
            raise ConfigError(f"checks.severity: no rule {key!r}; there are {', '.join(rules)}")

    def changed(sheet: Sheet) -> Sheet:
        kept = [(rule, wanted.get(f"{sheet.name}.{rule.key}", rule.severity)) for rule in sheet.rules]
        return replace(sheet, rules=tuple(replace(rule, severity=how) for rule, how in kept if how != "ignore"))

    return [sheet for sheet in map(changed, sheets) if sheet.rules]


def judge(
    name: str, sheets: Sequence[Sheet], counts: dict[str, Any], out: Path, severity: Mapping[str, Severity] = NONE
) -> None:
    """Judge all sheets and write the report, whatever the verdict.

    Parameters
    ----------
    name : str
        cohort or features.
    sheets : sequence of Sheet
        What is judged.
    counts : dict
        Numbers for the head of the report.
    out : Path
        Folder for ``<name>.json``, ``<name>/summary.txt`` and ``<name>/docs/index.html``.
    severity : mapping of str to error, warning or ignore
        Of single rules, as params.yaml says it (``checks.severity``).

    Raises
    ------
    CheckFailed
        If a rule of severity `error` is broken; lists file, rows and remedy of each.
    ConfigError
        If `severity` names a rule that does not exist.
    """
    findings = _validate(name, with_severity(sheets, severity), out / name / "docs")
    failed = [f for f in findings if not f.success and f.severity == "error"]
    report = {"checks": [asdict(f) for f in findings], "counts": counts, "stage": name, "success": not failed}
    write_json(out / f"{name}.json", report)
    with atomic(out / name / "summary.txt") as temporary:
        temporary.write_text(_summary(name, findings, counts))
    for finding in findings:
        if not finding.success and finding.severity == "warning":
            logging.getLogger(__name__).warning(finding.line())
    if failed:
        lines = "\n".join(f"  {f.line().removeprefix('error').strip()}" for f in failed)
        raise CheckFailed(f"{len(failed)} of {len(findings)} checks failed ({out / name / 'summary.txt'}):\n{lines}")


def _summary(name: str, findings: Sequence[Finding], counts: dict[str, Any]) -> str:
    """One page: the verdict, the numbers, what is wrong in full, what is right in brief."""
    worst = [f for f in findings if not f.success]
    verdict = "FAILED" if any(f.severity == "error" for f in worst) else "passed"
    head = f"{name} checks {verdict}: {len(findings) - len(worst)} of {len(findings)} rules hold"
    width = max(map(len, counts), default=0) + 2
    lines = [head, "", *(f"  {key:{width}}{_shown(value)}" for key, value in counts.items())]
    if worst:
        ordered = sorted(worst, key=lambda f: f.severity)
        lines += ["", "What is wrong", *(line for finding in ordered for line in finding.paragraph())]
    lines += ["", "What holds"]
    for sheet in dict.fromkeys(f.sheet for f in findings):
        good = "; ".join(f.check for f in findings if f.success and f.sheet == sheet)
        lines += textwrap.wrap(f"{sheet}: {good}", 110, initial_indent="  ", subsequent_indent="    ") if good else []
    if worst:
        lines += ["", "checks.severity in params.yaml makes a rule [in brackets] an error, a warning, or ignores it."]
    return "\n".join(lines) + "\n"


def _told(row: Mapping[str, Any]) -> str:
    """Name a row; the verdict itself ("no") goes without saying."""
    return ", ".join(f"{key} {value}" for key, value in row.items() if value != "no")


def _shown(value: Any) -> str:
    return ", ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _validate(name: str, sheets: Sequence[Sheet], docs: Path) -> list[Finding]:
    gx = _great_expectations()
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    source = context.data_sources.add_pandas(name)
    run = RunIdentifier(run_name=name, run_time=NO_TIME)
    findings = []
    for sheet in sheets:
        suite = context.suites.add(gx.ExpectationSuite(sheet.name, [_expectation(rule) for rule in sheet.rules]))
        batch = source.add_dataframe_asset(sheet.name).add_batch_definition_whole_dataframe("all")
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=sheet.name, data=batch, suite=suite)
        )
        rows = {"result_format": "COMPLETE", "unexpected_index_column_names": list(sheet.keys)}
        result = definition.run(batch_parameters={"dataframe": sheet.frame}, result_format=rows, run_id=run)
        findings += [_finding(sheet, rule, r) for rule, r in zip(sheet.rules, _in_order(result, sheet), strict=True)]
    _document(context, docs)
    texts = [(f.sheet, f.success, f.line().removeprefix("ok").strip()) for f in findings]
    write_front_page(docs, f"Checks: {name}", texts)
    return findings


def _great_expectations() -> Any:
    """Import it quietly: no analytics, and its own use of deprecated modules is not the user's to see."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "module 'sre_", DeprecationWarning)
        import great_expectations
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.ERROR)  # sets its own to INFO
    return great_expectations


def _expectation(rule: Rule) -> Any:
    from great_expectations.expectations import core

    severity = "critical" if rule.severity == "error" else "warning"
    meta = {"says": rule.says, "remedy": rule.remedy}
    notes = f"{rule.says}. {rule.remedy}"
    return getattr(core, _KINDS[rule.kind])(
        column=rule.column, severity=severity, meta=meta, notes=notes, **rule.arguments
    )


def _in_order(result: Any, sheet: Sheet) -> list[Any]:
    by_text = {r.expectation_config.meta["says"]: r for r in result.results}
    return [by_text[rule.says] for rule in sheet.rules]


def _finding(sheet: Sheet, rule: Rule, result: Any) -> Finding:
    if (result.exception_info or {}).get("raised_exception"):
        raise RuntimeError(f"{sheet.name}.{rule.column}: {result.exception_info}")
    found = result.result.get("unexpected_index_list") or []
    names = [*sheet.keys, *([] if rule.column in sheet.keys else [rule.column])]
    rows = sorted(({k: _plain(row.get(k)) for k in names} for row in found), key=str)
    return Finding(
        rule.key,
        sheet.name,
        sheet.file,
        rule.says,
        rule.severity,
        bool(result.success),
        len(rows),
        rows[:MOST],
        rule.remedy,
    )


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if pd.isna(value) else value


def _document(context: Any, docs: Path) -> None:
    shutil.rmtree(docs, ignore_errors=True)
    for site in list(context.get_site_names()):
        context.delete_data_docs_site(site)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.absolute())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": store}
    context.add_data_docs_site("checks", {**site, "show_how_to_buttons": False})
    context.build_data_docs()
    make_offline(docs)
