"""The case bank of a model: the tokens of its learning patients, what became of them, and nobody's name.

A token is a subspace's embedding. Every ensemble member has a space of its own, so a bank holds a token per member:
standardised in that member's space, and only from members that did not train on the patient (where there is one), as a
network separates those it was trained on better than it will separate anybody else.

Shape legend: n patients, m members of all folds, d width of a token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dml.core.errors import InputError
from dml.core.files import atomic, read_parquet, write_parquet
from dml.core.types import Case

FOLDER, CASES, TOKENS = "case_bank", "cases.parquet", "tokens.safetensors"
PATIENT, SITE, COHORT, THUMBNAIL = "patient", "site", "cohort", "thumbnail"
HELD_OUT = "held_out"
"""Column of the patients whose tokens are of members that did not train on them."""
DAYS, EVENT = "days", "event"


@dataclass(frozen=True, slots=True)
class CaseBank:
    """Tokens and outcomes of a model's learning patients.

    Attributes
    ----------
    cases : DataFrame
        A row a patient: patient (a digest of the id, as the model's training_patient_hashes), cohort, site, held_out,
        days and event (NaN, None if unknown), a column a label, and thumbnail (JPEG, or None).
    tokens : mapping
        Branch ("tumor", "tme") to standardised tokens (n m d); NaN of members that trained on the patient.
    centre, scale : mapping
        Branch to what its tokens were standardised by (m d).
    """

    cases: pd.DataFrame
    tokens: Mapping[str, Float[np.ndarray, "n m d"]]
    centre: Mapping[str, Float[np.ndarray, "m d"]]
    scale: Mapping[str, Float[np.ndarray, "m d"]]

    @classmethod
    def of(cls, cases: pd.DataFrame, raw: Mapping[str, np.ndarray]) -> "CaseBank":
        """Standardise tokens (n m d) in the space of each member."""
        centre, scale = {}, {}
        for branch, values in raw.items():
            centre[branch], scale[branch] = _standards(values)
        tokens = {b: ((values - centre[b]) / scale[b]).astype(np.float32) for b, values in raw.items()}
        return cls(cases.reset_index(drop=True), tokens, centre, scale)

    @property
    def labels(self) -> list[str]:
        """Names of the labels."""
        fixed = {PATIENT, COHORT, SITE, HELD_OUT, DAYS, EVENT, THUMBNAIL}
        return [str(name) for name in self.cases.columns if name not in fixed]

    def standardise(self, raw: Mapping[str, Float[np.ndarray, "m d"]]) -> dict[str, np.ndarray]:
        """Bring the tokens of a patient from every member to the scale of the bank.

        Raises
        ------
        InputError
            If the bank is of another model.
        """
        if {b: v.shape for b, v in raw.items()} != {b: v.shape for b, v in self.centre.items()}:
            raise InputError("case bank", "it is of another model", "Make it again: dvc repro case_bank")
        return {branch: (values - self.centre[branch]) / self.scale[branch] for branch, values in raw.items()}

    def distances(self, raw: Mapping[str, Float[np.ndarray, "m d"]]) -> dict[str, Float[np.ndarray, "n"]]:
        """Return the distance of a patient to every case, per branch: 0 is alike, of two at random it is about 1.4.

        The root mean square over dimensions and over the members that did not train on the case, of differences in
        standard deviations: members are side by side, as if their tokens were concatenated, and where some of the case
        or of the patient (NaN) are missing, the others count. Infinite where no member has both.
        """
        return {branch: _distance(self.tokens[branch], values) for branch, values in self.standardise(raw).items()}

    def distances_of_case(self, index: int) -> dict[str, Float[np.ndarray, "n"]]:
        """Return the distance of one case to every case, per branch; infinite where no member is held out of both."""
        return {branch: _distance(values, values[index]) for branch, values in self.tokens.items()}

    def save(self, folder: Path, description: Mapping[str, Any]) -> None:
        """Write two files."""
        table = pa.Table.from_pandas(self.cases, preserve_index=False).replace_schema_metadata(None)
        write_parquet(folder / CASES, table, description)
        arrays = {f"tokens.{b}": values.astype(np.float16) for b, values in self.tokens.items()}
        arrays |= {f"centre.{b}": values.astype(np.float32) for b, values in self.centre.items()}
        arrays |= {f"scale.{b}": values.astype(np.float32) for b, values in self.scale.items()}
        with atomic(folder / TOKENS) as temporary:
            save_file({name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}, temporary)

    @classmethod
    def load(cls, folder: Path) -> "CaseBank":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If a file is missing or damaged.
        """
        cases = read_parquet(folder / CASES)[0].to_pandas()
        try:
            arrays = load_file(folder / TOKENS)
        except (SafetensorError, FileNotFoundError) as error:
            raise InputError(folder / TOKENS, f"not readable ({error})", "Run: dvc repro case_bank") from None
        parts: dict[str, dict[str, np.ndarray]] = {"tokens": {}, "centre": {}, "scale": {}}
        for name, array in arrays.items():
            kind, _, branch = name.partition(".")
            parts[kind][branch] = array.astype(np.float32)
        if any(len(values) != len(cases) for values in parts["tokens"].values()):
            raise InputError(folder, "its two files have different patients", "Run: dvc repro case_bank")
        return cls(cases, parts["tokens"], parts["centre"], parts["scale"])


def case_row(case: Case, digest: str, cohort: str, held_out: bool) -> dict[str, Any]:
    """Return a patient's row without the id."""
    known = case.survival
    follow_up = {DAYS: np.nan if known is None else known.days, EVENT: None if known is None else known.event}
    return {
        PATIENT: digest,
        COHORT: cohort,
        SITE: case.site,
        HELD_OUT: held_out,
        **follow_up,
        **case.labels,
        **case.values,
    }


def _distance(tokens: Float[np.ndarray, "n m d"], patient: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n"]:
    squares = np.square(tokens - patient[None]).mean(axis=2)
    known = np.isfinite(squares)
    count = known.sum(axis=1)
    total = np.where(known, squares, 0.0).sum(axis=1)
    return np.where(count > 0, np.sqrt(total / np.maximum(count, 1)), np.inf)


def _standards(values: Float[np.ndarray, "n m d"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every member's tokens; a constant dimension counts nothing."""
    known = np.isfinite(values[:, :, 0])
    centre, scale = np.zeros(values.shape[1:]), np.full(values.shape[1:], np.inf)
    for member in np.flatnonzero(known.sum(axis=0) > 1):
        rows = values[known[:, member], member].astype(float)
        deviation = rows.std(axis=0)
        centre[member], scale[member] = rows.mean(axis=0), np.where(deviation > 1e-6, deviation, np.inf)
    return centre.astype(np.float32), scale.astype(np.float32)
