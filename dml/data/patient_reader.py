"""Preprocess patients: tokens with positions and parents, scaled genes and covariates, the linear offset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from dml.core.errors import ConfigError
from dml.core.types import Bag, Case, Cohort, Expression, Mpp, Source, Survival
from dml.data.linear_offset import LinearOffset
from dml.data.preprocessing import Preprocessor, covariate_values, gene_index

SLIDE_GAP_UM = 5000.0
"""Gap between the slides of one patient, which are put in a row so that tissue of different slides is never near."""
_means: WeakIdKeyDictionary = WeakIdKeyDictionary()


@dataclass(frozen=True, slots=True)
class PatientTokens:
    """One patient at one resolution: raw tokens (scaled when a batch is made), positions on the row of slides, parents.

    `parent` is the index of the coarser tile that contains each tile, -1 where there is none.
    """

    tokens: Tensor
    coords_um: Tensor | None
    parent: Tensor | None


@dataclass(frozen=True, slots=True)
class Patient:
    """A preprocessed patient, ready to be collated.

    `present` is False without transcriptome; `offset` is the linear model's prediction (see `dml.data.linear_offset`).
    """

    patient_id: str
    levels: tuple[PatientTokens, ...]
    tumor: np.ndarray
    tme: np.ndarray
    present: bool
    covariates: np.ndarray
    survival: Survival | None
    label: str | None
    auxiliary_labels: Mapping[str, str]
    offset: np.ndarray | None = None
    offset_without_genes: np.ndarray | None = None
    value: float | None = None

    @property
    def size(self) -> int:
        """Tokens at the finest level."""
        return len(self.levels[0].tokens)


class PatientReader:
    """Preprocesses the patients of one cohort.

    Parameters
    ----------
    preprocessor : Preprocessor
        Fitted scaling and gene choice.
    cohort : Cohort
        The patients' gene order.
    linear_offset : LinearOffset, optional
        Linear models whose predictions are added to the logits.
    inner_fold_of : mapping, optional
        Inner fold of each training patient: its offset was not fitted on its own outcome.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        cohort: Cohort,
        linear_offset: LinearOffset | None = None,
        inner_fold_of: Mapping[str, int] | None = None,
    ) -> None:
        self.preprocessor, self._linear_offset = preprocessor, linear_offset
        self._inner_fold_of = inner_fold_of or {}
        self._tumor = gene_index(cohort.genes, preprocessor.tumor_genes)
        self._tme = gene_index(cohort.genes, preprocessor.tme_genes)

    def __call__(self, case: Case) -> Patient:
        """Preprocess one patient; a gene the cohort does not measure takes the training mean."""
        prep = self.preprocessor
        return Patient(
            patient_id=case.patient_id,
            levels=self._levels(case),
            tumor=prep.tumor(_select_genes(case.expression, self._tumor)),
            tme=prep.tme(_select_genes(case.expression, self._tme)),
            present=case.has_expression,
            covariates=_scale_covariates(prep, case),
            survival=case.survival,
            label=case.labels.get(prep.task.name),
            auxiliary_labels={name: case.labels[name] for name in prep.auxiliary if name in case.labels},
            offset=self._offset(case),
            offset_without_genes=self._offset(replace(case, expression=None)),
            value=case.values.get(prep.task.name),
        )

    def measured(self, cases: Sequence[Case]) -> Expression:
        """Return the scaled transcriptomes of the patients that have one.

        Raises
        ------
        ConfigError
            If nobody has.
        """
        prep, profiles = self.preprocessor, [case.expression for case in cases if case.expression is not None]
        if not profiles:
            raise ConfigError("completed_genes needs learning patients with a transcriptome")
        tumor = np.stack([prep.tumor(_select_genes(x, self._tumor)) for x in profiles])
        tme = np.stack([prep.tme(_select_genes(x, self._tme)) for x in profiles])
        present = torch.ones(len(profiles), dtype=torch.bool)
        return Expression(torch.from_numpy(tumor), torch.from_numpy(tme), present)

    def source_rows(self, cases: Sequence[Case]) -> dict[Source, np.ndarray]:
        """Return the inputs of a linear model; NaN where missing.

        They are mean tokens of `linear_mpps`, raw genes, and the clinical inputs of a model that has some.
        """
        genes = [np.concatenate([_select_genes(c.expression, at) for at in (self._tumor, self._tme)]) for c in cases]
        rows: dict[Source, np.ndarray] = {
            "slide": np.array([self._mean_tokens(case) for case in cases]),
            "genes": np.array(genes),
        }
        if self.preprocessor.clinical is not None:
            rows["clinical"] = np.array([self.preprocessor.clinical.linear_row(case) for case in cases])
        return rows

    def _mean_tokens(self, case: Case) -> np.ndarray:
        width = len(self.preprocessor.tokens.mean)
        bags = [case.bags.get(Mpp(mpp)) for mpp in self.preprocessor.linear_mpps]
        means = [np.full(width, np.nan) if b is None or not len(b) else mean_token(b) for b in bags]
        return np.concatenate(means)

    def _offset(self, case: Case) -> np.ndarray | None:
        if self._linear_offset is None:
            return None
        inner_fold = self._inner_fold_of.get(case.patient_id)
        offset: np.ndarray = self._linear_offset(self.source_rows([case]), [inner_fold])[0]
        return offset

    def _levels(self, case: Case) -> tuple[PatientTokens, ...]:
        bags = [case.bags.get(Mpp(mpp)) for mpp in self.preprocessor.mpps]
        offsets = slide_offsets([bag for bag in bags if bag is not None])
        coords = [None if bag is None else _shift_slides(bag, offsets) for bag in bags]
        parents = [
            None if fine is None or coarse is None else find_parents(fine, coarse)
            for fine, coarse in zip(bags, [*bags[1:], None], strict=True)
        ]
        width = len(self.preprocessor.tokens.mean)
        return tuple(
            PatientTokens(torch.zeros(0, width) if bag is None else bag.tokens, positions, parent)
            for bag, positions, parent in zip(bags, coords, parents, strict=True)
        )


