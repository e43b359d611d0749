"""A network of real processes on loopback: server and sites with certificates train; a stranger's kit is refused."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from dml.config.params import Params
from dml.core.errors import InputError
from dml.core.files import read_json
from tests.dml.federation.test_federation import settings, sites

__all__ = ["settings", "sites"]
pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
JOIN = "import sys; from dml.cli.app import main; sys.argv[0] = 'dml'; main()"
TRAIN = """
import sys
from pathlib import Path
from dml.config.params import Params
from dml.federation.coordinator import FederationSettings
from dml.federation.nvflare_network import train_in_network

if __name__ == "__main__":
    params = Params.model_validate_json(Path("params.json").read_text())
    rounds = FederationSettings(rounds=1, min_sites=2)
    train_in_network(Path(sys.argv[1]), params, "survival", rounds, ["teacher"], ["north", "south"], Path("network"))
"""


def free_ports(number: int) -> list[int]:
    opened = [socket.socket() for _ in range(number)]
    for each in opened:
        each.bind(("localhost", 0))
    ports = [int(each.getsockname()[1]) for each in opened]
    for each in opened:
        each.close()
    return ports


def provision(folder: Path, clients: list[str], ports: list[int]) -> Path:
    """Make the kits of a network; return their folder."""
    server = {"name": "localhost", "type": "server", "org": "dml", "fed_learn_port": ports[0], "admin_port": ports[1]}
    admin = {"name": "admin@dml.org", "type": "admin", "org": "dml", "role": "project_admin"}
    builders = ["workspace.WorkspaceBuilder", "static_file.StaticFileBuilder", "cert.CertBuilder"]
    project = {
        "api_version": 3,
        "name": "network",
        "description": "test",
        "participants": [server, *({"name": name, "type": "client", "org": name} for name in clients), admin],
        "builders": [{"path": f"nvflare.lighter.impl.{name}", "args": {}} for name in builders],
    }
    project["builders"][1]["args"] = {"config_folder": "config"}  # type: ignore[index]
    folder.mkdir()
    (folder / "project.yml").write_text(yaml.safe_dump(project))
    command = [str(Path(sys.executable).with_name("nvflare")), "provision", "-p", "project.yml", "-w", "kits"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "kits/network/prod_00").absolute()


@contextmanager
def joined(kit: Path, *options: str) -> Iterator[Path]:
    """Run ``dml join`` of a kit; yield its log."""
    log = Path(f"{kit.parent.parent.parent.parent.name}-{kit.name}.log").absolute()
    command = [sys.executable, "-c", JOIN, "join", str(kit), *options]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield log
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(log: Path, text: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while text not in log.read_text():
        assert time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.5)


@pytest.mark.slow
def test_a_network_trains_and_a_stranger_is_refused(sites: object, settings: Params) -> None:
    ports = free_ports(2)
    kits, foreign = provision(Path("ours"), ["north", "south"], ports), provision(Path("theirs"), ["west"], ports)
    Path("params.json").write_text(settings.model_dump_json())
    Path("run.py").write_text(TRAIN)
    with (
        joined(kits / "localhost") as server,
        joined(kits / "north", "--data", "data/north") as north,
        joined(kits / "south", "--data", "data/south") as south,
        joined(foreign / "west", "--data", "data/west") as stranger,
    ):
        for log in (north, south):
            wait_for(log, "Successfully registered client")
        command = [sys.executable, "run.py", str(kits / "admin@dml.org")]
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert process.returncode == 0, process.stdout[-2000:] + server.read_text()[-3000:]
        assert "Successfully registered client" not in stranger.read_text()
    report = read_json(Path("network/reports/network/survival/federation.json"))
    assert report["patients"] == {"north": 60, "south": 30}
    assert Path("network/models/network/survival/teacher/fold-1/weights.safetensors").exists()


def test_what_is_no_kit_is_refused(tmp_path: Path) -> None:
    from dml.federation.nvflare_network import start_kit

    with pytest.raises(InputError, match="no startup kit"):
        start_kit(tmp_path, None)
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup/sub_start.sh").write_text("exit 0")
    with pytest.raises(InputError, match="no cohort store"):
        start_kit(tmp_path, tmp_path)
