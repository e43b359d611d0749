"""Preprocessing fitted to training patients: scaling, time bins, class weights, scale of a number, gene choice.

Fitted on the training patients of a fold only, saved with the model, and applied unchanged from then on.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dml.config import params as config
from dml.core.distributions import distribution
from dml.core.errors import InputError
from dml.core.tasks import Task, make_task
from dml.core.types import SURVIVAL, Case, Cohort, Subspace
from dml.data.baseline_hazard import BaselineHazard
from dml.data.clinical_inputs import ClinicalInputs
from dml.data.dims import ModelDims
from dml.data.gene_programs import GenePrograms
from dml.data.target_scale import TargetScale
from dml.data.vectors import Vector

MIN_STD_RATIO = 0.1
"""Smallest deviation of a token dimension that is scaled to one, in units of the median over dimensions."""
WINSOR_QUANTILE = 0.01
"""Share of training values at either end of each gene that are clipped to the value there."""


class Scaling(BaseModel):
    """Mean and standard deviation; a constant dimension keeps its values (deviation 1).

    With `low` and `high`, values are clipped to them, when fitting and when applying: published z-scores reach 3,000.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    mean: Vector
    deviation: Vector
    low: Vector | None = None
    high: Vector | None = None

    @classmethod
    def fit(cls, rows: np.ndarray, winsorise: float = 0.0) -> "Scaling":
        """Fit to rows, ignoring NaN; `winsorise` is the share clipped at either end of each dimension."""
        if not len(rows):
            return cls(mean=np.zeros(rows.shape[1]), deviation=np.ones(rows.shape[1]))
        if winsorise:
            low, high = np.nanquantile(rows, [winsorise, 1 - winsorise], axis=0).astype(np.float32)
            inner = cls.fit(np.clip(rows, low, high))
            return inner.model_copy(update={"low": low, "high": high})
        counts = np.isfinite(rows).sum(0)
        filled = np.where(np.isfinite(rows), rows, 0.0).astype(np.float64)
        mean = filled.sum(0) / np.maximum(counts, 1)
        squares = np.where(np.isfinite(rows), (rows - mean) ** 2, 0.0).sum(0)
        deviation = np.sqrt(squares / np.maximum(counts, 1))
        return cls(mean=mean, deviation=np.where(deviation > 1e-6, deviation, 1.0))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Scale; a missing value becomes the training mean."""
        clipped = rows if self.low is None else np.clip(rows, self.low, self.high)
        scaled = (clipped - self.mean) / self.deviation
        return np.where(np.isfinite(scaled), scaled, 0.0).astype(np.float32)


class Preprocessor(BaseModel):
    """All that is fitted on training patients to preprocess any patient.

    Examples
    --------
    >>> import torch
    >>> from dml.core.types import Bag, GeneGroups, Microns, Mpp
    >>> bag = Bag(torch.randn(9, 8), None, torch.zeros(9, dtype=torch.long), Mpp(0.5), Microns(128.0), "uni")
    >>> cases = tuple(Case(f"P{i}", "A", {Mpp(0.5): bag}, labels={"grade": "G2" if i else "G3"}) for i in range(3))
    >>> cohort = Cohort("demo", cases, (), "absent", GeneGroups((), ()), {"grade": ("G2", "G3")})
    >>> params = config.Params(cohort="demo", tasks=("grade",), folds=(0, 1), tiles={"mpps": (0.5,)})
    >>> preprocessor = Preprocessor.fit(cohort, params, "grade")
    >>> preprocessor.task.classes, preprocessor.class_weights.tolist()
    (('G2', 'G3'), [0.75, 1.5])
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    task: Annotated[Task, Field(discriminator="kind")]
    class_weights: Vector
    bin_edges: Vector
    last_day: float
    base_logits: Vector
    encoder: str
    mpps: tuple[float, ...]
    tile_um: tuple[float, ...]
    tokens: Scaling
    unit: str
    tumor_genes: tuple[str, ...]
    tme_genes: tuple[str, ...]
    tumor: Scaling
    tme: Scaling
    covariate_names: tuple[str, ...]
    covariates: Scaling
    auxiliary: Mapping[str, tuple[str, ...]] = {}
    target_scale: TargetScale = TargetScale()
    baseline: BaselineHazard | None = None
    programs: Mapping[str, GenePrograms] = {}
    clinical: ClinicalInputs | None = None
    pooled_mpps: tuple[float, ...] = ()
    """Resolutions whose mean tokens linear models read; none: all."""

    @classmethod
    def fit(cls, training: Cohort, params: config.Params, task: str) -> "Preprocessor":
        """Fit to the training patients of a fold.

        Parameters
        ----------
        training : Cohort
            The training patients and nobody else.
        task : str
            ``survival``, or a label the cohort declares.

        Raises
        ------
        InputError
            If the task is not one of the cohort's, or no training patient has a target, a slide or an expressed gene.
        """
        target = _task(training, task)
        is_survival, classes = target.kind == "survival", target.classes
        edges, last_day = _time_bins(training, params.inputs.time_bins) if is_survival else (np.zeros(0), 0.0)
        scale, base_logits = TargetScale(), np.zeros(len(classes))
        baseline = _baseline(training) if is_survival else None
        if baseline is not None:
            hazards = baseline.base_hazards(edges.tolist())
            base_logits = np.log(hazards) - np.log1p(-hazards)
        elif target.kind == "regression":
            numbers = np.array([case.values[task] for case in training.cases if task in case.values])
            scale = TargetScale.fit(numbers, task)
            base_logits = distribution(params.optimisation.regression_loss).base(scale(numbers))
        names = params.inputs.covariates
        return cls(
            task=target,
            class_weights=_class_weights(training, task, classes),
            bin_edges=edges,
            last_day=last_day,
            base_logits=base_logits,
            target_scale=scale,
            baseline=baseline,
            **fit_inputs(training, params),
            covariate_names=names,
            covariates=_covariate_scaling(training, names),
            auxiliary=_auxiliary_labels(training, params.inputs.auxiliary, task),
        )

    @property
    def linear_mpps(self) -> tuple[float, ...]:
        """Resolutions whose mean tokens are the columns of a linear model, in order."""
        return self.pooled_mpps or self.mpps

    @property
    def dims(self) -> ModelDims:
        """Widths for building a model."""
        return ModelDims(
            kind=self.task.kind,
            token_width=len(self.tokens.mean),
            levels=len(self.mpps),
            tumor_genes=len(self.tumor_genes),
            tme_genes=len(self.tme_genes),
            gene_names=(*self.tumor_genes, *self.tme_genes),
            covariates=2 * len(self.covariate_names),
            auxiliary={name: len(classes) for name, classes in self.auxiliary.items()},
            outputs=len(self.base_logits),
            programs={name: len(each.mean) for name, each in self.programs.items()},
            clinical=0 if self.clinical is None else self.clinical.width,
        )


