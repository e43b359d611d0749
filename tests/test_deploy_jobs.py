"""deploy/monitor.*.yml: the weekly jobs parse, and their commands and options exist."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from dml.cli.app import app

ROOT = Path(__file__).resolve().parents[1]


def github() -> tuple[list[str], dict[str, Any]]:
    job = yaml.safe_load((ROOT / "deploy/monitor.github.yml").read_text())["jobs"]["monitor"]
    return [step["run"] for step in job["steps"] if "run" in step], job["steps"][-1]


def gitlab() -> tuple[list[str], dict[str, Any]]:
    job = yaml.safe_load((ROOT / "deploy/monitor.gitlab.yml").read_text())["monitor"]
    return job["script"], job["artifacts"]


@pytest.mark.parametrize("read", [github, gitlab])
def test_the_command_of_a_weekly_job_exists(read: Any) -> None:
    commands, _ = read()
    (words,) = [shlex.split(command) for command in commands if command.startswith("dml ")]
    command: Any = typer.main.get_command(app)
    command = command.commands[words[1]]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    assert {parameter.opts[0] for parameter in command.params if parameter.required} <= set(words)


def test_the_page_of_an_alarm_is_kept() -> None:
    assert github()[1]["if"] == "always()"
    assert gitlab()[1]["when"] == "always"
