"""Configuration of the generated cohort, and the latent factors planted in each patient.

Shape legend: p patients.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from dml.core.errors import ConfigError

STREAMS = {"patients": 1, "expression": 2, "survival": 3, "labels": 4, "missing": 5, "slides": 6, "sites": 7}
"""One independent random stream per concern: changing one part of a cohort leaves the others as they were."""


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """Settings of a generated cohort; equal settings give equal bytes.

    Parameters
    ----------
    patients, seed, sites : int
        How many patients, the random seed, how many hospitals.
    slide_px : int
        Typical side of a slide in level-0 pixels; sides vary by up to 20 %.
    mpp : float
        Microns per pixel of level 0 (0.5 = 20x). The painted structures keep their size in microns.
    tissue : float
        Typical share of a slide that is tissue.
    second_slide : float
        Share of patients with two slides.
    without_expression : float
        Share of patients without transcriptome.
    missing : float
        Share of patients without follow-up; the same share again, of other patients, per label.
    censored : float
        Share of the patients with follow-up who are censored.
    slide_noise, expression_noise : (float, float)
        Standard deviations of the noise that a slide, and the sequenced piece of tissue, add to the patient's tumor and
        TME factor (which have standard deviation 1). The slide is the better measurement of the TME factor, expression
        of the tumor factor: an ideal predictor from both exceeds one from either alone by 0.03 in C-index.

    Raises
    ------
    ConfigError
        If a number is outside of what can be generated.
    """

    patients: int = 80
    seed: int = 7
    sites: int = 3
    slide_px: int = 2048
    mpp: float = 0.5
    tissue: float = 0.5
    second_slide: float = 0.25
    without_expression: float = 0.1
    missing: float = 0.08
    censored: float = 0.4
    slide_noise: tuple[float, float] = (0.7, 0.25)
    expression_noise: tuple[float, float] = (0.25, 0.7)

    def __post_init__(self) -> None:
        minimum = {"patients": 3, "seed": 0, "sites": 1, "slide_px": 512, "mpp": 0.2}
        for name, value in minimum.items():
            if getattr(self, name) < value:
                raise ConfigError(f"demo cohort: {name} must be at least {value}, found {getattr(self, name)}")
        for name in ("tissue", "second_slide", "without_expression", "missing", "censored"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"demo cohort: {name} is a share in [0, 1), found {getattr(self, name)}")

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return asdict(self)

    def stream(self, name: str, *indices: int) -> np.random.Generator:
        """Return the random generator of one concern (and one patient, slide, ... of it)."""
        return np.random.default_rng([self.seed, STREAMS[name], *indices])


def draw_patients(config: DemoConfig) -> pd.DataFrame:
    """Draw the planted factors and the demographics of every patient.

    Returns
    -------
    DataFrame [p]
        `patient_id`, `site`, `age` (years), `sex`, `slides` (1 or 2) and the standardised, uncorrelated factors
        `tumor` and `tme`. The factors are independent of site, age and sex.
    """
    rng, p = config.stream("patients"), config.patients
    tumor, tme = normal_scores(rng, p), normal_scores(rng, p)
    tme = tme - tumor * (tumor @ tme) / (tumor @ tumor)
    second = rng.permutation(p) < round(config.second_slide * p)
    return pd.DataFrame(
        {
            "patient_id": [f"DEMO-{i + 1:03d}" for i in range(p)],
            "site": [f"site-{i + 1}" for i in rng.permutation(np.arange(p) % config.sites)],
            "age": np.clip(np.round(rng.normal(52, 13, p)), 19, 88).astype(int),
            "sex": np.where(rng.permutation(p) % 2 == 0, "female", "male"),
            "slides": 1 + second.astype(int),
            "tumor": tumor / tumor.std(),
            "tme": tme / tme.std(),
        }
    )


def normal_scores(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return the n quantiles of the standard normal in random order, so that the sample moments are exact."""
    scores: np.ndarray = norm.ppf((rng.permutation(n) + 0.5) / n)
    return scores


def draw_slide_factors(config: DemoConfig, planted: pd.DataFrame) -> pd.DataFrame:
    """Draw the noisy factors that each slide shows.

    Returns
    -------
    DataFrame [slides]
        `slide_id`, `patient_id`, `site`, `patient` and `index` (integers, for random streams), `tumor`, `tme`.
    """
    rows = []
    for i, patient in enumerate(planted.to_dict("records")):
        for k in range(patient["slides"]):
            noise = config.stream("slides", i, k, 0).normal(0, config.slide_noise, 2)
            rows.append(
                {
                    "slide_id": f"{patient['patient_id']}-{k + 1}",
                    "patient_id": patient["patient_id"],
                    "site": patient["site"],
                    "patient": i,
                    "index": k,
                    "tumor": patient["tumor"] + noise[0],
                    "tme": patient["tme"] + noise[1],
                }
            )
    return pd.DataFrame(rows)
