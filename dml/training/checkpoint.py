"""One fold's model on disk: weights as safetensors, everything else it needs as JSON. Nothing is pickled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dml.config import params as config
from dml.core.device import torch_threads
from dml.core.errors import ConfigError, InputError
from dml.core.files import atomic, read_json, write_json
from dml.core.types import Case, Cohort
from dml.data.batches import make_batches
from dml.data.linear_offset import LinearOffset
from dml.data.patient_reader import Patient, PatientReader
from dml.data.prediction_columns import output_values
from dml.data.preprocessing import Preprocessor
from dml.models import registry
from dml.models.entry import ModelEntry
from dml.models.likelihoods import LIKELIHOODS
from dml.training.distillation import DistillationTargets, split_targets

WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"


class ModelSpec(BaseModel):
    """Architecture and preprocessing of one fold's model: all of it but the weights.

    Attributes
    ----------
    name : str
        Key of the model registry.
    embed : Embed
        How its training slides were encoded, so that others are encoded in the same way.
    members : int
        Size of the ensemble.
    train_cutoff, train_risk_deviation : float
        Median and standard deviation of the training patients' risk.
    training_patient_hashes : tuple of str
        Digests of the ids of the training patients, so that they are recognised in another cohort.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    preprocessor: Preprocessor
    model: config.Model
    teacher: config.Teacher
    distillation: config.Distillation
    tiles: config.Tiles
    embed: config.Embed = config.Embed()
    years: tuple[float, ...]
    members: int
    seed: int
    train_cutoff: float = 0.0
    train_risk_deviation: float = 1.0
    versions: Mapping[str, str] = {}
    linear_offset: LinearOffset | None = None
    training_patient_hashes: tuple[str, ...] = ()

    @property
    def entry(self) -> ModelEntry:
        """The model's entry in the registry."""
        return registry.entry(self.name)

    def build(self) -> nn.Module:
        """Build one untrained member."""
        if self.entry.build is None:
            raise ConfigError(f"{self.name} is fitted by a linear model, not trained")
        return self.entry.build(self.preprocessor.dims, self)

    def accepts(self, case: Case) -> bool:
        """Whether a patient has all that the model requires."""
        return self.entry.accepts(case)


@dataclass(frozen=True, slots=True)
class FoldModel:
    """The trained ensemble of one fold; predictions are the mean over its members.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from dml.data.example_cohort import example_cohort
    >>> from dml.training.example_model import example_model
    >>> folder = Path(mkdtemp())
    >>> example_model().save(folder)
    >>> FoldModel.load(folder).predict(example_cohort(20)).columns.tolist()
    ['patient_id', 'p_low', 'p_high']
    """

    spec: ModelSpec
    members: tuple[nn.Module, ...]

    def save(self, folder: Path) -> None:
        """Write weights and description."""
        weights = {
            f"{i}.{name}": value.detach().cpu().contiguous()
            for i, member in enumerate(self.members)
            for name, value in member.state_dict().items()
        }
        with atomic(folder / WEIGHTS) as temporary:
            save_file(weights, temporary)
        write_json(folder / DESCRIPTION, self.spec.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> "FoldModel":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If a file is missing, damaged, or from an incompatible version.
        """
        try:
            spec = ModelSpec.model_validate(read_json(folder / DESCRIPTION))
            weights = load_file(folder / WEIGHTS)
            members = tuple(spec.build() for _ in range(spec.members))
            for i, member in enumerate(members):
                prefix = f"{i}."
                member.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
                member.eval()
        except (ValidationError, SafetensorError, RuntimeError, FileNotFoundError) as error:
            problem = f"not a model this version can load ({error})"
            raise InputError(folder, problem, "Train it again: dvc repro") from None
        return cls(spec, members)

    def predict(
        self,
        cohort: Cohort,
        batch_size: int = 16,
        members: Sequence[int] | None = None,
        inner_fold_of: Mapping[str, int] | None = None,
    ) -> pd.DataFrame:
        """Predict every patient of a cohort that has all that the model requires.

        On one thread, so that the numbers are the same on every machine.

        Parameters
        ----------
        cohort : Cohort
            Any patients with features of the model's encoder.
        batch_size : int
            Patients at a time.
        members : sequence of int, optional
            Members that are averaged; all by default.
        inner_fold_of : mapping, optional
            Inner folds of training patients, for a linear offset that was not fitted on their outcome.

        Returns
        -------
        DataFrame
            patient_id, then risk and survival_<days> (survival), p_<class> (classification), or value, value_lower
            and value_upper (regression); one row per patient, in order.
        """
        read = self.reader(cohort, inner_fold_of)
        chosen = range(len(self.members)) if members is None else members
        with torch_threads(1):
            patients = [read(case) for case in cohort.cases if self.spec.accepts(case)]
            batches = list(self._mean_predictions(patients, batch_size, chosen))
        likelihood, outputs = LIKELIHOODS[self.spec.preprocessor.task.kind], self.spec.preprocessor.dims.outputs
        nobody = likelihood.predictions(torch.zeros(0, outputs))
        predictions = torch.cat(batches or [nobody]).double().numpy()
        table = pd.DataFrame({"patient_id": [p.patient_id for p in patients]})
        return table.assign(**output_values(predictions, self.spec.preprocessor, self.spec.years))

    def reader(self, cohort: Cohort, inner_fold_of: Mapping[str, int] | None = None) -> PatientReader:
        """Return the preprocessing of a cohort's patients for this model."""
        return PatientReader(self.spec.preprocessor, cohort, self.spec.linear_offset, inner_fold_of)

    def distillation_targets(
        self, patients: Sequence[Patient], member: int, batch_size: int = 16
    ) -> dict[str, DistillationTargets]:
        """Return embeddings and logits of one member for each patient; no target without transcriptome."""
        targets: dict[str, DistillationTargets] = {}
        with torch_threads(1), torch.inference_mode():
            for batch in make_batches(patients, self.spec.preprocessor, batch_size):
                targets |= split_targets(batch.patient_ids, self.members[member](batch), batch.expression.present)
        return targets

    def heads(self, patients: Sequence[Patient], batch_size: int = 16) -> Float[Tensor, "m n k"]:
        """Return each member's logits without the linear offset."""
        outputs: list[Tensor] = []
        with torch_threads(1), torch.inference_mode():
            for batch in make_batches(patients, self.spec.preprocessor, batch_size):
                offset = 0.0 if batch.offset is None else batch.offset
                outputs.append(torch.stack([member(batch).logits - offset for member in self.members]))
        return torch.cat(outputs, dim=1)

    def _mean_predictions(
        self, patients: Sequence[Patient], batch_size: int, members: Sequence[int]
    ) -> Iterator[Tensor]:
        likelihood = LIKELIHOODS[self.spec.preprocessor.task.kind]
        with torch.inference_mode():
            for batch in make_batches(patients, self.spec.preprocessor, batch_size):
                logits = [self.members[i](batch).logits for i in members]
                yield torch.stack([likelihood.predictions(each) for each in logits]).mean(0)
