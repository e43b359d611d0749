"""Promotion and rollback: which version carries the alias champion, decided by gates and written down.

Nothing is promoted by training. `previous` always names the champion before, so that a rollback is one step.
"""

import getpass
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dml.config import Params
from dml.errors import GateFailed, InputError
from dml.files import only_writer
from dml.ops import registry, store
from dml.ops.gates import Gate, data_checks, floors, non_inferior
from dml.ops.packaging import packed_predictions
from dml.ops.registry import CHALLENGER, CHAMPION, PREVIOUS, Entry

WAIT_S = 5.0
"""How long a second promotion waits for the first before it gives up."""


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
    challenger = registry.find(name, CHALLENGER)
    if CHAMPION in challenger.aliases:
        found = f"version {challenger.version} of {name} is champion already"
        raise InputError("registry", found, "Train a new one first")
    champion = next((entry for entry in registry.versions(name) if CHAMPION in entry.aliases), None)
    settings = params.promotion
    gates = [*floors(challenger, settings), data_checks(reports / challenger.tags["cohort"])]
    if champion is not None:
        judged = [packed_predictions(f"models:/{name}/{entry.version}") for entry in (challenger, champion)]
        gates.append(non_inferior(judged[0], judged[1], settings, params.seed, params.evaluation.resamples))
    return Verdict(challenger, champion, tuple(gates))


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
    return verdict


def _move(verdict: Verdict, why: str) -> None:
    client, new, old = store.connect(), verdict.challenger, verdict.champion
    if old is not None:
        client.set_registered_model_alias(new.name, PREVIOUS, old.version)
        client.set_model_version_tag(new.name, new.version, "replaced", old.version)
    client.set_registered_model_alias(new.name, CHAMPION, new.version)
    client.delete_registered_model_alias(new.name, CHALLENGER)
    _record("promote", new.name, new.version, old.version if old else None, why)


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
    store.connect()
    with only_writer(f"promote-{name}", wait_s=WAIT_S, folder=store.lock_folder()):
        yield


def _record(action: str, name: str, champion: str, before: str | None, why: str) -> None:
    """Write who, when and why into the version's tags and the log that is only ever appended to."""
    entry: Mapping[str, str | None] = {
        "action": action,
        "model": name,
        "champion": champion,
        "before": before,
        "who": getpass.getuser(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "why": why,
    }
    client = store.connect()
    for key in ("who", "when", "why"):
        client.set_model_version_tag(name, champion, f"{action}.{key}", str(entry[key]))
    path = log_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def log_path() -> Path:
    """Where promotions are logged: beside the local store, or in mlruns."""
    file = store.database()
    return (file.parent if file else Path("mlruns")) / "promotions.jsonl"
