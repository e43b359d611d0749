"""Several models on several cohorts with the same folds, members and budget (``dml benchmark``).

Every trained cell, one model on one fold of one cohort, is stored under ``.work``, keyed by everything that decides it:
a killed run resumes, and a second one only reads. Teacher and student are the full models of the ablation study and
share its cells. Each cell is trained in a process of its own, whose time and memory are measured.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dml.baselines.linear.fit import fit_baseline
from dml.baselines.linear.regression import make_regression
from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.files import WORK, digest, read_json, write_json
from dml.core.predictions import read_predictions, write_predictions
from dml.data.cohort_store import CohortStore
from dml.evaluation.results import sort_models
from dml.experiments.ablation import DECIDING, Ablation, Cell
from dml.experiments.ablation_variants import FULL, Variant
from dml.experiments.separate_process import run_apart
from dml.models import registry
from dml.tracking.costs import MEMORY, WALL, ResourceUsage
from dml.training.folds import make_fold, predict_fold, select_test_patients
from dml.training.runtime import one_blas_thread
from dml.training.train import train_baseline

log = logging.getLogger(__name__)
COST, PREDICTIONS, LEFT_OUT = "cost.json", "predictions.parquet", "left_out.json"
LINEAR = ("null", "linear_slide", "linear_genes", "linear_slide_genes")
"""Linear references that are always there."""
UNDISTILLED = Variant("no distillation", "student", {}, targets="none")
"""As the ablation study has it."""
_OURS: Mapping[str, Variant] = {
    "teacher": FULL["teacher"],
    "student": FULL["student"],
    "student_undistilled": UNDISTILLED,
}


@dataclass(frozen=True, slots=True)
class BenchmarkCell:
    """One model on one fold of one cohort."""

    cohort: str
    model: str
    fold: int


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Trains and reads the cells of one task.

    Attributes
    ----------
    parts : mapping
        Cohort to its stores and parameters.
    models : tuple of str
        Keys of the registry, in the order of tables.
    """

    parts: Mapping[str, Ablation]
    models: tuple[str, ...]

    @classmethod
    def read(cls, params: Mapping[str, config.Params], task: str, models: Sequence[str]) -> "Benchmark":
        """Read the stores of all cohorts.

        Parameters
        ----------
        params : mapping
            Cohort to its parameters.
        task : str
            "survival", or a label that all cohorts have.
        models : sequence of str
            Keys of the registry.

        Raises
        ------
        ConfigError
            If a model or the task of a cohort is unknown.
        """
        for name in models:
            registry.entry(name)
        _check_same_budget(params)
        return cls({name: Ablation.read(each, task) for name, each in params.items()}, tuple(sort_models(models)))

    def cells(self) -> Iterator[BenchmarkCell]:
        """All cells, cohort by cohort and fold by fold, so that an early look at the table has whole rows."""
        for cohort, part in self.parts.items():
            for fold in part.params.folds:
                yield from (BenchmarkCell(cohort, model, fold) for model in self.models)

    def folder(self, cell: BenchmarkCell) -> Path:
        """Where a cell is stored."""
        part = self.parts[cell.cohort]
        if cell.model in _OURS:
            return part.folder(Cell(_OURS[cell.model], part.params.seed, cell.fold))
        sections = {name: getattr(part.params, name) for name in (*DECIDING, "baselines")}
        content = {
            k: v if isinstance(v, str) else v.model_dump(mode="json", exclude={"deep"}) for k, v in sections.items()
        }
        key = digest(content, cell.model, part.params.seed, cell.fold, part.task, part.stores)
        return WORK / "benchmark" / part.params.cohort / part.task / key

    def complete(self, cell: BenchmarkCell) -> Path | None:
        """Train a cell unless it is there; return its predictions, None where nobody has what the model requires."""
        folder = self.folder(cell)
        if not (folder / PREDICTIONS).exists() and not (folder / LEFT_OUT).exists():
            part = self.parts[cell.cohort]
            if cell.model == "student":  # the teacher's cost is its own
                self.complete(BenchmarkCell(cell.cohort, "teacher", cell.fold))
            log.info("training: %s on %s, fold %d", cell.model, cell.cohort, cell.fold)
            run_apart(lambda: _train_measured(part, cell, folder))
        return folder / PREDICTIONS if (folder / PREDICTIONS).exists() else None

    def rows(self, cohort: str, model: str) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
        """Return predictions and metadata of each fold of a model; trains what is not there, empty if left out."""
        paths = [self.complete(BenchmarkCell(cohort, model, fold)) for fold in self.parts[cohort].params.folds]
        return [] if None in paths else [read_predictions(path) for path in paths if path is not None]

    def cost(self, cohort: str, model: str) -> dict[str, float | None]:
        """Return seconds, summed over folds, and peak memory in GB; None where a cell was trained by `dml ablate`."""
        cells = [BenchmarkCell(cohort, model, fold) for fold in self.parts[cohort].params.folds]
        paths = [self.folder(cell) / COST for cell in cells]
        if not all(path.exists() for path in paths):
            return {"seconds": None, "peak_gb": None}
        costs = [read_json(path) for path in paths]
        return {"seconds": sum(c["seconds"] for c in costs), "peak_gb": max(c["peak_gb"] for c in costs)}


