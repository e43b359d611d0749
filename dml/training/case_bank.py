"""The case bank of a fold: tokens and outcomes of patients that members were validated on, without their names.

A member's tokens of patients it was trained on are nearer to their outcomes than those of anybody else. Each patient of
the bank is therefore embedded by the member that did not train on it, and a new patient is compared with it in the
space of that member. Distances are in units of the median distance between the member's validation patients, so that
those of different members compare.

Shape legend: n patients, d width of a token.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from scipy.spatial.distance import pdist

from dml.core.device import torch_threads
from dml.core.errors import InputError
from dml.core.files import digest, read_parquet, write_parquet
from dml.core.types import Case
from dml.data.batches import make_batches
from dml.data.patient_reader import Patient
from dml.training.checkpoint import FoldModel

FILE = "case_bank.parquet"
"""In the folder of a fold."""
FACTS = ("patient_hash", "member", "cohort", "site", "days", "event", "labels", "values")
"""Columns beside the tokens of each branch; days and event are null without follow-up."""
MIN_PATIENTS = 3
"""Validation patients below which a member has no scale of distances."""


@dataclass(frozen=True, slots=True)
class CaseBank:
    """Patients with their tokens.

    Attributes
    ----------
    patients : DataFrame
        One row a patient and member: `FACTS`.
    tokens : mapping
        Branch to tokens (n d), in the order of `patients`.
    scales : mapping
        Branch to the median distance of each member's patients.
    """

    patients: pd.DataFrame
    tokens: Mapping[str, np.ndarray]
    scales: Mapping[str, tuple[float, ...]]

    def save(self, path: Path) -> None:
        """Write it as Parquet; tokens in half precision."""
        rows = self.patients.astype({"member": "int64", "days": "Float64", "event": "boolean"})
        columns = {name: pa.array(rows[name], from_pandas=True) for name in FACTS}
        for branch, tokens in self.tokens.items():
            columns[f"token_{branch}"] = pa.array(list(tokens.astype(np.float16)), pa.list_(pa.float16()))
        write_parquet(path, pa.table(columns), {"scales": {name: list(each) for name, each in self.scales.items()}})

    @classmethod
    def load(cls, path: Path) -> "CaseBank":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If there is none, or it is damaged.
        """
        if not path.exists():
            raise InputError(path, "the model has no case bank", "Train it again with this version: dvc repro")
        table, metadata = read_parquet(path)
        branches = [name.removeprefix("token_") for name in table.column_names if name.startswith("token_")]
        tokens = {b: np.array(table[f"token_{b}"].to_pylist(), np.float32) for b in branches}
        patients = table.select(list(FACTS)).to_pandas()
        return cls(patients, tokens, {name: tuple(each) for name, each in metadata["scales"].items()})


def build_case_bank(
    model: FoldModel,
    patients: Sequence[Patient],
    cases: Sequence[Case],
    validated: Sequence[Sequence[str]],
    cohort: str,
) -> CaseBank:
    """Embed each member's validation patients.

    Parameters
    ----------
    model : FoldModel
        The trained members.
    patients, cases : sequence
        All patients of the training, preprocessed and as stored.
    validated : sequence of sequences of str
        Ids of the validation patients of each member.
    cohort : str
        Name of the cohort.
    """
    by_id, facts_of = {p.patient_id: p for p in patients}, {case.patient_id: case for case in cases}
    rows: list[dict[str, object]] = []
    tokens: dict[str, list[np.ndarray]] = {}
    scales: dict[str, list[float]] = {}
    for member, ids in enumerate(validated):
        embedded = embed(model, member, [by_id[patient] for patient in ids])
        for branch, values in embedded.items():
            tokens.setdefault(branch, []).append(values)
            scales.setdefault(branch, []).append(_median_distance(values))
        rows += [_facts(facts_of[patient], member, cohort) for patient in ids]
    joined = {branch: np.concatenate(parts) for branch, parts in tokens.items()}
    return CaseBank(pd.DataFrame(rows, columns=FACTS), joined, {b: tuple(each) for b, each in scales.items()})


def embed(model: FoldModel, member: int, patients: Sequence[Patient], batch_size: int = 16) -> dict[str, np.ndarray]:
    """Return the tokens (n d) of each branch of one member."""
    parts: dict[str, list[np.ndarray]] = {}
    with torch_threads(1), torch.inference_mode():
        for batch in make_batches(patients, model.spec.preprocessor, batch_size):
            for branch, value in model.members[member](batch).embeddings.items():
                parts.setdefault(branch, []).append(value.float().numpy())
    return {branch: np.concatenate(each) for branch, each in parts.items()}


def _median_distance(tokens: np.ndarray) -> float:
    """Median distance between patients; NaN where there are too few, or all are alike."""
    median = float(np.median(pdist(tokens.astype(float)))) if len(tokens) >= MIN_PATIENTS else 0.0
    return median if median > 0 else float("nan")


def _facts(case: Case, member: int, cohort: str) -> dict[str, object]:
    follow_up = case.survival
    return {
        "patient_hash": digest(case.patient_id),
        "member": member,
        "cohort": cohort,
        "site": case.site,
        "days": None if follow_up is None else follow_up.days,
        "event": None if follow_up is None else follow_up.event,
        "labels": json.dumps(dict(case.labels), sort_keys=True),
        "values": json.dumps(dict(case.values), sort_keys=True),
    }