def mean_token(bag: Bag) -> np.ndarray:
    """Return the mean of a bag's tokens, float64 [d], read only; the linear models of every fold and pass ask for it.

    It is computed once for each tensor of tokens, in float64: a bag of 5,000 x 1,024 takes 10 ms.
    """
    if bag.tokens not in _means:
        mean = bag.tokens.double().mean(0).numpy()
        mean.flags.writeable = False
        _means[bag.tokens] = mean
    known: np.ndarray = _means[bag.tokens]
    return known


def slide_offsets(bags: Sequence[Bag]) -> dict[int, float]:
    """Return the position (microns to the right) of each slide when a patient's slides are put in a row."""
    ends: dict[int, float] = {}
    for bag in bags:
        if bag.coords_um is not None:
            for slide in set(bag.slide.tolist()):
                end = float(bag.coords_um[bag.slide == slide, 0].max()) + bag.tile_um / 2
                ends[slide] = max(ends.get(slide, 0.0), end)
    offsets, position = {}, 0.0
    for slide in sorted(ends):
        offsets[slide] = position
        position += ends[slide] + SLIDE_GAP_UM
    return offsets


def _shift_slides(bag: Bag, offsets: Mapping[int, float]) -> Tensor | None:
    if bag.coords_um is None:
        return None
    shift = torch.zeros_like(bag.coords_um)
    for slide, offset in offsets.items():
        shift[bag.slide == slide, 0] = offset
    return bag.coords_um + shift


def find_parents(fine: Bag, coarse: Bag) -> Tensor | None:
    """Index of the coarse tile that contains the centre of each fine tile on the same slide, -1 where there is none."""
    if fine.coords_um is None or coarse.coords_um is None:
        return None
    parent = torch.full((len(fine),), -1, dtype=torch.long)
    for slide in set(fine.slide.tolist()):
        on_coarse = torch.nonzero(coarse.slide == slide)[:, 0]
        on_fine = torch.nonzero(fine.slide == slide)[:, 0]
        if len(on_coarse):
            centres = coarse.coords_um[on_coarse]
            corner = centres.min(0).values - coarse.tile_um / 2
            cells = _cells(centres - corner, coarse.tile_um)
            order = torch.argsort(cells, stable=True)
            asked = _cells(fine.coords_um[on_fine] - corner, coarse.tile_um)
            at = torch.searchsorted(cells[order], asked, right=True) - 1  # the last of several in one cell
            inside = (at >= 0) & (cells[order][at.clamp_min(0)] == asked)
            parent[on_fine] = torch.where(inside, on_coarse[order][at.clamp_min(0)], -1)
    return parent


def _cells(positions: Tensor, side: float) -> Tensor:
    """Return one number for the cell of a grid that each position is in."""
    x, y = torch.floor(positions / side).long().unbind(1)
    return (x << 32) + y


def _select_genes(values: np.ndarray | None, index: np.ndarray) -> np.ndarray:
    if values is None:
        return np.full(len(index), np.nan, dtype=np.float32)
    return np.where(index >= 0, values[np.maximum(index, 0)], np.nan).astype(np.float32)


def _scale_covariates(preprocessor: Preprocessor, case: Case) -> np.ndarray:
    raw = np.array(covariate_values(case, preprocessor.covariate_names), dtype=np.float32)
    clinical = [] if preprocessor.clinical is None else [preprocessor.clinical(case)]
    return np.concatenate([preprocessor.covariates(raw), ~np.isfinite(raw), *clinical]).astype(np.float32)
