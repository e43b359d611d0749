"""Contributions of every tile and gene of one patient to the output of a model, averaged over its ensemble.

Examples
--------
>>> from dml.data.example_cohort import example_cohort
>>> from dml.training.example_model import example_model
>>> result = attribute([example_model()], example_cohort(20).subset({"P001"}))
>>> result.outputs, [(part.branch, part.mpp) for part in result.tiles]
(('low', 'high'), [('slide', 0.5), ('slide', 1.0)])
>>> bool((abs(result.residual) < 1e-3).all())
True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from dml.attribution.linear_share import OffsetShares, offset_shares
from dml.attribution.outputs import output_names, output_scale
from dml.attribution.path_integral import MemberContributions, contributions_of
from dml.core.device import torch_threads
from dml.core.errors import InputError
from dml.core.types import SUBSPACES, Bag, Cohort, Mpp, Subspace
from dml.data.batches import collate
from dml.training.checkpoint import FoldModel

LINEAR = "linear"
"""Branch of the linear offset: its share of a tile is that of the tile's token in the patient's mean token."""
OTHER = "other"
"""Of the genes that are in no gene set."""


@dataclass(frozen=True, slots=True)
class TileContributions:
    """Contributions of the tiles of one resolution through one branch.

    Attributes
    ----------
    branch : str
        "tumor" and "tme" of teacher and student, "slide" or the like of baselines, or "linear" (the linear offset).
    mpp : float
        Resolution, microns per pixel; `tile_um` is the side of a tile in microns.
    coords_um : array, n 2
        Centres of the tiles, microns from the corner of their slide; NaN for features without coordinates.
    slide : array, n
        Number of the patient's slide.
    attention : array, n
        Share of the branch's attention, of sum 1; uniform for the linear offset.
    contribution, deviation : array, n o
        Contribution to each output, mean and standard deviation over the members of all folds.
    """

    branch: str
    mpp: float
    tile_um: float
    coords_um: Float[np.ndarray, "n 2"]
    slide: Int[np.ndarray, "n"]
    attention: Float[np.ndarray, "n"]
    contribution: Float[np.ndarray, "n o"]
    deviation: Float[np.ndarray, "n o"]


@dataclass(frozen=True, slots=True)
class GeneContributions:
    """Contributions of the genes of one group ("tumor" or "tme") to each output; by gene, and over the members."""

    group: Subspace
    genes: tuple[str, ...]
    contribution: Float[np.ndarray, "g o"]
    deviation: Float[np.ndarray, "g o"]

    def of_sets(self, sets: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
        """Sum the contributions of each gene set (o); genes outside of all sets are ``other``, so that sums remain.

        A gene in several sets is divided among them equally.
        """
        return dict(zip([*sets, OTHER], self._shares(sets) @ self.contribution, strict=True))

    def deviation_of_sets(self, sets: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
        """Return the deviation over the members of each sum of `of_sets` (o), genes taken as independent."""
        deviations = np.sqrt(self._shares(sets) ** 2 @ self.deviation**2)
        return dict(zip([*sets, OTHER], deviations, strict=True))

    def _shares(self, sets: Mapping[str, Sequence[str]]) -> np.ndarray:
        """Share of each gene that a set has (sets g); the last row is of the genes of no set."""
        known = [set(genes) for genes in sets.values()]
        shares = np.array([[gene in genes for gene in self.genes] for genes in known], float)
        shares = shares.reshape(len(known), len(self.genes))
        count = shares.sum(0)
        return np.concatenate([shares / np.maximum(count, 1), (count == 0)[None].astype(float)])


@dataclass(frozen=True, slots=True)
class Attribution:
    """What tiles and genes contributed to the outputs of a model for one patient.

    Attributes
    ----------
    patient_id : str
        The patient.
    outputs : tuple of str
        Names of the outputs: ``risk`` (in standard deviations of the training risk, 0 the cut-off), or the classes
        (logits, less their mean).
    output, reference : array, o
        Mean of the members' outputs for the patient, and for a patient of mean tokens and genes.
    tiles : tuple of TileContributions
        A part per branch and resolution.
    genes : tuple of GeneContributions
        A part per group; empty for a model or a patient without transcriptome.
    """

    patient_id: str
    outputs: tuple[str, ...]
    output: Float[np.ndarray, "o"]
    reference: Float[np.ndarray, "o"]
    tiles: tuple[TileContributions, ...]
    genes: tuple[GeneContributions, ...]

    @property
    def residual(self) -> Float[np.ndarray, "o"]:
        """Output less reference less all contributions: the error of the quadrature."""
        parts = [part.contribution.sum(0) for part in self.tiles] + [part.contribution.sum(0) for part in self.genes]
        return np.asarray(self.output - self.reference - np.sum(parts, axis=0))

    def part(self, branch: str, mpp: float) -> TileContributions:
        """Return the tiles of one branch at one resolution.

        Raises
        ------
        InputError
            If there is none.
        """
        for part in self.tiles:
            if part.branch == branch and abs(part.mpp - mpp) < 1e-6:
                return part
        known = ", ".join(f"{part.branch} at {part.mpp:g}" for part in self.tiles)
        raise InputError("attribution", f"no branch {branch} at {mpp:g} microns per pixel", f"There are: {known}")


def attribute(folds: Sequence[FoldModel], patient: Cohort) -> Attribution:
    """Attribute the mean output of all members of all folds for one patient.

    Parameters
    ----------
    folds : sequence of FoldModel
        One fold's model, or the folds of a registered version (``Ensemble.folds``).
    patient : Cohort
        Of one case, with its tokens, and the genes' order where it has a transcriptome.

    Raises
    ------
    InputError
        If the patient lacks what the model requires.
    ConfigError
        If the model has no branches, as a linear one.
    """
    (case,) = patient.cases
    spec = folds[0].spec
    if not spec.accepts(case):
        raise InputError(f"patient {case.patient_id}", f"not all that {spec.name} requires", "Give a slide with tiles")
    with torch_threads(1):
        members = [member for fold in folds for member in _fold_members(fold, patient)]
    first = members[0]
    bags = [case.bags.get(Mpp(mpp)) for mpp in spec.preprocessor.mpps]
    tiles = tuple(
        _tiles(branch, bag, [m.tiles[branch, i] for m in members], [m.attention[branch, i] for m in members])
        for branch, i in first.tiles
        if (bag := bags[i]) is not None and len(bag)
    )
    has_genes = case.has_expression and "genes" in spec.entry.inputs
    genes = tuple(_genes(s, folds, [m.genes[s] for m in members]) for s in SUBSPACES) if has_genes else ()
    output, reference = (np.mean([getattr(m, name) for m in members], axis=0) for name in ("output", "reference"))
    return Attribution(case.patient_id, output_names(spec.preprocessor), output, reference, tiles, genes)


@dataclass(frozen=True, slots=True)
class _Member:
    """One member's contributions on the scale of its fold."""

    tiles: Mapping[tuple[str, int], np.ndarray]
    genes: Mapping[Subspace, np.ndarray]
    attention: Mapping[tuple[str, int], np.ndarray]
    output: np.ndarray
    reference: np.ndarray


