"""Promotion and rollback: which version carries the alias champion, decided by gates and written down.

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
from dml.registry import gates as check
from dml.registry import versions as registry
from dml.registry.gates import Gate
from dml.registry.packaging import packed_predictions
from dml.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Entry
from dml.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

WAIT_S = 5.0
"""How long a second promotion waits for the first before it gives up."""
CLAIM, SETTLE_S, STALE_S = "promoting", 1.0, 600.0
"""Tag of a registered model that is being promoted through a server; when it is read again, and when it is void."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gates say about a challenger."""

    challenger: Entry
    champion: Entry | None
    gates: tuple[Gate, ...]

    @property
    def title(self) -> str:
        """Say which versions are compared."""
        against = f"champion {self.champion.version}" if self.champion else "no champion yet"
        return f"{self.challenger.name}: challenger {self.challenger.version}, {against}"

    def enforce(self) -> None:
        """Raise GateFailed naming every gate that does not hold."""
        failed = [f"{gate.name}: {gate.found}, wanted {gate.wanted}" for gate in self.gates if not gate.passed]
        if failed:
            raise GateFailed(f"{self.challenger.name} version {self.challenger.version} refused. {'; '.join(failed)}")


def judge(name: str, params: Params, reports: Path = Path("reports")) -> Verdict:
    """Hold the challenger of a registered model against the gates.

    Raises
    ------
    InputError
        If there is no such model, no challenger, or the challenger is the champion.
    """
    challenger, champion = _contenders(name)
    settings = params.promotion
    gates = [
        *check.floors(challenger, settings),
        *check.calibration(challenger, settings),
        *check.subgroups(challenger, params.evaluation.subgroups, settings),
        *check.teacher_gap(challenger, settings),
        check.data_checks(reports / challenger.tags["cohort"]),
        check.model_card(challenger),
    ]
    if champion is not None:
        judged = [packed_predictions(f"models:/{name}/{entry.version}") for entry in (challenger, champion)]
        gates.append(check.non_inferior(judged[0], judged[1], settings, params.seed, params.evaluation.resamples))
    return Verdict(challenger, champion, tuple(gates))


def _contenders(name: str) -> tuple[Entry, Entry | None]:
    """Find challenger and champion; say who was promoted and when if there is nobody to promote."""
    known = {alias: entry for entry in registry.versions(name) for alias in entry.aliases}
    challenger, champion = known.get(CHALLENGER), known.get(CHAMPION)
    if champion is not None and (challenger is None or challenger == champion):
        by, when = (champion.tags.get(f"promote.{key}", "unknown") for key in ("who", "when"))
        found = f"version {champion.version} of {name} is champion already (promoted by {by}, {when})"
        raise InputError("registry", found, "There is no other challenger: train a new one first")
    return challenger or registry.find(name, CHALLENGER), champion


def promote(name: str, params: Params, why: str = "", reports: Path = Path("reports")) -> Verdict:
    """Judge the challenger and make it the champion if every gate holds; otherwise nothing changes.

    Raises
    ------
    Busy
        If somebody else is promoting this model.
    InputError
        As `judge`.
    """
    with _alone(name):
        verdict = judge(name, params, reports)
        if all(gate.passed for gate in verdict.gates):
            _move(verdict, why)
        else:
            new, old = verdict.challenger, verdict.champion
            _append("refuse", new.name, new.version, old.version if old else None, why, verdict.gates)
    return verdict


def _move(verdict: Verdict, why: str) -> None:
    client, new, old = store.connect(), verdict.challenger, verdict.champion
    if old is not None:
        client.set_registered_model_alias(new.name, PREVIOUS, old.version)
        client.set_model_version_tag(new.name, new.version, "replaced", old.version)
    client.set_registered_model_alias(new.name, CHAMPION, new.version)
    client.delete_registered_model_alias(new.name, CHALLENGER)
    _record("promote", new.name, new.version, old.version if old else None, why, verdict.gates)


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
    with _alone(name):
        withdrawn, restored = registry.find(name, CHAMPION), registry.find(name, PREVIOUS)
        if withdrawn == restored:
            found = f"previous and champion of {name} are both version {restored.version}: a promotion was interrupted"
            raise InputError("registry", found, "Run dml promote again")
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
def _alone(name: str) -> Iterator[None]:
    client = store.connect()
    with only_writer(f"promote-{name}", wait_s=WAIT_S, folder=store.lock_folder()):
        if store.database() is not None or name not in registry.names():
            yield
            return
        with _claimed(client, name):
            yield


@contextmanager
def _claimed(client: "MlflowClient", name: str) -> Iterator[None]:
    """Hold a tag of the registered model: of a server's users on other machines no file lock knows."""
    mine = f"{getpass.getuser()}@{socket.gethostname()} {uuid4().hex[:8]} {time.time():.0f}"
    _refuse_another(client, name, mine)
    client.set_registered_model_tag(name, CLAIM, mine)
    time.sleep(SETTLE_S)
    _refuse_another(client, name, mine)  # of two who set it at once, the later one keeps it
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
        "gates": {gate.name: f"{gate.found} (wanted {gate.wanted})" for gate in gates},
        "failed": [gate.name for gate in gates if not gate.passed],
    }
    path = log_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    return entry


def logged() -> list[dict[str, Any]]:
    """Read the log, oldest first."""
    path = log_path()
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def log_path() -> Path:
    """Where promotions are logged: beside the local store, or in mlruns."""
    file = store.database()
    return (file.parent if file else Path("mlruns")) / "promotions.jsonl"
