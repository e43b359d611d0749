"""``dml federate`` at the command line: sites are named, trained across, and listed with their concordance."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from dml.cli.app import app
from dml.cli.federate import read_sites
from dml.config.params import Params
from dml.core.errors import ConfigError
from dml.registry import versions
from tests.dml.federation.test_federation import SIZES, settings, sites

__all__ = ["settings", "sites"]


def test_a_network_is_trained_and_registered(client: MlflowClient, sites: object, settings: Params) -> None:
    Path("params.yaml").write_text(settings.model_dump_json())
    command = ["federate", "--task", "survival", "--name", "clinics", "--rounds", "1", "--model", "teacher", "--json"]
    for name in SIZES:
        command += ["--site", f"{name}=data/{name}"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    rows = {row["site"]: row["teacher"] for row in json.loads(result.stdout)}
    assert set(rows) == {*SIZES, "all"}
    assert all(0 <= value <= 1 for value in rows.values())
    assert versions.find("clinics-survival-teacher", "challenger").version == "1"


@pytest.mark.parametrize("wrong", [["north"], ["=x"], ["a=x", "a=y"]])
def test_sites_have_a_name_and_a_folder(wrong: list[str]) -> None:
    with pytest.raises(ConfigError, match="every name once"):
        read_sites(wrong)
