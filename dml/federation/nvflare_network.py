"""Hospitals in a network of NVIDIA FLARE: every party starts its kit, and the server's operator submits the training.

Kits are made by ``nvflare provision``; each has a certificate of its own, connections are TLS with certificates of both
sides, and a kit that was signed by another network is refused. Nothing of that is done here. Needs the extra
`federation`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nvflare.fuel.flare_api.flare_api import new_secure_session

from dml.config import params as config
from dml.core.errors import DmlError, InputError
from dml.core.files import read_json, write_json
from dml.federation.coordinator import FederationSettings
from dml.federation.nvflare_engine import ALLOWED, OUTCOME, SITE_DATA, allowed_classes, describe_training, make_job

RESOURCES = "resources.json"
ADMIN = "fed_admin.json"
"""File that only the kit of an administrator has."""


def start_kit(kit: Path, data: Path | None) -> int:
    """Start the server or a site in the foreground; return its exit status when it is stopped.

    Parameters
    ----------
    kit : Path
        Folder that ``nvflare provision`` made for this party.
    data : Path, optional
        Folder of the site's cohort store; the server has none.

    Raises
    ------
    InputError
        If it is no kit of a server or site, or there is no cohort store.
    """
    script = kit / "startup" / "sub_start.sh"
    if not script.exists():
        raise InputError(kit, "no startup kit of a server or site", "Give the folder that has startup/sub_start.sh")
    if data is not None and not (data / "patients.parquet").exists():
        raise InputError(data, "no cohort store", "Give data/<cohort>, after dvc repro split")
    allow_classes(kit)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # it calls python3
    environment = os.environ | {"PATH": path} | ({} if data is None else {SITE_DATA: str(data.absolute())})
    return subprocess.run(["bash", str(script.absolute()), "--once"], env=environment, check=False).returncode


def allow_classes(kit: Path) -> None:
    """Let the party run the two classes of this package, beside what its kit allows."""
    local = kit / "local"
    path = local / RESOURCES if (local / RESOURCES).exists() else local / f"{RESOURCES}.default"
    content = read_json(path)
    content[ALLOWED] = list(dict.fromkeys([*content.get(ALLOWED, ()), *allowed_classes()]))
    write_json(local / RESOURCES, content)


def train_in_network(
    kit: Path,
    params: config.Params,
    task: str,
    settings: FederationSettings,
    roles: Sequence[str],
    sites: Sequence[str],
    out: Path,
) -> None:
    """Submit a training to a running network, from the server's machine, and wait for its end.

    Parameters
    ----------
    kit : Path
        Kit of an administrator.
    sites : sequence of str
        Names of the sites that take part.
    out : Path
        Folder that receives models and reports.

    Raises
    ------
    InputError
        If it is no administrator's kit.
    DmlError
        If the training ended with an error.
    """
    if not (kit / "startup" / ADMIN).exists():
        raise InputError(kit, "no kit of an administrator", f"Give the folder that has startup/{ADMIN}")
    with tempfile.TemporaryDirectory() as temporary:
        description, name = Path(temporary) / "training.json", f"{params.cohort}-{task}"
        describe_training(description, params, task, settings, roles, out)
        make_job(name, settings.min_sites, dict.fromkeys(sites, ""), description).export_job(temporary)
        session = new_secure_session(kit.name, str(kit.absolute()))
        try:
            job = session.submit_job(str(Path(temporary) / name))
            session.monitor_job(job)
        finally:
            session.close()
        ended = description.with_name(OUTCOME)
        outcome = read_json(ended) if ended.exists() else "the server ended it"
    if outcome:
        raise DmlError(f"{outcome}. The log of the server has more")
