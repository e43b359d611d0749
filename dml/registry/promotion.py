"""Promotion and rollback: which version carries the alias champion, decided by gates and logged.

Nothing is promoted by training. `previous` always names the champion before, so that a rollback is one step.
"""

import getpass
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dml.config.params import Params
from dml.core.errors import Busy, GateFailed, InputError
from dml.core.files import only_writer
from dml.registry import gates, versions
from dml.registry.gates import Gate
from dml.registry.packaging import packed_predictions
from dml.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, RegisteredVersion
from dml.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

WAIT_S = 5.0
"""How long a second promotion waits for the first before it gives up."""
CLAIM, SETTLE_S, STALE_S = "promoting", 1.0, 600.0
"""Tag of a registered model that is being promoted through a server; when it is read again, and when it is void."""


@dataclass(frozen=True, slots=True)
class GateResults:
    """The gates of a challenger.

    Examples
    --------
    >>> from dml.registry.gates import Gate
    >>> challenger = RegisteredVersion("demo-survival-student", "2", ("challenger",), {}, "run")
    >>> results = GateResults(challenger, None, (Gate("c_index floor", False, "0.580", "at least 0.600"),))
    >>> results.enforce()
    Traceback (most recent call last):
    dml.core.errors.GateFailed: demo-survival-student version 2 refused. c_index floor: 0.580, required at least 0.600
    """

    challenger: RegisteredVersion
    champion: RegisteredVersion | None
    gates: tuple[Gate, ...]

    @property
    def title(self) -> str:
        """Which versions are compared."""
        against = f"champion {self.champion.version}" if self.champion else "no champion yet"
        return f"{self.challenger.name}: challenger {self.challenger.version}, {against}"

    def enforce(self) -> None:
        """Raise GateFailed naming every gate that does not hold."""
        failed = [f"{gate.name}: {gate.value}, required {gate.required}" for gate in self.gates if not gate.passed]
        if failed:
            raise GateFailed(f"{self.challenger.name} version {self.challenger.version} refused. {'; '.join(failed)}")


def check_gates(name: str, params: Params, reports: Path = Path("reports")) -> GateResults:
    """Check the challenger of a registered model against the gates.

    Raises
    ------
    InputError
        If there is no such model, no challenger, or the challenger is the champion.
    """
    challenger, champion = _contenders(name)
    settings = params.promotion
    results = [
        *gates.floors(challenger, settings),
        *gates.calibration(challenger, settings),
        *gates.subgroups(challenger, params.evaluation.subgroups, settings),
        *gates.teacher_gap(challenger, settings),
        gates.data_checks(reports / challenger.tags["cohort"]),
        gates.model_card(challenger),
        *gates.recorded(challenger),
    ]
    if champion is not None:
        new, old = (packed_predictions(f"models:/{name}/{v.version}") for v in (challenger, champion))
        results.append(gates.non_inferior(new, old, settings, params.seed, params.evaluation.resamples))
    return GateResults(challenger, champion, tuple(results))


def _contenders(name: str) -> tuple[RegisteredVersion, RegisteredVersion | None]:
    """Return challenger and champion; if there is nobody to promote the error names who was promoted, and when."""
    holders = {alias: version for version in versions.versions(name) for alias in version.aliases}
    challenger, champion = holders.get(CHALLENGER), holders.get(CHAMPION)
    if champion is not None and (challenger is None or challenger == champion):
        by, when = (champion.tags.get(f"promote.{key}", "unknown") for key in ("who", "when"))
        problem = f"version {champion.version} of {name} is champion already (promoted by {by}, {when})"
        raise InputError("registry", problem, "There is no other challenger: train a new one first")
    return challenger or versions.find(name, CHALLENGER), champion


def promote(name: str, params: Params, why: str = "", reports: Path = Path("reports")) -> GateResults:
    """Make the challenger the champion if every gate passes; otherwise nothing changes.

    Raises
    ------
    Busy
        If somebody else is promoting this model.
    InputError
        As `check_gates`.
    """
    with _exclusive(name):
        results = check_gates(name, params, reports)
        if all(gate.passed for gate in results.gates):
            _move_aliases(results, why)
        else:
            new, old = results.challenger, results.champion
            _append("refuse", new.name, new.version, old.version if old else None, why, results.gates)
    return results


