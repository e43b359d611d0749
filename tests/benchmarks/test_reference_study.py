"""The study of one cohort: other values of parameters by name."""

import sys
from pathlib import Path

import pytest

from benchmarks.reference_study import main, parse_setting
from dml.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_a_setting_has_a_name_and_a_value_of_its_type() -> None:
    assert parse_setting("distillation.targets=genes") == ("distillation.targets", "genes")
    assert parse_setting("distillation.temperature={grade: 4}") == ("distillation.temperature", {"grade": 4})
    with pytest.raises(ConfigError, match=r"--set distillation\.targets: write NAME=VALUE"):
        parse_setting("distillation.targets")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("distillation.target=genes", "no parameter 'distillation.target'"),
        ("distillation.targets=slide", "distillation.targets: "),
        ("distillation.temperature={idh: 2}", "distillation.temperature: no task 'idh'"),
    ],
)
def test_a_wrong_one_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], setting: str, message: str
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["study", "--cohort", "demo", "--out", "x", "--set", setting])
    with pytest.raises(SystemExit):
        main()
    assert message in capsys.readouterr().err
