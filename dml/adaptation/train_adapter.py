"""Training of an adapter: the last layers of a frozen encoder learn to predict expression programs of spots.

The frozen part of a network that is a sequence runs once over each view of a tile; its feature maps are cached, and
only the rest is run and trained in each epoch. A contrastive term between tile and expression can be added (InfoNCE,
van den Oord et al. 2018, arXiv 1807.03748, in both directions).

Shape legend: n tiles, t side of a tile, k programs, d width of a token, v views.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from dml.adaptation.expression_programs import ExpressionPrograms
from dml.core.errors import ConfigError, InputError
from dml.encoders.backends.low_rank import attach, changeable_layers, changes_of
from dml.encoders.backends.tile_encoder import TileEncoderRunner, resize_tiles
from dml.slides.stain import perturb_stains

_CHUNK = 32


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """How an adapter is trained; chosen on sections of her2st that were left out (docs/results/adaptation.md).

    Attributes
    ----------
    rank : int
        Rank of the change of a layer.
    layers : int
        Number of layers that change, counted from the last.
    epochs, batch_size : int
        Passes over the tiles, tiles of a step.
    learning_rate, weight_decay : float
        Of AdamW, one cycle.
    contrastive_weight, temperature : float
        Of the InfoNCE term; weight 0 leaves it out.
    views : int
        Quarter turns of each tile, 1 to 4.
    stain_augmentation : float
        Strength of a random change of the stains of all views but the first (`perturb_stains`); 0 leaves it out.
    """

    rank: int = 8
    layers: int = 10
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    contrastive_weight: float = 0.0
    temperature: float = 0.1
    views: int = 4
    stain_augmentation: float = 0.0
    seed: int = 7

    def to_dict(self) -> dict[str, float | int | str]:
        """Return the settings by name."""
        return dict(asdict(self))


class TrainableTail:
    """The trainable end of an encoder, and the cached output of its frozen part for every view of every tile."""

    def __init__(
        self, encoder: TileEncoderRunner, tiles: Sequence[UInt8[np.ndarray, "n t t 3"]], settings: AdapterSettings
    ) -> None:
        network = encoder.network
        names = [name for name, _ in changeable_layers(network)][-settings.layers :]
        if not names:
            raise InputError("encoder", "its network has no layer that can be adapted", "Adapt another encoder")
        frozen, self.tail = split_network(network, names[0])
        self.names = names
        if settings.stain_augmentation and settings.views < 2:
            raise ConfigError("stain_augmentation changes all views but the first; views must be 2 or more")
        parts = list(enumerate(tiles))
        self.maps = [
            torch.cat([self._run(encoder, frozen, _view(part, turns, number, settings)) for number, part in parts])
            for turns in range(settings.views)
        ]

    def copy_tail(self, rank: int) -> tuple[nn.Module, list[nn.Parameter]]:
        """Return a copy of the tail with a change of the given rank in each layer, and its trainable parameters."""
        tail = copy.deepcopy(self.tail)
        for module in tail.modules():
            if isinstance(module, nn.ReLU6 | nn.ReLU):
                module.inplace = False  # parametrised weights are needed again in the backward pass
        return tail, attach(tail, self.names, rank)

    @torch.no_grad()
    def _run(self, encoder: TileEncoderRunner, frozen: nn.Module, tiles: np.ndarray) -> Tensor:
        sized = resize_tiles(tiles, encoder.input_px)
        chunks = (torch.from_numpy(sized[i : i + _CHUNK]) for i in range(0, len(sized), _CHUNK))
        return torch.cat([frozen(encoder.normalise(chunk)).half() for chunk in chunks])


def _view(
    tiles: UInt8[np.ndarray, "n t t 3"], turns: int, number: int, settings: AdapterSettings
) -> UInt8[np.ndarray, "n t t 3"]:
    """Return tiles turned, and but for the first view with other stains; `number` counts the resolutions."""
    turned = np.ascontiguousarray(np.rot90(tiles, turns, axes=(1, 2)))
    if not (turns and settings.stain_augmentation):
        return turned
    return perturb_stains(turned, settings.stain_augmentation, [settings.seed, turns, number])


def split_network(network: nn.Module, first: str) -> tuple[nn.Module, nn.Module]:
    """Split a sequence before the child that holds the layer `first`; any other network has no frozen part.

    The names of layers stay those of the whole network.
    """
    if not isinstance(network, nn.Sequential):
        return nn.Identity(), network
    at = list(dict(network.named_children())).index(first.split(".")[0])
    return network[:at], network[at:]


def train_adapter(
    tail: TrainableTail, programs: ExpressionPrograms, training: Int[np.ndarray, "m"], settings: AdapterSettings
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Train an adapter on some tiles.

    Parameters
    ----------
    tail : TrainableTail
        Frozen maps of all tiles.
    programs : ExpressionPrograms
        Targets of all tiles (of several resolutions: stacked).
    training : array of int, m
        Rows of the tiles that may be trained on.
    settings : AdapterSettings
        How.

    Returns
    -------
    tail : nn.Module
        The trained end of the network, in evaluation mode.
    changes : dict
        Its changes by layer, as `low_rank.merge` takes them.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    rows = np.asarray(training)
    targets = torch.tensor(programs.values, dtype=torch.float32)
    weights = torch.tensor(programs.weights, dtype=torch.float32)
    network, changed = tail.copy_tail(settings.rank)
    with torch.no_grad():
        parts = [tail.maps[0][rows[i : i + _CHUNK]].float() for i in range(0, len(rows), _CHUNK)]
        base = torch.cat([network(part) for part in parts])
    heads = _Heads(base, targets.shape[1], settings)
    groups = [
        {"params": changed, "weight_decay": settings.weight_decay},
        {"params": list(heads.parameters()), "weight_decay": 10 * settings.weight_decay},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
    steps = -(-len(rows) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, settings.epochs * steps)
    for _ in range(settings.epochs):
        order = rng.permutation(rows)
        for batch in np.array_split(order, steps):
            view = tail.maps[int(rng.integers(settings.views))]
            loss = heads(network(view[batch].float()), targets[batch], weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval(), changes_of(network)


class _Heads(nn.Module):
    """Linear predictors of the programs, and projections of the contrastive term; thrown away after training."""

    def __init__(self, base: Float[Tensor, "n d"], programs: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.mean, self.scale = base.mean(dim=0), base.std(dim=0).clamp_min(1e-3)
        self.predict = nn.Sequential(nn.Dropout(0.3), nn.Linear(base.shape[1], programs))
        self.settings = settings
        if settings.contrastive_weight:
            self.of_tile, self.of_programs = nn.Linear(base.shape[1], 64), nn.Linear(programs, 64)

    def forward(self, tokens: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the loss of a batch: weighted squared error, and the contrastive term."""
        scaled = (tokens - self.mean) / self.scale
        loss: Tensor = ((self.predict(scaled) - targets) ** 2 * weights).sum(dim=1).mean()
        if not self.settings.contrastive_weight:
            return loss
        one = functional.normalize(self.of_tile(scaled), dim=1)
        other = functional.normalize(self.of_programs(targets * weights.sqrt()), dim=1)
        similarity = one @ other.T / self.settings.temperature
        same = torch.arange(len(tokens))
        both: Tensor = functional.cross_entropy(similarity, same) + functional.cross_entropy(similarity.T, same)
        return loss + self.settings.contrastive_weight * both / 2
