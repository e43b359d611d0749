"""Out-of-fold predictions of an ensemble, and the ensemble shrunk towards its linear reference by their evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dml.core.types import NumberTarget, Target
from dml.data.batches import make_target, select_patients
from dml.data.linear_offset import LinearOffset
from dml.data.patient_reader import Patient
from dml.data.prediction_columns import output_values
from dml.data.preprocessing import Preprocessor
from dml.models.likelihoods import LIKELIHOODS, log_likelihood
from dml.training.checkpoint import FoldModel, ModelSpec
from dml.training.cross_fitted_epoch import divide, strata_of
from dml.training.shrinkage import Shrinkage, fit_shrinkage


@dataclass(frozen=True, slots=True)
class LinearReference:
    """The linear model of a fold, and its predictions (k) of each learning patient, none fitted on its own outcome."""

    offset: LinearOffset
    predictions: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Logits of training patients by members that did not train on them, at epochs that were not chosen on them.

    Attributes
    ----------
    patient_ids : tuple of str
        Patients with a known target, each once.
    head : Tensor, n k
        Logits of the network without the linear offset, mean over the members that validated the patient.
    offset : Tensor, n 1 or n k
        The linear reference's predictions.
    offset_weight : float
        Factor on the linear reference in `logits`.
    target : Target
        What was observed.
    preprocessor : Preprocessor
        Of the fold.
    """

    patient_ids: tuple[str, ...]
    head: Float[Tensor, "n k"]
    offset: Float[Tensor, "n _"]
    offset_weight: float
    target: Target
    preprocessor: Preprocessor

    @classmethod
    def average(
        cls,
        members: Sequence[Mapping[str, np.ndarray]],
        patients: Sequence[Patient],
        reference: LinearReference | None,
        spec: ModelSpec,
    ) -> "OutOfFold":
        """Join what members predicted of their validation patients.

        Parameters
        ----------
        members : sequence of mapping
            Of each member: validation patient to its logits (k).
        patients : sequence of Patient
            All patients of the training, for their targets.
        reference : LinearReference, optional
            Without it the offset is zero.
        spec : ModelSpec
            With the linear offset that was added in training.
        """
        validated = [p for p in patients if any(p.patient_id in member for member in members)]
        ids = tuple(p.patient_id for p in validated)
        rows = [np.mean([member[patient] for member in members if patient in member], axis=0) for patient in ids]
        offset = torch.zeros(len(ids), 1)
        if reference is not None:
            offset = torch.from_numpy(np.array([reference.predictions[patient] for patient in ids]))
        added = float(spec.linear_offset is not None)
        head = torch.from_numpy(np.array(rows)) - added * offset
        return cls(ids, head, offset, added, make_target(validated, spec.preprocessor), spec.preprocessor)

    @property
    def logits(self) -> Float[Tensor, "n k"]:
        """Logits of the predictions."""
        return self.head + self.offset_weight * self.offset

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood."""
        return float(-log_likelihood(self.logits, self.target).mean())

    def fit(self, deviation: float) -> Shrinkage:
        """Fit the weights of network and linear reference."""
        return fit_shrinkage(self.head, self.offset, self._base, self.target, deviation)

    def shrunk(self, deviation: float, seed: int) -> "OutOfFold":
        """Return the predictions of the shrunk network, each with weights that were not fitted to its outcome.

        The weights are fitted to one half of the patients and applied to the other.
        """
        half = divide(strata_of(self.target), seed)
        if not (half.any() and (~half).any()):
            return self._weighed(self.fit(deviation))
        first, second = (self._weighed(self._part(part).fit(deviation)) for part in (half, ~half))
        logits = torch.where(half[:, None], second.logits, first.logits)
        return replace(self, head=logits, offset_weight=0.0)

    def _weighed(self, shrinkage: Shrinkage) -> "OutOfFold":
        head = shrinkage(self.head, torch.zeros_like(self.offset), self._base)
        return replace(self, head=head, offset_weight=shrinkage.linear)

    def _part(self, chosen: Bool[Tensor, "n"]) -> "OutOfFold":
        ids = tuple(patient for patient, is_chosen in zip(self.patient_ids, chosen.tolist(), strict=True) if is_chosen)
        target = select_patients(self.target, chosen)
        return replace(self, patient_ids=ids, head=self.head[chosen], offset=self.offset[chosen], target=target)

    def correct_intervals(self) -> "OutOfFold":
        """Return the same with intervals of numbers as wide as these predictions show that they must be."""
        if not isinstance(self.target, NumberTarget):
            return self
        predictions = LIKELIHOODS["regression"].predictions(self.logits).double().numpy()
        scale = self.preprocessor.target_scale.with_margin(predictions, self.target.value.double().numpy())
        return replace(self, preprocessor=self.preprocessor.model_copy(update={"target_scale": scale}))

    def table(self, years: Sequence[float]) -> pd.DataFrame:
        """Return the predictions as `FoldModel.predict` does."""
        likelihood = LIKELIHOODS[self.preprocessor.task.kind]
        predictions = likelihood.predictions(self.logits).double().numpy()
        table = pd.DataFrame({"patient_id": list(self.patient_ids)})
        return table.assign(**output_values(predictions, self.preprocessor, years))

    @property
    def _base(self) -> Float[Tensor, "k"]:
        return torch.from_numpy(np.asarray(self.preprocessor.base_logits))


def shrink(model: FoldModel, shrinkage: Shrinkage, reference: LinearOffset, variance_ratio: float = 1.0) -> FoldModel:
    """Return a model whose networks (changed in place) and linear offset have their weights."""
    base = torch.from_numpy(np.asarray(model.spec.preprocessor.base_logits))
    for member in model.members:
        shrinkage.apply(member, base, variance_ratio)
    update = {"linear_offset": shrinkage.apply_to_offset(reference)}
    return FoldModel(model.spec.model_copy(update=update), model.members)


def variance_ratio(heads: Float[Tensor, "m n k"]) -> float:
    """Return how much more one member's logits vary among patients than the mean of all members', at least 1."""
    single, mean = float(heads.var(dim=1).mean(0).sum()), float(heads.mean(0).var(dim=0).sum())
    return max(single / mean, 1.0) if mean > 0 else 1.0
