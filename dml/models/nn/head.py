"""The prediction head over named subspace tokens, and how magnifications are combined.

    logits^m = W_T f_T^m + W_M f_M^m + W_c z + b + start  z: clinical covariates, start: linear model, both optional
    f_s      = sum_m w^m f_s^m,   w = softmax_m(-H(logits^m))

The magnification with the more certain prediction (lower entropy H) counts more; the weights carry no gradient, so that
a magnification cannot win by being loud. Differs from the authors' code, which takes the larger softmax confidence even
of hazards.

Shape legend: b patients, m magnifications, d width, k classes or time bins, c covariates.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.core.types import SUBSPACES, Batch, Kind, ModelOutput, Subspace
from dml.data.dims import ModelDims
from dml.models.entry import ModelSections


class SubspaceHead(nn.Module):
    """A linear head whose weight is two halves, one per subspace; further linear heads for auxiliary labels."""

    def __init__(
        self, width: int, outputs: int, covariates: int, dropout: float, auxiliary: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.tumor = nn.Linear(width, outputs, bias=False)
        self.tme = nn.Linear(width, outputs, bias=False)
        self.covariates = nn.Linear(covariates, outputs, bias=False) if covariates else None
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.auxiliary = nn.ModuleDict({name: nn.Linear(2 * width, k) for name, k in (auxiliary or {}).items()})
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tumor: Float[Tensor, "*s d"], tme: Float[Tensor, "*s d"], covariates: Float[Tensor, "*s c"]
    ) -> Float[Tensor, "*s k"]:
        """Return logits."""
        logits: Tensor = self.tumor(self.dropout(tumor)) + self.tme(self.dropout(tme)) + self.bias
        return logits if self.covariates is None else logits + self.covariates(covariates)

    def halves(self, tumor: Float[Tensor, "b d"], tme: Float[Tensor, "b d"]) -> tuple[Tensor, Tensor]:
        """Return what each subspace alone would say: W_s f_s + b / 2 (each b k)."""
        return self.tumor(tumor) + self.bias / 2, self.tme(tme) + self.bias / 2

    def others(self, tumor: Float[Tensor, "b d"], tme: Float[Tensor, "b d"]) -> dict[str, Tensor]:
        """Return the logits of the auxiliary labels."""
        both = self.dropout(torch.cat([tumor, tme], -1))
        return {name: head(both) for name, head in self.auxiliary.items()}


class SubspaceModel(nn.Module):
    """A model that predicts through a SubspaceHead: what the loop asks of every model it trains."""

    head: SubspaceHead

    @classmethod
    def build(cls, dims: ModelDims, sections: ModelSections) -> "SubspaceModel":
        """Build an untrained model from the sections of params.yaml."""
        return cls(dims, sections.model)


def entropy(logits: Float[Tensor, "*s k"], kind: Kind) -> Float[Tensor, "*s"]:
    """Entropy in nats: of the classes, or the mean over the bins' Bernoulli hazards."""
    if kind == "classification":
        log_p = torch.log_softmax(logits, -1)
        return -(log_p.exp() * log_p).sum(-1)
    p = torch.sigmoid(logits)
    return (nn.functional.softplus(logits) - logits * p).mean(-1)


def certainty_weights(logits: Float[Tensor, "b m k"], kind: Kind, seen: Bool[Tensor, "b m"]) -> Float[Tensor, "b m"]:
    """Weights of the magnifications; one without any tile counts nothing unless all are without."""
    hidden = ~seen & seen.any(1, keepdim=True)
    return torch.softmax(-entropy(logits, kind).masked_fill(hidden, torch.inf), dim=-1)


def started(logits: Float[Tensor, "*s k"], batch: Batch) -> Float[Tensor, "*s k"]:
    """Add what the linear model says of each patient, where there is one."""
    if batch.offset is None:
        return logits
    return logits + batch.offset.view(len(batch.offset), *[1] * (logits.dim() - 2), -1)


def combined(
    head: SubspaceHead,
    kind: Kind,
    batch: Batch,
    tokens: dict[Subspace, list[Tensor]],
    attention: dict[Subspace, list[Tensor]],
) -> ModelOutput:
    """Combine the magnifications of each subspace token by the certainty of their predictions, and predict."""
    by_level = {s: torch.stack(tokens[s], dim=1) for s in SUBSPACES}  # b m d
    covariates = batch.covariates[:, None].expand(-1, len(batch.levels), -1)
    seen = torch.stack([level.mask.any(1) for level in batch.levels], dim=1)  # b m
    with torch.no_grad():
        logits = started(head(by_level["tumor"], by_level["tme"], covariates), batch)
        weights = certainty_weights(logits, kind, seen)  # b m
    mixed = {s: (weights[..., None] * by_level[s]).sum(1) for s in SUBSPACES}
    return ModelOutput(
        embeddings=mixed,
        logits=started(head(mixed["tumor"], mixed["tme"], batch.covariates), batch),
        attention={s: tuple(attention[s]) for s in SUBSPACES},
        auxiliary=head.others(mixed["tumor"], mixed["tme"]),
    )
