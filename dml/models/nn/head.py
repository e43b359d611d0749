"""The prediction head over named branches, and how magnifications are fused.

    logits^m = sum_s W_s f_s^m + W_c z + g(u) + b + offset
    f_s      = sum_m w^m f_s^m,   w = softmax_m(-H(logits^m))

Optional are covariates z, clinical inputs u (`dml.data.clinical_inputs`; g has one hidden layer) and the linear model's
offset. The magnification with the more certain prediction (lower entropy H) counts more; the weights carry no gradient,
so that a magnification cannot win by large logits. Differs from the authors' code, which takes the larger softmax
confidence even of hazards.

Shape legend: b patients, m magnifications, d width, k classes or time bins, c covariates.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.core.distributions import distribution_of
from dml.core.types import Batch, Kind, ModelOutput

MIN_MAPS = 2
"""A single branch has as many linear maps as two, with a dropout mask each: all heads have the same capacity."""


class BranchHead(nn.Module):
    """A linear head with a weight per branch; further linear heads for auxiliary labels.

    Attributes
    ----------
    maps : ModuleList
        Linear maps, d to k.
    inputs : tuple of str
        The branch that each map reads.
    """

    def __init__(
        self,
        branches: Sequence[str],
        width: int,
        outputs: int,
        covariates: int,
        dropout: float,
        auxiliary: Mapping[str, int] | None = None,
        clinical: int = 0,
    ) -> None:
        super().__init__()
        self.inputs = tuple(branches) if len(branches) >= MIN_MAPS else tuple(branches) * MIN_MAPS
        self.maps = nn.ModuleList(nn.Linear(width, outputs, bias=False) for _ in self.inputs)
        self.covariates = nn.Linear(covariates, outputs, bias=False) if covariates else None
        self.bias = nn.Parameter(torch.zeros(outputs))
        joined = len(self.inputs) * width
        self.auxiliary = nn.ModuleDict({name: nn.Linear(joined, k) for name, k in (auxiliary or {}).items()})
        self.dropout = nn.Dropout(dropout)
        self.n_covariates = covariates
        self.clinical = ClinicalEffect(clinical, width, outputs) if clinical else None

    @property
    def weights(self) -> list[Tensor]:
        """Weights of the maps (each k d), in the order of `inputs`."""
        return [cast(nn.Linear, layer).weight for layer in self.maps]

    def forward(
        self, embeddings: Sequence[Float[Tensor, "*s d"]], covariates: Float[Tensor, "*s c"]
    ) -> Float[Tensor, "*s k"]:
        """Return logits for the embeddings of `inputs`, in their order."""
        terms = [layer(self.dropout(f)) for f, layer in zip(embeddings, self.maps, strict=True)]
        logits: Tensor = sum(terms[1:], start=terms[0]) + self.bias
        return logits + self.covariate_logits(covariates) if self.reads_covariates else logits

    @property
    def reads_covariates(self) -> bool:
        """Whether there are covariates or clinical inputs."""
        return self.covariates is not None or self.clinical is not None

    def covariate_logits(self, covariates: Float[Tensor, "*s c"]) -> Float[Tensor, "*s k"]:
        """Return the share of covariates and clinical inputs in the logits; there must be some."""
        known, clinical = covariates[..., : self.n_covariates], covariates[..., self.n_covariates :]
        terms: list[Tensor] = [] if self.covariates is None else [self.covariates(known)]
        terms += [] if self.clinical is None else [self.clinical(clinical)]
        return sum(terms[1:], start=terms[0])

    def branch_logits(self, embeddings: Sequence[Float[Tensor, "b d"]]) -> list[Float[Tensor, "b k"]]:
        """Return the logits of each input alone: W_s f_s plus its share of the bias."""
        share = self.bias / len(self.inputs)
        return [layer(f) + share for f, layer in zip(embeddings, self.maps, strict=True)]

    @torch.no_grad()
    def shrink(self, weight: float, constant: Float[Tensor, "k"]) -> None:
        """Multiply the logits by a weight and add a constant, in the parameters."""
        last = [*self.maps, self.covariates, None if self.clinical is None else self.clinical.last]
        for parameter in [p for layer in last if layer is not None for p in layer.parameters()]:
            parameter.mul_(weight)
        self.bias.mul_(weight).add_(constant.to(self.bias))

    def auxiliary_logits(self, embeddings: Sequence[Float[Tensor, "b d"]]) -> dict[str, Tensor]:
        """Return the logits of the auxiliary labels."""
        joined = self.dropout(torch.cat(list(embeddings), -1))
        return {name: head(joined) for name, head in self.auxiliary.items()}


class ClinicalEffect(nn.Module):
    """Logits of clinical inputs by a layer of the network's width; 0 before training."""

    def __init__(self, columns: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(columns, width), nn.Linear(width, outputs, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, columns: Float[Tensor, "*s c"]) -> Float[Tensor, "*s k"]:
        """Return the logits."""
        logits: Tensor = self.last(nn.functional.gelu(self.first(columns)))
        return logits


def entropy(logits: Float[Tensor, "*s k"], kind: Kind) -> Float[Tensor, "*s"]:
    """Entropy in nats: of the classes, the mean over the bins' Bernoulli hazards, or of a number up to a constant."""
    if kind == "regression":
        return distribution_of(logits).log_width(logits)
    if kind == "classification":
        log_p = torch.log_softmax(logits, -1)
        return -(log_p.exp() * log_p).sum(-1)
    p = torch.sigmoid(logits)
    return (nn.functional.softplus(logits) - logits * p).mean(-1)


def certainty_weights(
    logits: Float[Tensor, "b m k"], kind: Kind, has_tiles: Bool[Tensor, "b m"]
) -> Float[Tensor, "b m"]:
    """Weights of the magnifications; one without any tile has weight 0 unless all are without."""
    hidden = ~has_tiles & has_tiles.any(1, keepdim=True)
    return torch.softmax(-entropy(logits, kind).masked_fill(hidden, torch.inf), dim=-1)


def add_offset(logits: Float[Tensor, "*s k"], batch: Batch) -> Float[Tensor, "*s k"]:
    """Add the linear model's prediction of each patient, where there is one."""
    if batch.offset is None:
        return logits
    return logits + batch.offset.view(len(batch.offset), *[1] * (logits.dim() - 2), -1)


def fuse_magnifications(
    head: BranchHead, kind: Kind, batch: Batch, embeddings: Mapping[str, Sequence[Float[Tensor, "b d"]]]
) -> ModelOutput:
    """Average the embeddings of each branch over magnifications by the certainty of their predictions, and predict.

    Parameters
    ----------
    head : BranchHead
        Of the model.
    kind : str
        Of the task.
    batch : Batch
        Masks, covariates and offset.
    embeddings : mapping
        Branch to its embedding at each magnification.
    """
    by_level = [torch.stack(list(embeddings[s]), dim=1) for s in head.inputs]  # b m d
    covariates = batch.covariates[:, None].expand(-1, len(batch.levels), -1)
    has_tiles = torch.stack([level.mask.any(1) for level in batch.levels], dim=1)  # b m
    with torch.no_grad():
        logits = add_offset(head(by_level, covariates), batch)
        weights = certainty_weights(logits, kind, has_tiles)  # b m
    fused = [(weights[..., None] * levels).sum(1) for levels in by_level]
    return ModelOutput(
        embeddings=dict(zip(head.inputs, fused, strict=True)),
        logits=add_offset(head(fused, batch.covariates), batch),
        auxiliary=head.auxiliary_logits(fused),
    )
