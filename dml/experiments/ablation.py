"""The ablation table over folds and seeds, with paired differences to the full model (``dml ablate``).

Each trained cell is stored under ``.work/ablation``, keyed by everything that decides it, so a killed run resumes and a
second one only reads. The table is of outer test folds: it is for reporting, never for choosing.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.files import WORK, atomic, digest, write_json
from dml.core.predictions import read_predictions, write_predictions
from dml.core.tasks import make_task
from dml.core.types import Cohort
from dml.data.cohort_store import CohortStore
from dml.evaluation.intervals import bootstrap_weights, difference, estimate, holm
from dml.evaluation.metric_sets import PRIMARY, leading_metric
from dml.evaluation.metrics import Metric
from dml.evaluation.subgroup_rules import patients_in_subgroup
from dml.experiments.ablation_variants import FULL, Variant, list_variants, train
from dml.pretraining.pretrained import start_digests
from dml.training.checkpoint import FoldModel
from dml.training.folds import make_fold, predict_fold, select_test_patients

Role = Literal["test", "validation"]
PATIENTS: Mapping[Role, str] = {
    "test": "Outer test folds",
    "validation": "Out-of-fold predictions of training patients",
}
"""What a table of each role is about."""
log = logging.getLogger(__name__)
DECIDING = ("cohort", "tiles", "embed", "inputs", "model", "optimisation", "teacher", "distillation")
"""Sections of params.yaml that a cell depends on, besides seed, task, fold and the stores."""
STORES = ("patients.parquet", "expression.parquet", "splits.parquet", "features/manifest.parquet")


@dataclass(frozen=True, slots=True)
class Cell:
    """One variant trained on one fold with one seed."""

    variant: Variant
    seed: int
    fold: int


@dataclass(frozen=True, slots=True)
class Ablation:
    """Trains and reads the cells of one task."""

    params: config.Params
    task: str
    cohort: Cohort
    splits: pd.DataFrame
    stores: str

    @classmethod
    def read(cls, params: config.Params, task: str) -> "Ablation":
        """Read the stores of the current cohort."""
        if task not in params.tasks:
            raise ConfigError(f"no task {task!r}; tasks of params.yaml are {', '.join(params.tasks)}")
        store = CohortStore.of(params.cohort)
        cohort, splits = store.cohort(params.embed.encoder, params.tiles.mpps), store.splits()
        return cls(params, task, cohort, splits, digest(*(_content(store.folder / name) for name in STORES)))

    def folder(self, cell: Cell) -> Path:
        """Where a cell is stored."""
        params, variant = cell.variant.apply(self.params), cell.variant
        sections = {name: getattr(params, name) for name in DECIDING}
        content = {k: v if isinstance(v, str) else v.model_dump(mode="json") for k, v in sections.items()}
        start = start_digests(params, variant.kind, cell.fold)
        key = digest(content, variant.kind, variant.targets, cell.seed, cell.fold, self.task, self.stores, *start)
        return WORK / "ablation" / self.params.cohort / self.task / key

    def predictions(self, cell: Cell) -> Path:
        """Return the file of a cell's predictions; trains it if it is not there."""
        path = self.folder(cell) / "predictions.parquet"
        if not path.exists():
            self._train(cell)
        return path

    def _train(self, cell: Cell) -> None:
        log.info("training: %s, seed %d, fold %d", cell.variant.name, cell.seed, cell.fold)
        fold = make_fold(self.cohort, self.splits, cell.fold)
        params = self.params.model_copy(update={"seed": cell.seed})
        trained = train(cell.variant, fold, params, self.task, self._teacher(cell))
        trained.model.save(self.folder(cell))
        test = select_test_patients(self.cohort, self.splits, cell.fold)
        rows, metadata = predict_fold(trained, fold, test, cell.variant.name)
        write_predictions(self.folder(cell) / "predictions.parquet", rows, metadata)

    def _teacher(self, cell: Cell) -> FoldModel | None:
        if cell.variant.kind == "teacher" or cell.variant.targets == "none":
            return None
        full = Cell(FULL["teacher"], cell.seed, cell.fold)
        self.predictions(full)
        return FoldModel.load(self.folder(full))

    def rows(self, variant: Variant, seed: int, role: Role = "test") -> pd.DataFrame:
        """Return the predictions of all folds by patient id and fold; trains what is not there.

        With the role "validation" they are out-of-fold predictions of the training patients: each has one for every
        fold that does not test it.
        """
        parts = [read_predictions(self.predictions(Cell(variant, seed, fold)))[0] for fold in self.params.folds]
        rows = pd.concat(parts, ignore_index=True)
        return rows[rows["role"] == role].sort_values(["patient_id", "fold"], ignore_index=True)


def select_variants(params: config.Params, names: Sequence[str] = ()) -> list[Variant]:
    """Return the rows of the table: the full models, and the variants that differ from them (or those that are named).

    Raises
    ------
    ConfigError
        If a name is none of the variants'.
    """
    variants = list_variants(params)
    unknown = sorted(set(names) - {variant.name for variant in variants})
    if unknown:
        raise ConfigError(f"no variant {unknown[0]!r}; there are: {', '.join(v.name for v in variants)}")
    return [v for v in variants if v in FULL.values() or v.name in names or (not names and v.differs(params))]


