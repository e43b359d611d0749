"""The network that is pretrained: the student, the teacher's gene encoder, and heads that are thrown away afterwards.

    p_s = W_s token_s                       gene components of subspace s, from the token of subspace s
    u_s = U_s token_s,  v_s = V_s o_s       matched between slide and genes; o_s: the teacher's gene embedding

Shape legend: b patients, d width, p gene components.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dml.config import params as config
from dml.core.types import Batch, Subspace
from dml.data.dims import ModelDims
from dml.models.nn.gene_encoder import SubspaceGeneEncoder
from dml.models.student import Student

INITIAL_TEMPERATURE, LEAST_TEMPERATURE = 0.07, 0.01


@dataclass(frozen=True, slots=True)
class PairEncoding:
    """What the network makes of some pairs, by subspace.

    Attributes
    ----------
    components : mapping
        Predicted gene components (b p), in standard deviations.
    slide, genes : mapping
        Vectors of length one (b d) that are matched.
    tokens : mapping
        What both were made of: the token of each subspace (b d).
    """

    components: Mapping[str, Float[Tensor, "b p"]]
    slide: Mapping[str, Float[Tensor, "b d"]]
    genes: Mapping[str, Float[Tensor, "b d"]]
    tokens: Mapping[str, Float[Tensor, "b d"]] = field(default_factory=dict)

    def cpu(self) -> "PairEncoding":
        """Return a copy in the memory of the processor."""
        fields = (self.components, self.slide, self.genes, self.tokens)
        return PairEncoding(*({s: value.cpu() for s, value in part.items()} for part in fields))

    @classmethod
    def join(cls, parts: Sequence["PairEncoding"]) -> "PairEncoding":
        """Put the pairs of several encodings one below the other."""
        fields = [[getattr(part, name) for part in parts] for name in ("components", "slide", "genes", "tokens")]
        joined = [{s: torch.cat([each[s] for each in parts]) for s in parts[0]} for parts in fields]
        return cls(*joined)


class PretrainingNetwork(nn.Module):
    """The student and the gene encoder, with a head for each arm.

    Parameters
    ----------
    dims : ModelDims
        Of the cohort that is trained for.
    params : Params
        Sections of the architectures.
    components : mapping
        Subspace with genes to its number of gene components.
    """

    def __init__(self, dims: ModelDims, params: config.Params, components: Mapping[Subspace, int]) -> None:
        super().__init__()
        model, width = params.model, params.model.width
        self.student = Student.build(dims, params)
        genes: dict[Subspace, int] = {"tumor": dims.tumor_genes, "tme": dims.tme_genes}
        self.genes = SubspaceGeneEncoder(genes, model.gene_width, width, model.dropout)
        self.predict = nn.ModuleDict({s: nn.Linear(width, count) for s, count in components.items()})
        self.match_slide = nn.ModuleDict({s: nn.Linear(width, width, bias=False) for s in components})
        self.match_genes = nn.ModuleDict({s: nn.Linear(width, width, bias=False) for s in components})
        settings = params.pretraining
        clusters = settings.clusters if settings.clustering_weight else 0
        self.prototypes = nn.ParameterDict({s: torch.randn(clusters, width) for s in components if clusters})
        self.log_scale = nn.Parameter(torch.tensor(-math.log(INITIAL_TEMPERATURE)))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """One over the temperature, which is learned and at least `LEAST_TEMPERATURE`."""
        return self.log_scale.clamp(max=-math.log(LEAST_TEMPERATURE)).exp()

    def forward(self, batch: Batch) -> PairEncoding:
        """Encode the slides and the genes of a batch; a token is the mean over magnifications that have tiles."""
        _, by_level = self.student.encode_levels(batch, {})
        has_tiles = torch.stack([level.mask.any(1) for level in batch.levels], dim=1).float()  # b m
        weights = has_tiles / has_tiles.sum(1, keepdim=True).clamp_min(1.0)
        tokens = {s: (weights[..., None] * torch.stack(by_level[s], dim=1)).sum(1) for s in self.predict}
        genes = self.genes(batch.expression)
        return PairEncoding(
            {s: layer(tokens[s]) for s, layer in self.predict.items()},
            {s: functional.normalize(layer(tokens[s]), dim=-1) for s, layer in self.match_slide.items()},
            {s: functional.normalize(layer(genes[s]), dim=-1) for s, layer in self.match_genes.items()},
            tokens,
        )

    def initial_weights(self) -> dict[str, Tensor]:
        """Return the weights that are kept: those of the student without its heads, and of the gene encoder."""
        state = {name.removeprefix("student."): value for name, value in self.state_dict().items()}
        parts = ("project.", "aggregate.", "genes.")
        return {name: value.cpu().clone() for name, value in state.items() if name.startswith(parts)}