def _fold_members(fold: FoldModel, patient: Cohort) -> list[_Member]:
    spec, (case,) = fold.spec, patient.cases
    batch = collate([fold.reader(patient)(case)], spec.preprocessor)
    shares = None if spec.linear_offset is None else offset_shares(spec.linear_offset, spec.preprocessor, patient)
    reference = None if shares is None else torch.from_numpy(shares.reference[None]).float()
    kind = spec.preprocessor.task.kind
    scale, centre = output_scale(spec)
    return [_scaled(contributions_of(member, batch, reference, kind), shares, scale, centre) for member in fold.members]


def _scaled(member: MemberContributions, shares: OffsetShares | None, scale: float, centre: float) -> _Member:
    """Add the linear offset's shares, and express all in units of the fold's risk."""
    tiles = {key: part.double().numpy() / scale for key, part in member.tiles.items()}
    attention = {key: part.double().numpy() for key, part in member.attention.items()}
    genes: dict[Subspace, np.ndarray] = {
        s: np.sum([part.double().numpy() for (_, group), part in member.genes.items() if group == s], axis=0) / scale
        for s in SUBSPACES
    }
    if shares is not None:
        slope = member.output_gradient.double().numpy().T / scale  # k o, of one column where one offset is for all
        slope = slope if shares.reference.shape == slope.shape[:1] else slope.sum(0, keepdims=True)
        for i, share in enumerate(shares.tiles):
            tiles[LINEAR, i] = share @ slope
            attention[LINEAR, i] = np.full(len(share), 1 / max(len(share), 1))
        genes = {s: genes[s] + shares.genes[s] @ slope for s in SUBSPACES}
    output, reference = ((part.double().numpy() - centre) / scale for part in (member.output, member.reference))
    return _Member(tiles, genes, attention, output, reference)


def _tiles(
    branch: str, bag: Bag, contributions: Sequence[np.ndarray], attention: Sequence[np.ndarray]
) -> TileContributions:
    n = len(bag)
    coords = np.full((n, 2), np.nan) if bag.coords_um is None else bag.coords_um.double().numpy()
    each = np.stack([part[:n] for part in contributions])
    mean = np.mean([part[:n] for part in attention], axis=0)
    return TileContributions(
        branch, float(bag.mpp), float(bag.tile_um), coords, bag.slide.numpy(), mean, each.mean(0), each.std(0)
    )


def _genes(group: Subspace, folds: Sequence[FoldModel], contributions: Sequence[np.ndarray]) -> GeneContributions:
    """Average over the members; folds measure the same genes, in the same order."""
    prepared = folds[0].spec.preprocessor
    each = np.stack(list(contributions))
    names = prepared.tumor_genes if group == "tumor" else prepared.tme_genes
    return GeneContributions(group, names, each.mean(0), each.std(0))
