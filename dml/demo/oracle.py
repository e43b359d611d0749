"""Scores of the planted factors themselves: the upper bound for every model on this cohort.

Shape legend: p patients, k classes.
"""

from typing import Any

import numpy as np
import pandas as pd

from dml.demo.survival import DIAGNOSES, GRADES, diagnosis_probabilities, grade_probabilities, planted_risk


def concordance(days: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Return Harrell's C-index of a risk [p] (Harrell et al., JAMA 1982), counting every comparable pair.

    A pair is comparable if the one with the shorter time died, or both times are equal and only one died;
    equal risks count one half. NaN without a comparable pair.
    """
    days, dead, risk = np.asarray(days, float), np.asarray(event, bool), np.asarray(risk, float)
    shorter = (days[:, None] < days) | ((days[:, None] == days) & ~dead)
    comparable = shorter & dead[:, None]
    higher = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
    pairs = int(comparable.sum())
    return float(higher[comparable].sum() / pairs) if pairs else float("nan")


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve of scores [p]: the share of (positive, negative) pairs in order."""
    difference = scores[positive][:, None] - scores[~positive]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def classification_scores(probabilities: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return macro one-vs-rest AUC and balanced accuracy of probabilities [p k] for class indices [p]."""
    present = [k for k in range(probabilities.shape[1]) if 0 < (label == k).sum() < len(label)]
    predicted = probabilities.argmax(axis=1)
    return {
        "auc": float(np.mean([roc_auc(probabilities[:, k], label == k) for k in present])),
        "balanced_accuracy": float(np.mean([(predicted[label == k] == k).mean() for k in present])),
    }


def score_planted_factors(planted: pd.DataFrame, patients: pd.DataFrame) -> dict[str, Any]:
    """Score the planted factors against the patient table, without its missing entries.

    Returns
    -------
    dict
        `c_index` of the two factors (the most that slide and transcriptome can give), `c_index_with_age`, and
        per label `auc` and `balanced_accuracy` of the probabilities that the label was drawn from.
    """
    has_follow_up = patients["survival_days"].notna().to_numpy()
    days, event = (patients.loc[has_follow_up, column].to_numpy(dtype=float) for column in ("survival_days", "event"))
    result: dict[str, Any] = {
        "c_index": concordance(days, event, planted_risk(planted)[has_follow_up]),
        "c_index_with_age": concordance(days, event, planted_risk(planted, with_age=True)[has_follow_up]),
        "c_index_tumor": concordance(days, event, planted["tumor"].to_numpy()[has_follow_up]),
        "c_index_tme": concordance(days, event, planted["tme"].to_numpy()[has_follow_up]),
    }
    for name, classes, probabilities in (
        ("grade", GRADES, grade_probabilities(planted)),
        ("diagnosis", DIAGNOSES, diagnosis_probabilities(planted)),
    ):
        has_label = patients[name].notna().to_numpy()
        label = np.array([classes.index(value) for value in patients.loc[has_label, name]])
        result[name] = classification_scores(probabilities[has_label], label)
    return {key: value for key, value in result.items() if value == value}