def fit_inputs(training: Cohort, params: config.Params) -> dict[str, Any]:
    """Fit the fields of a `Preprocessor` that scale tokens and genes: those that need no outcome."""
    tile_um, tokens = _token_scaling(training, params)
    tumor_genes, tme_genes = measured_genes(training, "tumor"), measured_genes(training, "tme")
    return {
        "encoder": params.embed.encoder,
        "mpps": tuple(sorted(params.tiles.mpps)),
        "tile_um": tile_um,
        "tokens": tokens,
        "unit": training.unit,
        "tumor_genes": tumor_genes,
        "tme_genes": tme_genes,
        "tumor": _gene_scaling(training, tumor_genes),
        "tme": _gene_scaling(training, tme_genes),
    }


def measured_genes(cohort: Cohort, subspace: Subspace) -> tuple[str, ...]:
    """Genes of a group that the cohort measures, in the group's order."""
    available = set(cohort.genes)
    return tuple(gene for gene in getattr(cohort.groups, subspace) if gene in available)


def gene_index(cohort_genes: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Position of each wanted gene among the cohort's, -1 for a missing one."""
    at = {gene: i for i, gene in enumerate(cohort_genes)}
    return np.array([at.get(gene, -1) for gene in wanted], dtype=np.int64)


def covariate_values(case: Case, names: Sequence[str]) -> list[float]:
    """Return a patient's covariates in order, NaN where unknown."""
    return [float(case.covariates.get(name, np.nan)) for name in names]


def _task(cohort: Cohort, task: str) -> Task:
    if task != SURVIVAL and task not in cohort.classes:
        tasks = ", ".join([SURVIVAL, *cohort.classes])
        raise InputError("params.yaml", f"unknown task {task!r}", f"Tasks of cohort {cohort.name}: {tasks}")
    target = make_task(task, cohort.classes)
    present = {case.labels[task] for case in cohort.cases if task in case.labels}
    missing = [name for name in target.classes if name not in present]
    if missing:
        raise InputError(
            f"task {task}", f"no training patient of class {', '.join(missing)}", "Use fewer folds or merge the class"
        )
    return target


def _auxiliary_labels(cohort: Cohort, names: Sequence[str], task: str) -> dict[str, tuple[str, ...]]:
    """Return the classes of each auxiliary label of which training patients have at least two; never the task."""
    for name in names:
        if name not in cohort.classes:
            labels = ", ".join(cohort.classes)
            raise InputError("params.yaml", f"inputs.auxiliary: unknown label {name!r}", f"The cohort has: {labels}")
        if not cohort.classes[name]:
            remedy = "Name labels with classes; a number may be a task of its own"
            raise InputError("params.yaml", f"inputs.auxiliary: {name} is a number", remedy)
    observed = {name: {case.labels[name] for case in cohort.cases if name in case.labels} for name in names}
    return {name: cohort.classes[name] for name in names if name != task and len(observed[name]) > 1}


def _time_bins(cohort: Cohort, bins: int) -> tuple[np.ndarray, float]:
    follow_up = [case.survival for case in cohort.cases if case.survival is not None]
    events = np.array([s.days for s in follow_up if s.event])
    if not len(events):
        raise InputError(
            "task survival", f"no event among {len(follow_up)} training patients", "Use fewer folds or longer follow-up"
        )
    edges = np.unique(np.quantile(events, np.linspace(0, 1, bins + 1)[1:-1]))
    return edges, max(s.days for s in follow_up)


def _baseline(cohort: Cohort) -> BaselineHazard:
    """Estimate the cumulative hazard of the training patients."""
    follow_up = [case.survival for case in cohort.cases if case.survival is not None]
    days, event = ([s.days for s in follow_up], [s.event for s in follow_up])
    return BaselineHazard.fit(np.array(days, float), np.array(event, bool))


def _class_weights(cohort: Cohort, task: str, classes: Sequence[str]) -> np.ndarray:
    counts = np.array([sum(case.labels.get(task) == name for case in cohort.cases) for name in classes], dtype=float)
    return counts.sum() / (len(classes) * counts) if len(classes) else np.zeros(0)


def _token_scaling(cohort: Cohort, params: config.Params) -> tuple[tuple[float, ...], Scaling]:
    """Fit the scaling of tokens, each slide with the same weight; return the sides of tiles in microns, too."""
    means, squares, tile_um = [], [], {}
    for case in cohort.cases:
        for mpp, bag in case.bags.items():
            tile_um[float(mpp)] = float(bag.tile_um)
            tokens = bag.tokens.double().numpy()
            means.append(tokens.mean(0))
            squares.append((tokens**2).mean(0))
    missing = [mpp for mpp in sorted(params.tiles.mpps) if mpp not in tile_um]
    if missing:
        raise InputError(
            f"cohort {cohort.name}", f"no training patient has features at mpp {missing}", "Run dvc repro embed"
        )
    mean = np.mean(means, axis=0)
    deviation = np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, 0.0))
    scaling = Scaling(mean=mean, deviation=raise_small_deviations(deviation))
    return tuple(tile_um[mpp] for mpp in sorted(params.tiles.mpps)), scaling


def _covariate_scaling(cohort: Cohort, names: Sequence[str]) -> Scaling:
    rows = np.array([covariate_values(case, names) for case in cohort.cases], dtype=np.float32)
    return Scaling.fit(rows.reshape(len(cohort.cases), len(names)))


def raise_small_deviations(deviation: np.ndarray) -> np.ndarray:
    """Raise tiny deviations to a tenth of the median: dimensions of an encoder that hardly vary are not magnified."""
    raised: np.ndarray = np.maximum(deviation, max(MIN_STD_RATIO * float(np.median(deviation)), 1e-6))
    return raised


def _gene_scaling(cohort: Cohort, genes: Sequence[str]) -> Scaling:
    """Fit the scaling of some genes that the cohort has."""
    index = gene_index(cohort.genes, genes)
    rows = [case.expression[index] for case in cohort.cases if case.expression is not None]
    return Scaling.fit(np.array(rows, dtype=np.float32).reshape(len(rows), len(index)), WINSOR_QUANTILE)
