"""One fold's model on disk: weights as safetensors, everything else it needs as JSON. Nothing is pickled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dml.config import params as config
from dml.core.device import torch_threads
from dml.core.errors import InputError
from dml.core.files import atomic, read_json, write_json
from dml.core.tasks import class_column, horizon_days, survival_column
from dml.core.types import Case, Cohort, ModelOutput
from dml.data.batches import Patient, PatientReader, batches
from dml.data.preprocessing import Preprocessor
from dml.models import registry
from dml.training.distillation import DistillationTargets
from dml.training.linear_offset import LinearOffset


class ModelSpec(BaseModel):
    """What a fold's model is and how it reads patients.

    `learnt` has the digest of each learning patient's id, so that nobody it was fitted on is a stranger later.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: str
    preprocessor: Preprocessor
    model: config.Model
    teacher: config.Teacher
    distillation: config.Distillation
    tiles: config.Tiles
    years: tuple[float, ...]
    members: int
    seed: int
    train_cutoff: float = 0.0
    train_risk_deviation: float = 1.0
    versions: Mapping[str, str] = {}
    linear: LinearOffset | None = None
    training_patient_hashes: tuple[str, ...] = ()

    def build(self) -> nn.Module:
        """Make one untrained member."""
        build = registry.entry(self.role).build
        assert build is not None, f"{self.role} is fitted, not trained"
        return build(self.preprocessor.dims, self)

    def reads(self, case: Case) -> bool:
        """Whether a patient has what the model cannot do without: a slide, or what a baseline says."""
        return registry.entry(self.role).accepts(case)


@dataclass(frozen=True, slots=True)
class FoldModel:
    """The trained members of one fold; predictions are their mean."""

    spec: ModelSpec
    members: tuple[nn.Module, ...]

    def save(self, folder: Path) -> None:
        """Write weights.safetensors and model.json."""
        weights = {
            f"{i}.{name}": value.detach().cpu().contiguous()
            for i, member in enumerate(self.members)
            for name, value in member.state_dict().items()
        }
        with atomic(folder / "weights.safetensors") as temporary:
            save_file(weights, temporary)
        write_json(folder / "model.json", self.spec.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> "FoldModel":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If a file is missing, damaged, or from an incompatible version.
        """
        remedy = "Train it again: dvc repro"
        try:
            spec = ModelSpec.model_validate(read_json(folder / "model.json"))
            weights = load_file(folder / "weights.safetensors")
            members = tuple(spec.build() for _ in range(spec.members))
            for i, member in enumerate(members):
                own = {name.removeprefix(f"{i}."): value for name, value in weights.items() if name.startswith(f"{i}.")}
                member.load_state_dict(own)
                member.eval()
        except (ValidationError, SafetensorError, RuntimeError, FileNotFoundError) as error:
            raise InputError(folder, f"not a model this version can load ({error})", remedy) from None
        return cls(spec, members)

    def predict(
        self,
        cohort: Cohort,
        batch_size: int = 16,
        members: Sequence[int] | None = None,
        inner_fold_of: Mapping[str, int] | None = None,
    ) -> pd.DataFrame:
        """Predict every patient of a cohort that the model can read: teacher and student, all with tokens.

        On one thread, so that the numbers are the same on every machine.

        Parameters
        ----------
        cohort : Cohort
            Any patients with features of the model's encoder.
        batch_size : int
            Patients at a time.
        members : sequence of int, optional
            Whose predictions are averaged; all by default.
        inner_fold_of : mapping, optional
            Inner folds of training patients, for a linear offset that was not fitted on their outcome.

        Returns
        -------
        DataFrame
            patient_id, then risk and survival_<days> (survival) or p_<class> (classification); one row per patient, in
            order.
        """
        read = self.reader(cohort, inner_fold_of)
        asked = range(len(self.members)) if members is None else members
        with torch_threads(1):
            patients = [read(case) for case in cohort.cases if self.spec.reads(case)]
            logits = [self._mean_outputs(branches) for branches in self._outputs(patients, batch_size, asked)]
        joined = torch.cat(logits).double().numpy() if logits else np.zeros((0, self.spec.preprocessor.dims.outputs))
        table = pd.DataFrame({"patient_id": [p.patient_id for p in patients]})
        return table.assign(**columns(joined, self.spec))

    def reader(self, cohort: Cohort, inner_fold_of: Mapping[str, int] | None = None) -> PatientReader:
        """Return what reads patients for this model."""
        return PatientReader(self.spec.preprocessor, cohort, self.spec.linear, inner_fold_of)

    def members_by_inner_fold(self, n_inner_folds: int) -> dict[int, list[int]]:
        """Return the members that were selected on each inner fold, and so did not train on it."""
        by_inner_fold: dict[int, list[int]] = {}
        for member in range(len(self.members)):
            by_inner_fold.setdefault(member % n_inner_folds, []).append(member)
        return by_inner_fold

    def lessons(self, patients: Sequence[Patient], member: int, batch_size: int = 16) -> dict[str, DistillationTargets]:
        """Return what one member teaches of each patient: nothing of a patient without transcriptome."""
        taught: dict[str, DistillationTargets] = {}
        with torch_threads(1), torch.inference_mode():
            for batch in batches(patients, self.spec.preprocessor, batch_size):
                said = self.members[member](batch)
                for i, patient in enumerate(batch.patient_ids):
                    row = slice(i, i + 1)
                    taught[patient] = DistillationTargets(
                        said["tumor"][row].clone(),
                        said["tme"][row].clone(),
                        said.logits[row].clone(),
                        batch.expression.present[row],
                    )
        return taught

    def _outputs(
        self, patients: Sequence[Patient], batch_size: int, members: Sequence[int]
    ) -> Iterator[list[ModelOutput]]:
        with torch.inference_mode():
            for batch in batches(patients, self.spec.preprocessor, batch_size):
                yield [self.members[i](batch) for i in members]

    def _mean_outputs(self, said: Sequence[ModelOutput]) -> Tensor:
        if self.spec.preprocessor.kind == "classification":
            return torch.stack([torch.softmax(b.logits, -1) for b in said]).mean(0)
        return torch.stack([torch.sigmoid(b.logits) for b in said]).mean(0)


def columns(outputs: np.ndarray, spec: ModelSpec) -> dict[str, Any]:
    """Name what a model returns: class probabilities.

    Or risk and survival at the horizons from hazards (patients x bins).
    """
    preprocessor = spec.preprocessor
    if preprocessor.kind == "classification":
        return {class_column(name): outputs[:, i] for i, name in enumerate(preprocessor.classes)}
    survival = np.cumprod(1 - outputs, axis=1)
    curves = {survival_column(y): survival_at(survival, float(horizon_days(y)), preprocessor) for y in spec.years}
    return {"risk": -survival.sum(1), **curves}


def survival_at(survival: np.ndarray, days: float, preprocessor: Preprocessor) -> np.ndarray:
    """Survival probability after some days, the hazard being constant within a bin; constant after the last follow-up.

    Parameters
    ----------
    survival : array, patients x bins
        Probability to be alive at the end of each bin.
    """
    last = (
        max(preprocessor.last_day, float(preprocessor.bin_edges[-1]) + 1.0)
        if len(preprocessor.bin_edges)
        else preprocessor.last_day
    )
    ends = np.concatenate([[0.0], preprocessor.bin_edges.astype(float), [last]])
    log_survival = np.log(np.clip(np.concatenate([np.ones((len(survival), 1)), survival], axis=1), 1e-12, 1.0))
    return np.exp([np.interp(days, ends, row) for row in log_survival])
