"""Pretrained weights of one fold on disk: safetensors, and a JSON that says what they were learned from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dml.config import params as config
from dml.core.errors import InputError
from dml.core.files import atomic, digest, read_json, write_json
from dml.data.cohort_store import CohortStore
from dml.models.initial_weights import InitialWeights

WEIGHTS, DESCRIPTION = "weights.safetensors", "pretraining.json"
Network = Literal["teacher", "student"]


@dataclass(frozen=True, slots=True)
class Pretrained:
    """Initial weights, by the names of the student's (``project``, ``aggregate``) and the teacher's (``genes``).

    Attributes
    ----------
    weights : mapping
        Name to tensor.
    report : mapping
        Pairs by cohort, history of the losses, numbers on held-out pairs, digests of the ids of the patients.
    """

    weights: Mapping[str, Tensor]
    report: Mapping[str, Any]

    def initial(self, network: Network) -> InitialWeights:
        """Return the weights as a network names them: the teacher's queries and attention are not in `aggregate`."""
        weights = {name.removeprefix("aggregate."): value for name, value in self.weights.items()}
        if network == "student":
            weights = {name: value for name, value in self.weights.items() if not name.startswith("genes.")}
        return InitialWeights(weights, tuple(self.report["patient_hashes"]))

    def save(self, folder: Path) -> None:
        """Write weights and report."""
        with atomic(folder / WEIGHTS) as temporary:
            save_file({name: value.contiguous() for name, value in self.weights.items()}, temporary)
        write_json(folder / DESCRIPTION, dict(self.report))

    @classmethod
    def load(cls, folder: Path) -> "Pretrained":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If a file is missing or damaged.
        """
        try:
            return cls(load_file(folder / WEIGHTS), read_json(folder / DESCRIPTION))
        except (SafetensorError, FileNotFoundError) as error:
            raise InputError(folder, f"no pretrained weights ({error})", "dvc repro pretrain") from None


def start_digests(params: config.Params, network: Network, fold: int) -> tuple[str, ...]:
    """Return what identifies the weights that a network of one fold starts from; nothing for random ones."""
    if not starts_pretrained(params, network):
        return ()
    return (digest(Pretrained.load(CohortStore.of(params.cohort).pretraining_folder(fold)).report),)


def starts_pretrained(params: config.Params, network: Network) -> bool:
    """Whether a network starts from pretrained weights."""
    return bool(params.other_cohorts) and network in params.pretraining.start


def read_initial(params: config.Params, network: Network, fold: int) -> InitialWeights | None:
    """Read the initial weights of a network of one fold; None where it starts from random ones."""
    if not starts_pretrained(params, network):
        return None
    return Pretrained.load(CohortStore.of(params.cohort).pretraining_folder(fold)).initial(network)
