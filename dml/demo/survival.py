"""Follow-up, grade and diagnosis of the generated patients, and the probabilities of the labels.

Times are Weibull with proportional hazards, as in Bender, Augustin & Blettner, Statistics in Medicine 2005;
grade is a noisy threshold of the factors and diagnosis follows grade as in WHO-2021: a glioblastoma is grade 4,
an oligodendroglioma never is.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm

from dml.demo.factors import DemoConfig

RISK = {"tumor": 1.35, "tme": 1.25}
"""Log hazard ratio per standard deviation of a factor."""
AGE_RISK = 0.3
"""Log hazard ratio per decade of age."""
WEIBULL_SHAPE, WEIBULL_SCALE_DAYS = 1.25, 1700.0
"""Weibull shape, and the time by which a patient of average risk has died with probability 1 - 1/e."""

GRADES = ("G2", "G3", "G4")
DIAGNOSES = ("oligodendroglioma", "astrocytoma", "glioblastoma")
GRADE_WEIGHTS, GRADE_NOISE, GRADE_CUTS = (1.0, 0.3), 0.35, (-0.45, 0.45)
DIAGNOSIS_NOISE, DIAGNOSIS_CUT, GLIOBLASTOMA_CUT = 0.35, 0.0, -0.6


def planted_risk(planted: pd.DataFrame, with_age: bool = False) -> np.ndarray:
    """Return the log hazard ratio of each patient [p] from the two factors (and age)."""
    risk = RISK["tumor"] * planted["tumor"] + RISK["tme"] * planted["tme"]
    if with_age:
        risk = risk + AGE_RISK * (planted["age"] - 52) / 10
    return risk.to_numpy(dtype=float)


def draw_survival(config: DemoConfig, planted: pd.DataFrame) -> pd.DataFrame:
    """Draw `survival_days` and `event` (1 = death observed) [p]; exactly the declared share is censored."""
    rng, p = config.stream("survival"), config.patients
    hazard = np.exp(planted_risk(planted, with_age=True))
    death_days = WEIBULL_SCALE_DAYS * (rng.exponential(size=p) / hazard) ** (1 / WEIBULL_SHAPE)
    follow_up = rng.uniform(0.25, 1.75, p)
    order = np.sort(death_days / follow_up)
    n_deaths = min(max(round((1 - config.censored) * p), 1), p)
    follow_up = follow_up * (order[n_deaths - 1] + (order[n_deaths] if n_deaths < p else 2 * order[n_deaths - 1])) / 2
    event = death_days <= follow_up
    days = np.maximum(np.ceil(np.where(event, death_days, follow_up)), 1).astype(int)
    return pd.DataFrame({"survival_days": days, "event": event.astype(int)})


def grade_probabilities(planted: pd.DataFrame) -> np.ndarray:
    """Return P(grade | factors) [p 3], in the order of `GRADES`."""
    score = GRADE_WEIGHTS[0] * planted["tumor"].to_numpy() + GRADE_WEIGHTS[1] * planted["tme"].to_numpy()
    below = [norm.cdf((cut - score) / GRADE_NOISE) for cut in GRADE_CUTS]
    return np.stack([below[0], below[1] - below[0], 1 - below[1]], axis=1)


def diagnosis_probabilities(planted: pd.DataFrame) -> np.ndarray:
    """Return P(diagnosis | factors) [p 3], in the order of `DIAGNOSES`."""
    tme, fourth = planted["tme"].to_numpy(), grade_probabilities(planted)[:, 2]
    glioblastoma = fourth * norm.cdf((tme - GLIOBLASTOMA_CUT) / DIAGNOSIS_NOISE)
    oligodendroglioma = (1 - fourth) * norm.cdf((DIAGNOSIS_CUT - tme) / DIAGNOSIS_NOISE)
    return np.stack([oligodendroglioma, 1 - oligodendroglioma - glioblastoma, glioblastoma], axis=1)


def draw_labels(config: DemoConfig, planted: pd.DataFrame) -> pd.DataFrame:
    """Draw `grade` and `diagnosis` [p] jointly, with the marginal probabilities above."""
    rng, p = config.stream("labels"), config.patients
    tumor, tme = planted["tumor"].to_numpy(), planted["tme"].to_numpy()
    score = GRADE_WEIGHTS[0] * tumor + GRADE_WEIGHTS[1] * tme + rng.normal(0, GRADE_NOISE, p)
    grade = np.digitize(score, GRADE_CUTS)
    diagnosis_score = tme + rng.normal(0, DIAGNOSIS_NOISE, p)
    lower = np.where(diagnosis_score <= DIAGNOSIS_CUT, 0, 1)
    diagnosis = np.where(grade == 2, np.where(diagnosis_score > GLIOBLASTOMA_CUT, 2, 1), lower)
    return pd.DataFrame({"grade": np.array(GRADES)[grade], "diagnosis": np.array(DIAGNOSES)[diagnosis]})
