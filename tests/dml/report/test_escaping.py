"""Names of patients, sites, labels and cohorts are text wherever a browser shows them: report, cards, checks."""

from pathlib import Path

import pytest

from dml.checks.engine import ValidationResult, format_page
from dml.config.params import Evaluation
from dml.report.build import evaluate
from dml.report.context import ReportContext

EVIL = "<script>alert(1)</script>"
QUICK = Evaluation(resamples=20)


@pytest.mark.parametrize("kind", ["survival", "classification", "regression"])
def test_no_name_becomes_html_in_report_card_and_table(tmp_path: Path, invented, kind: str) -> None:
    invented.patients["site"] = invented.patients["site"].map(lambda site: f"{site}{EVIL}")
    models = invented.write(tmp_path / "models", kind, {"teacher": 0.8, "student": 0.6})
    context = ReportContext(f"cohort{EVIL}", f"described {EVIL}", licence=EVIL)
    evaluate(models, invented.patients, QUICK, 7, tmp_path / "out", context)
    pages = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".html", ".md")]
    assert {path.name for path in pages} >= {"report.html", "table.md", "teacher.md", "student.md"}
    for page in pages:
        assert "<script>alert" not in page.read_text(), page
    assert "cohort&lt;script>" in (tmp_path / "out/cards/teacher.md").read_text()


def test_no_name_becomes_html_in_the_page_of_the_checks() -> None:
    names = {"table": EVIL, "name": EVIL, "check": EVIL, "file": EVIL, "remedy": EVIL}
    result = ValidationResult(**names, severity="error", success=False, failing=1, rows=[{EVIL: EVIL}])
    assert "<script" not in format_page(EVIL, [result], {EVIL: EVIL})