def iterate_cells(variants: Sequence[Variant], seeds: Sequence[int], folds: Sequence[int]) -> Iterator[Cell]:
    """All cells, fold by fold, so that an early look at the table has whole rows of few folds."""
    for seed in seeds:
        for fold in folds:
            yield from (Cell(variant, seed, fold) for variant in variants)


def score_variants(
    ablation: Ablation, variants: Sequence[Variant], seeds: Sequence[int], role: Role = "test"
) -> list[dict[str, Any]]:
    """Score the rows on the outer test folds, mean over seeds, each against the full model of its kind.

    With the role "validation" on out-of-fold predictions of the training patients: what a choice may look at.

    Returns
    -------
    list of dict
        variant, kind, metric, subgroup, value, ci_low, ci_high; and unless it is the full model itself difference,
        difference_low, difference_high, p and p_holm (within kind and subgroup).
    """
    params = ablation.params
    rows = {v.name: [ablation.rows(v, seed, role) for seed in seeds] for v in variants}
    groups: dict[str, set[str] | None] = {"": None}
    if params.evaluation.subgroups:
        patients = CohortStore.of(params.cohort).patients()
        groups |= {name: patients_in_subgroup(patients, rule) for name, rule in params.evaluation.subgroups.items()}
    lines = []
    for group, members in groups.items():
        inside = {name: [_restrict(frame, members) for frame in frames] for name, frames in rows.items()}
        lines += _score_group(ablation, variants, inside, group)
    return lines


def write_table(
    lines: Sequence[Mapping[str, Any]], seeds: Sequence[int], members: int, folder: Path, role: Role = "test"
) -> None:
    """Write ablation.json, which the report page shows, and ablation.md; of validation ablation-validation.*."""
    name = "ablation" if role == "test" else f"ablation-{role}"
    write_json(folder / f"{name}.json", {"seeds": list(seeds), "members": members, "rows": list(lines)})
    text = [
        f"{PATIENTS[role]}, mean of seeds {', '.join(map(str, seeds))}; difference to the full model of its kind.\n"
    ]
    text += ["| model | subgroup | metric | value | difference | p (Holm) |", "|---|---|---|---|---|---|"]
    for x in lines:
        gap = f"{x['difference']:+.3f} ({x['difference_low']:+.3f} to {x['difference_high']:+.3f})" if "p" in x else ""
        value = f"{x['value']:.3f} ({x['ci_low']:.3f} to {x['ci_high']:.3f})"
        p = f"{x['p_holm']:.3f}" if "p" in x else ""
        text.append(f"| {x['variant']} | {x['subgroup'] or 'all'} | {x['metric']} | {value} | {gap} | {p} |")
    with atomic(folder / f"{name}.md") as temporary:
        temporary.write_text("\n".join(text) + "\n")


def _content(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest()


def _restrict(rows: pd.DataFrame, patients: set[str] | None) -> pd.DataFrame:
    return rows if patients is None else rows[rows["patient_id"].isin(patients)].reset_index(drop=True)


def _score_group(
    ablation: Ablation, variants: Sequence[Variant], rows: Mapping[str, Sequence[pd.DataFrame]], group: str
) -> list[dict[str, Any]]:
    settings = ablation.params.evaluation
    first = next(iter(rows.values()))[0]
    weights = _draw(first, settings.resamples, ablation.params.seed)
    task = make_task(ablation.task, ablation.cohort.classes)
    metrics = {v.name: _mean([leading_metric(f, task.kind, task.classes) for f in rows[v.name]]) for v in variants}
    lines = []
    for variant in variants:
        result = estimate(metrics[variant.name], weights, settings.confidence)
        if result is None:
            continue
        line: dict[str, Any] = {
            "variant": variant.name,
            "kind": variant.kind,
            "metric": PRIMARY[task.kind],
            "subgroup": group,
        }
        line |= {"value": result.value, "ci_low": result.low, "ci_high": result.high}
        full = FULL[variant.kind]
        gap = difference(metrics[variant.name], metrics[full.name], weights, settings.confidence)
        if variant != full and gap is not None:
            line |= {"difference": gap.value, "difference_low": gap.low, "difference_high": gap.high, "p": gap.p}
        lines.append(line)
    for model in FULL:
        compared = {line["variant"]: line for line in lines if line["kind"] == model and "p" in line}
        for name, p in holm({name: line["p"] for name, line in compared.items()}).items():
            compared[name]["p_holm"] = p
    return lines


def _draw(rows: pd.DataFrame, resamples: int, seed: int) -> np.ndarray:
    """Draw patients within folds, or patients with all their rows where each is predicted in several folds."""
    if rows["patient_id"].is_unique:
        return np.asarray(bootstrap_weights(rows["fold"].to_numpy(int), resamples, seed))
    codes, patients = pd.factorize(rows["patient_id"])
    return np.asarray(bootstrap_weights(np.zeros(len(patients), int), resamples, seed)[:, codes])


def _mean(metrics: Sequence[Metric]) -> Metric:
    return lambda weights: np.asarray(np.mean([metric(weights) for metric in metrics], axis=0))