def _move_aliases(results: GateResults, why: str) -> None:
    client, new, old = store.connect(), results.challenger, results.champion
    if old is not None:
        client.set_registered_model_alias(new.name, PREVIOUS, old.version)
        client.set_model_version_tag(new.name, new.version, "replaced", old.version)
    client.set_registered_model_alias(new.name, CHAMPION, new.version)
    client.delete_registered_model_alias(new.name, CHALLENGER)
    _record("promote", new.name, new.version, old.version if old else None, why, results.gates)


def rollback(name: str, why: str = "") -> tuple[str, str]:
    """Make the previous champion the champion again; the one withdrawn becomes challenger.

    Returns
    -------
    restored, withdrawn : str
        Version numbers.

    Raises
    ------
    Busy
        If somebody else is promoting this model.
    InputError
        If there is no champion or no previous one.
    """
    with _exclusive(name):
        withdrawn, restored = versions.find(name, CHAMPION), versions.find(name, PREVIOUS)
        if withdrawn == restored:
            problem = (
                f"previous and champion of {name} are both version {restored.version}: a promotion was interrupted"
            )
            raise InputError("registry", problem, "Run dml promote again")
        client, before = store.connect(), restored.tags.get("replaced")
        client.set_registered_model_alias(name, CHAMPION, restored.version)
        client.set_registered_model_alias(name, CHALLENGER, withdrawn.version)
        if before:
            client.set_registered_model_alias(name, PREVIOUS, before)
        else:
            client.delete_registered_model_alias(name, PREVIOUS)
        _record("rollback", name, restored.version, withdrawn.version, why)
    return restored.version, withdrawn.version


@contextmanager
def _exclusive(name: str) -> Iterator[None]:
    client = store.connect(must_exist=True)
    with only_writer(f"promote-{name}", wait_s=WAIT_S, folder=store.lock_folder()):
        if store.database() is not None or name not in versions.names():
            yield
            return
        with _claim(client, name):
            yield


@contextmanager
def _claim(client: "MlflowClient", name: str) -> Iterator[None]:
    """Hold a tag of the registered model: file locks do not reach a server's users on other machines."""
    mine = f"{getpass.getuser()}@{socket.gethostname()} {uuid4().hex[:8]} {time.time():.0f}"
    _refuse_another(client, name, mine)
    client.set_registered_model_tag(name, CLAIM, mine)
    time.sleep(SETTLE_S)
    _refuse_another(client, name, mine)  # of two who set it at once, the later one holds it
    try:
        yield
    finally:
        client.delete_registered_model_tag(name, CLAIM)


def _refuse_another(client: "MlflowClient", name: str, mine: str) -> None:
    holder = str(client.get_registered_model(name).tags.get(CLAIM, mine))
    if holder != mine and time.time() - float(holder.rsplit(" ", 1)[-1]) < STALE_S:
        raise Busy(f"{name}: {holder.split(' ')[0]} is promoting it; look at dml registry ls, then try again")


def _record(action: str, name: str, champion: str, before: str | None, why: str, gates: Sequence[Gate] = ()) -> None:
    """Write who, when and why into the version's tags and the log."""
    entry = _append(action, name, champion, before, why, gates)
    client = store.connect()
    for key in ("who", "when", "why"):
        client.set_model_version_tag(name, champion, f"{action}.{key}", str(entry[key]))


def _append(
    action: str, name: str, version: str, before: str | None, why: str, gates: Sequence[Gate]
) -> Mapping[str, object]:
    """Add a line to the log, which is only ever appended to: one write, so that lines of two writers do not mix."""
    entry: Mapping[str, object] = {
        "action": action,
        "model": name,
        "refused" if action == "refuse" else "champion": version,
        "before": before,
        "who": getpass.getuser(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "why": why,
        "gates": {gate.name: f"{gate.value} (required {gate.required})" for gate in gates},
        "failed": [gate.name for gate in gates if not gate.passed],
    }
    path = log_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    return entry


def promotion_log() -> list[dict[str, Any]]:
    """Read the log, oldest first."""
    path = log_path()
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def log_path() -> Path:
    """Where promotions are logged: beside the local store, or in mlruns."""
    file = store.database()
    return (file.parent if file else Path("mlruns")) / "promotions.jsonl"