def with_backbones(models: Sequence[str]) -> list[str]:
    """Add the plain backbone of each model that has one.

    Examples
    --------
    >>> with_backbones(["clam", "murrenet"])
    ['clam', 'murrenet', 'abmil', 'murrenet_plain']
    """
    backbones = [registry.entry(name).backbone for name in models]
    return list(dict.fromkeys([*models, *(name for name in backbones if name)]))


def _check_same_budget(params: Mapping[str, config.Params]) -> None:
    """Refuse cohorts whose descriptions give them another training."""
    (first, reference), *rest = params.items()
    for cohort, each in rest:
        for section in ("optimisation", "model", "teacher", "distillation", "seed"):
            if getattr(each, section) != getattr(reference, section):
                raise ConfigError(
                    f"{section} of {cohort} differs from that of {first}: a benchmark has one budget; take it out of "
                    f"`params` in cohorts/{cohort}.yaml or cohorts/{first}.yaml"
                )


def _train_measured(part: Ablation, cell: BenchmarkCell, folder: Path) -> None:
    """Train a cell and write what it cost, then its predictions: a cell with predictions is complete."""
    usage = ResourceUsage()
    if cell.model in _OURS:
        part.predictions(Cell(_OURS[cell.model], part.params.seed, cell.fold))
        _write_cost(folder, usage)
        return
    fitted = _fit(part, cell)
    _write_cost(folder, usage)
    if fitted is None:
        write_json(folder / LEFT_OUT, {"reason": "no learning patient has what the model requires"})
    else:
        write_predictions(folder / PREDICTIONS, *fitted)


def _fit(part: Ablation, cell: BenchmarkCell) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    fold = make_fold(part.cohort, part.splits, cell.fold)
    test = select_test_patients(part.cohort, part.splits, cell.fold)
    if registry.entry(cell.model).family == "linear":
        regression = make_regression(part.task, fold.learning.classes, part.params.evaluation.years)
        with one_blas_thread():
            fitted = fit_baseline(cell.model, fold.learning, {"test": test}, regression, part.params.baselines)
        return None if fitted is None else (fitted.rows.assign(fold=cell.fold), dict(fitted.metadata))
    trained = train_baseline(fold, part.params, part.task, cell.model)
    return None if trained is None else predict_fold(trained, fold, test, cell.model)


def _write_cost(folder: Path, usage: ResourceUsage) -> None:
    measured = usage.metrics()
    write_json(folder / COST, {"seconds": measured[WALL], "peak_gb": measured[MEMORY] * 2**20 / 1e9})


def read_patients(cohort: str) -> pd.DataFrame:
    """Read the table of patients of a cohort, for subgroups."""
    return CohortStore.of(cohort).patients()
