"""deploy/compose.yaml: what can be checked of it without a Docker daemon."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_an_image_or_how_to_build_it(name: str) -> None:
    assert ("image" in SERVICES[name]) != ("build" in SERVICES[name])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_there_is_to_wait_for(name: str) -> None:
    for other, condition in SERVICES[name].get("depends_on", {}).items():
        assert condition["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_are_declared_and_ports_are_on_loopback(name: str) -> None:
    assert all(volume.split(":")[0] in COMPOSE["volumes"] for volume in SERVICES[name].get("volumes", []))
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_what_the_image_installs_is_pinned() -> None:
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    installed = re.findall(
        r"-c /tmp/constraints\.txt (.+)$", SERVICES["mlflow"]["build"]["dockerfile_inline"], re.MULTILINE
    )
    names = {re.sub(r"['\[].*", "", name.strip("'")) for name in installed[0].split()}
    assert names <= pinned


def test_no_password_is_written_down() -> None:
    for service in SERVICES.values():
        secrets = [v for k, v in service.get("environment", {}).items() if re.search("PASSWORD|SECRET|KEY|USER$", k)]
        assert all(value.startswith("${") or value == "mlflow" for value in secrets)
