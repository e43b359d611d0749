"""Noisy labels: models trained with classes that some sites record wrongly, with and without correction.

Labels of learning patients at some sites are flipped by a class-dependent transition matrix; those of test patients
never are. A patient flipped at one share is flipped to the same class at every higher one, in every fold in which it is
learned from. Arms:

- uncorrected: trained with the labels as recorded
- corrected: with those that the teacher's ensemble corrected out of fold (`dml.probes.label_correction`)
- cleanlab: without those that cleanlab would remove, where it is installed

Where nothing is flipped (share 0), what the arms lose is the harm of correcting. Every training is stored.
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from dml.core.errors import ConfigError
from dml.evaluation.intervals import rounded
from dml.evaluation.metric_sets import PRIMARY
from dml.probes.label_correction import ROUNDS, cleanlab_is_there, cleanlab_issues, correct_labels
from dml.probes.label_flips import Labels, count_corrections, flip_labels, set_labels, transition_matrix
from dml.probes.label_study import OUT_OF_FOLD, LabelStudy, pooled_metrics
from dml.probes.paired_scorer import PairedScorer

log = logging.getLogger(__name__)
SHARES = (0.0, 0.2, 0.4)
MAX_SHARE = 0.8
"""Largest mean share of flips, at which the first class always has the wrong label."""
MODELS = ("teacher", "student")
ARMS = ("uncorrected", "corrected", "cleanlab")
SKIPPED = "cleanlab is not installed: pip install 'dml[label-noise]'"


@dataclass(frozen=True, slots=True)
class LabelNoise(LabelStudy):
    """Trains and reads the cells of one classification task: models on one fold with some labels.

    `n_sites` are noisy; None: half of them.
    """

    n_sites: int | None = None

    def __post_init__(self) -> None:
        if self.task.kind != "classification":
            raise ConfigError(f"label noise flips classes, and {self.task.name} has none: give a label with classes")

    @property
    def names(self) -> tuple[str, ...]:
        """Models that are compared."""
        return (*MODELS, *self.models)

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites whose labels are noisy, drawn by the seed; by default half of them.

        Raises
        ------
        ConfigError
            If there are not as many.
        """
        names = sorted({case.site for case in self.cohort.cases if self.task.is_known(case)})
        count = (len(names) + 1) // 2 if self.n_sites is None else self.n_sites
        if not 1 <= count <= len(names):
            raise ConfigError(f"--sites {count}: the cohort has {len(names)} sites with {self.task.name}")
        return tuple(sorted(np.random.default_rng([self.params.seed, 1]).permutation(names)[:count].tolist()))

    def true_labels(self, fold: int) -> dict[str, str]:
        """Return the classes of the learning patients of a fold who have one."""
        cases = self.fold(fold).learning.cases
        return {case.patient_id: case.labels[self.task.name] for case in cases if self.task.is_known(case)}

    def recorded_labels(self, share: float, fold: int) -> dict[str, str]:
        """Return the classes of the learning patients as the noisy sites record them."""
        everyone = sorted(case.patient_id for case in self.cohort.cases)
        random = np.random.default_rng([self.params.seed, 2]).random((len(everyone), 2))
        draws, site_of = dict(zip(everyone, random, strict=True)), {c.patient_id: c.site for c in self.cohort.cases}
        labels, noisy = self.true_labels(fold), set(self.sites)
        patients = [patient for patient in labels if site_of[patient] in noisy]
        transition = transition_matrix(share, len(self.task.classes))
        numbers = flip_labels(self._numbers(labels, patients), transition, np.array([draws[p] for p in patients]))
        return labels | {p: self.task.classes[i] for p, i in zip(patients, numbers, strict=True)}

    def arms(self, share: float, fold: int) -> Iterator[tuple[str, Labels]]:
        """Yield each arm with the labels that its models are trained with."""
        recorded = self.recorded_labels(share, fold)
        yield "uncorrected", recorded
        predicted = self.outputs(fold, recorded, (OUT_OF_FOLD, *self.names))[OUT_OF_FOLD]
        yield "corrected", self._correct(fold, recorded, predicted)
        if cleanlab_is_there():
            patients, p = self._probabilities(predicted, recorded)
            issues = cleanlab_issues(p, self._numbers(recorded, patients))
            removed = {patient for patient, is_issue in zip(patients, issues, strict=True) if is_issue}
            yield "cleanlab", {patient: label for patient, label in recorded.items() if patient not in removed}

    def outputs(self, fold: int, labels: Labels, names: Sequence[str]) -> dict[str, pd.DataFrame]:
        """Return the predictions of models trained with some labels; equal labels are trained with once."""

        def train(missing: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
            whole = self.fold(fold)
            return self.train_models(replace(whole, learning=set_labels(whole.learning, self.task, labels)), missing)

        return self.load_or_train("label_noise", (fold, sorted(labels.items())), names, train)

    def _correct(self, fold: int, recorded: Labels, predicted: pd.DataFrame) -> Labels:
        labels = dict(recorded)
        for number in range(ROUNDS):
            patients, p = self._probabilities(predicted, labels)
            fixed = np.array([labels[patient] != recorded[patient] for patient in patients], dtype=bool)
            numbers = correct_labels(p, self._numbers(labels, patients), fixed)
            changed = labels | {patient: self.task.classes[i] for patient, i in zip(patients, numbers, strict=True)}
            if changed == labels:
                break
            labels = changed
            if number + 1 < ROUNDS:
                predicted = self.outputs(fold, labels, (OUT_OF_FOLD,))[OUT_OF_FOLD]
        return labels

    def _probabilities(self, predicted: pd.DataFrame, labels: Labels) -> tuple[list[str], Float[np.ndarray, "n k"]]:
        """Patients with a label and an out-of-fold prediction, and the prediction."""
        rows = predicted[predicted["patient_id"].isin(labels.keys())]
        return rows["patient_id"].tolist(), rows[self.task.output_columns(())].to_numpy(float)

    def _numbers(self, labels: Labels, patients: Sequence[str]) -> Int[np.ndarray, "n"]:
        return np.array([self.task.classes.index(labels[patient]) for patient in patients], dtype=int)


def score_noise(
    study: LabelNoise, scorer: PairedScorer, shares: Sequence[float], progress: Callable[[Any], Any] = iter
) -> dict[str, Any]:
    """Score every model and arm at every share of flips on the outer test folds.

    Returns
    -------
    dict
        ``metric``, ``patients``, ``shares``, ``sites``; ``transition``: share to matrix; ``rows``: share, arm, model,
        value with interval, and the paired ``difference`` to the uncorrected arm; ``corrections``: share, arm, counts
        summed over the folds, precision and recall; ``skipped``: arms that were not trained, and why.

    Raises
    ------
    ConfigError
        If the shares do not increase or are outside of 0 to 0.8.
    """
    if not shares or list(shares) != sorted(set(shares)) or shares[0] < 0 or shares[-1] > MAX_SHARE:
        raise ConfigError(f"shares {list(shares)}: they must increase, from 0 to at most {MAX_SHARE}, e.g. 0, 0.2, 0.4")
    parts: dict[tuple[str, Hashable], list[pd.DataFrame]] = {}
    counts: dict[tuple[float, str], list[dict[str, int]]] = {}
    for fold, share in progress([(fold, share) for fold in study.params.folds for share in shares]):
        truth, recorded = study.true_labels(fold), study.recorded_labels(share, fold)
        for arm, labels in study.arms(share, fold):
            log.info("%s fold %d: %g of labels flipped, %s", study.task.name, fold, share, arm)
            counts.setdefault((share, arm), []).append(count_corrections(truth, recorded, labels))
            for model, table in study.outputs(fold, labels, study.names).items():
                parts.setdefault((model, (share, arm)), []).append(table)
    metrics = pooled_metrics(scorer, parts)
    rows = [
        {
            "share": share,
            "arm": arm,
            "model": model,
            **(scorer.value(metrics[model, (share, arm)]) or {}),
            "difference": scorer.difference(metrics[model, (share, arm)], metrics[model, (share, "uncorrected")]),
        }
        for share, arm in counts
        for model in study.names
    ]
    return {
        "metric": PRIMARY[study.task.kind],
        "patients": len(scorer.outcomes),
        "shares": list(shares),
        "sites": list(study.sites),
        "transition": {f"{s:g}": transition_matrix(s, len(study.task.classes)).round(6).tolist() for s in shares},
        "rows": rows,
        "corrections": [{"share": s, "arm": a, **_rates(each)} for (s, a), each in counts.items()],
        "skipped": {} if cleanlab_is_there() else {"cleanlab": SKIPPED},
    }


def flat_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one flat row per share, arm and model: metric, difference and corrections, for tables."""
    corrections = {(each["share"], each["arm"]): each for each in result["corrections"]}
    return [
        {
            **{name: row.get(name) for name in ("share", "arm", "model", "value", "ci_low", "ci_high")},
            **{f"difference_{name}": (row["difference"] or {}).get(key) for name, key in DIFFERENCE.items()},
            **corrections[row["share"], row["arm"]],
        }
        for row in result["rows"]
    ]


DIFFERENCE = {"value": "difference", "ci_low": "ci_low", "ci_high": "ci_high", "p": "p"}
"""Columns of a paired difference, and their names in it."""


def _rates(folds: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    total = {name: sum(each[name] for each in folds) for name in folds[0]}
    ratio = {"precision": "changed", "recall": "flipped"}
    rates = {name: rounded(total["detected"] / total[of]) if total[of] else None for name, of in ratio.items()}
    return {**total, **rates}
