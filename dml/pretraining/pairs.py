"""Slides with expression of several cohorts, on the same genes, each cohort scaled within itself.

Genes are aligned by symbol: those of the groups of the cohort that is trained for, in its order. Tokens and genes are
scaled by the moments of their own cohort, so that neither the scanner nor the unit of expression tells cohorts apart.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dml.config import params as config
from dml.core.errors import InputError
from dml.core.tasks import SurvivalTask
from dml.core.types import SUBSPACES, Case, Cohort, GeneGroups, Mpp
from dml.data.cohort_store import CohortStore
from dml.data.patient_reader import Patient, PatientReader
from dml.data.preprocessing import Preprocessor, Scaling, fit_inputs, gene_index, measured_genes
from dml.training.folds import Fold

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pair:
    """A patient with slide and expression.

    `cohort` is its number among the cohorts, `number` that of the patient: equal numbers are the same patient. The site
    is read by `site_signal` only.
    """

    patient: Patient
    cohort: int
    number: int
    site: str

    @property
    def size(self) -> int:
        """Tokens at the finest level."""
        return self.patient.size


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs to learn from and pairs that are held out, with the scaling of each cohort.

    Attributes
    ----------
    training : list of Pair
        All pairs of other cohorts, and those of the learning patients that are not held out.
    held_out : list of Pair
        Learning patients of the first inner fold, for numbers only.
    preprocessors : tuple of Preprocessor
        By number of cohort; 0 is the one that is trained for.
    counts : mapping
        Cohort to its training pairs.
    """

    training: list[Pair]
    held_out: list[Pair]
    preprocessors: tuple[Preprocessor, ...]
    counts: dict[str, int]


def read_other_cohorts(params: config.Params) -> list[Cohort]:
    """Read the cohorts of `pretraining.cohorts`.

    Raises
    ------
    InputError
        If one was not imported.
    """
    cohorts = []
    for name in params.other_cohorts:
        store = CohortStore.of(name)
        if not store.patients_path.exists() or not (store.features_folder / params.embed.encoder).exists():
            problem = f"pretraining.cohorts names it, and it has no features of {params.embed.encoder}"
            remedy = f"dml cohort import {name} and dml cohort use {name}, then dvc repro check_features, and back"
            raise InputError(f"cohort {name}", problem, remedy)
        cohorts.append(store.cohort(params.embed.encoder, params.tiles.mpps))
    return cohorts


def make_pairs(fold: Fold, others: Sequence[Cohort], params: config.Params, test_patients: Collection[str]) -> Pairs:
    """Align, check and scale all cohorts.

    Test patients, and other versions of the learning patients, are left out of the other cohorts by their ids.

    Raises
    ------
    InputError
        If a cohort has features of another encoder, width or resolution, or lacks genes.
    """
    forbidden = set(test_patients)
    learning = without_outcomes(fold.learning)
    groups = GeneGroups(measured_genes(learning, "tumor"), measured_genes(learning, "tme"))
    target = align(learning, groups)
    known = forbidden | {case.patient_id for case in learning.cases}
    cohorts = [target]
    for other in others:
        check_genes(other, groups, params.checks.min_gene_coverage)
        others_only = tuple(case for case in other.cases if case.patient_id not in known)
        if len(others_only) < len(other.cases):
            left_out = len(other.cases) - len(others_only)
            log.info("pretraining: %d patients of %s are of %s, too", left_out, other.name, learning.name)
        cohorts.append(align(without_outcomes(replace(other, cases=others_only)), groups))
    cohorts = [replace(cohort, cases=tuple(c for c in cohort.cases if is_pair(c))) for cohort in cohorts]
    for cohort in cohorts:
        check_features(cohort, cohorts[0])
    # the scaling of the own cohort is that of the training that follows: of all learning patients
    scaled = [target, *cohorts[1:]]
    preprocessors = tuple(fit_scaling(cohort, params) for cohort in scaled)
    numbers: dict[str, int] = {}
    training: list[Pair] = []
    held_out: list[Pair] = []
    validated = {case.patient_id for case in fold.validation(0).cases}
    for index, (cohort, preprocessor) in enumerate(zip(cohorts, preprocessors, strict=True)):
        read = PatientReader(preprocessor, cohort)
        for case in cohort.cases:
            pair = Pair(read(case), index, numbers.setdefault(case.patient_id, len(numbers)), case.site)
            (held_out if index == 0 and case.patient_id in validated else training).append(pair)
    assert forbidden.isdisjoint(numbers), "a test patient is among the pairs"
    counts = {c.name: sum(pair.cohort == i for pair in training) for i, c in enumerate(cohorts)}
    return Pairs(training, held_out, preprocessors, counts)


