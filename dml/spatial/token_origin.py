"""The tiles that the student's aggregated tokens come from.

    token r = sum_n a_rn tile_n,  read by its subspace with weight w_r (the gate)
    origin_n = sum_r w_r a_rn                            of sum 1 over the tiles of a unit

With density peaks, or without aggregation, the model's attention is the origin already. The effective number of tiles
of a token is exp(entropy of a_r), and of tokens exp(entropy of w).

Shape legend: n tiles, r tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dml.core.device import torch_threads
from dml.core.types import SUBSPACES, Cohort, MagnificationTokens
from dml.data.batches import collate
from dml.models.nn.aggregation import SubspaceQueries
from dml.models.student import Student
from dml.training.checkpoint import FoldModel


@dataclass(frozen=True, slots=True)
class TokenOrigin:
    """The origin (n) of the aggregated tokens of one subspace at one magnification, mean over members.

    `tokens` is their number, `effective_tokens` and `effective_tiles` (of a token, weighted) how many count.
    """

    subspace: str
    mpp: float
    origin: Float[np.ndarray, "n"]
    tokens: int
    effective_tokens: float
    effective_tiles: float


def token_origins(folds: Sequence[FoldModel], patient: Cohort) -> list[TokenOrigin]:
    """Trace the aggregated tokens of one unit to its tiles; nothing for a model that aggregates by no queries.

    Parameters
    ----------
    patient : Cohort
        Of one case.
    """
    (case,) = patient.cases
    members: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for fold in folds:
        with torch_threads(1), torch.inference_mode():
            batch = collate([fold.reader(patient)(case)], fold.spec.preprocessor)
            for member in fold.members:
                if isinstance(member, Student) and isinstance(member.aggregate, SubspaceQueries):
                    for i, level in enumerate(batch.levels):
                        if level.mask.any():
                            tokens = member.project(level.tokens, i)
                            for s in SUBSPACES:
                                traced = _trace(member.aggregate, s, tokens, level)
                                members.setdefault((s, i), []).append(traced)
    mpps = folds[0].spec.preprocessor.mpps
    return [_summarise(s, float(mpps[i]), each) for (s, i), each in members.items()]


def _trace(
    aggregate: SubspaceQueries, subspace: str, tokens: Tensor, level: MagnificationTokens
) -> tuple[np.ndarray, np.ndarray]:
    """Return the attention of each query (r n) and the weight of its token (r), for one patient.

    Queries attend independently of one another, so that one query alone has the attention it has among others.
    """
    queries = dict(aggregate.queries.items())
    attended, _ = aggregate.attend(queries, tokens, level)
    gate = torch.softmax(aggregate.gate[subspace](aggregate.norm[subspace](attended[subspace])), dim=1)[0, :, 0]
    rows = []
    for r in range(len(queries[subspace])):
        _, attention = aggregate.attend({s: query[r : r + 1] for s, query in queries.items()}, tokens, level)
        rows.append(attention[subspace][0])
    return torch.stack(rows).double().numpy(), gate.double().numpy()


def _summarise(subspace: str, mpp: float, members: Sequence[tuple[np.ndarray, np.ndarray]]) -> TokenOrigin:
    origin = np.mean([weights @ attention for attention, weights in members], axis=0)
    effective = float(np.mean([_effective(weights) for _, weights in members]))
    tiles = float(np.mean([weights @ [_effective(row) for row in attention] for attention, weights in members]))
    return TokenOrigin(subspace, mpp, origin, len(members[0][1]), effective, tiles)


def _effective(shares: Float[np.ndarray, "n"]) -> float:
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))