def is_pair(case: Case) -> bool:
    """Whether a patient has a slide and expression."""
    return case.has_slide and case.has_expression


def without_outcomes(cohort: Cohort) -> Cohort:
    """Return a cohort of which only slides and expression are known."""
    cases = tuple(Case(c.patient_id, c.site, c.bags, c.expression) for c in cohort.cases)
    return replace(cohort, cases=cases, classes={})


def align(cohort: Cohort, groups: GeneGroups) -> Cohort:
    """Return a cohort with the genes of some groups, in their order; a gene it does not measure is constant."""
    genes = (*groups.tumor, *groups.tme)
    at = gene_index(cohort.genes, genes)

    def select(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.where(at >= 0, values[at], 0.0).astype(np.float32)

    cases = tuple(replace(case, expression=select(case.expression)) for case in cohort.cases)
    return replace(cohort, cases=cases, genes=genes, groups=groups)


def check_genes(cohort: Cohort, groups: GeneGroups, least: float) -> None:
    """Refuse a cohort that measures less than a share of a gene group."""
    available = set(cohort.genes)
    for subspace in SUBSPACES:
        genes = getattr(groups, subspace)
        measured = sum(gene in available for gene in genes)
        if measured < least * len(genes):
            problem = f"it measures {measured} of the {len(genes)} {subspace} genes of the cohort that is trained for"
            remedy = "Leave it out of pretraining.cohorts, or lower checks.min_gene_coverage"
            raise InputError(f"cohort {cohort.name}", problem, remedy)


def check_features(cohort: Cohort, target: Cohort) -> None:
    """Refuse a cohort without pairs, or whose tokens are not those of the cohort that is trained for."""
    remedy = "Encode both with the same embed.encoder and tiles, or leave it out of pretraining.cohorts"
    if not cohort.cases:
        raise InputError(f"cohort {cohort.name}", "no patient has slide and expression", remedy)
    expected, there = describe_tokens(target), describe_tokens(cohort)
    for mpp in expected:
        if there.get(mpp) != expected[mpp]:
            problem = f"tokens at mpp {mpp} are {there.get(mpp, 'absent')}; those of {target.name}: {expected[mpp]}"
            raise InputError(f"cohort {cohort.name}", problem, remedy)


def describe_tokens(cohort: Cohort) -> dict[Mpp, str]:
    """Return encoder, width and side of the tiles at each resolution that any patient has."""
    bags = {mpp: bag for case in cohort.cases for mpp, bag in case.bags.items() if len(bag)}
    return {
        mpp: f"{bag.encoder}, {bag.tokens.shape[1]} wide, of {float(bag.tile_um):g} µm tiles"
        for mpp, bag in bags.items()
    }


def fit_scaling(cohort: Cohort, params: config.Params) -> Preprocessor:
    """Fit the scaling of tokens and genes; there is no outcome, so the task is one that nobody's is known of."""
    nothing = np.zeros(0)
    return Preprocessor(
        task=SurvivalTask(),
        class_weights=nothing,
        bin_edges=nothing,
        last_day=0.0,
        base_logits=np.zeros(1),
        **fit_inputs(cohort, params),
        covariate_names=(),
        covariates=Scaling.fit(np.zeros((0, 0))),
    )
