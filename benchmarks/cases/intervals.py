"""Bootstrap: 500 patients x 2,000 resamples of all survival metrics, every metric on the same draws."""

import numpy as np
import pandas as pd

from benchmarks.measurement import time_repeats
from benchmarks.registry import Benchmark, Measurement, register
from dml.core.tasks import horizon_days, survival_column
from dml.evaluation.horizons import FoldCurves, Horizons
from dml.evaluation.intervals import bootstrap_weights, estimate
from dml.evaluation.metric_sets import survival_metrics
from dml.evaluation.metrics.kaplan_meier import censoring_curve, survival_curve

PATIENTS, RESAMPLES, YEARS = 500, 2000, (1.0, 2.0, 3.0, 5.0)


def _make_predictions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    risk = rng.normal(size=PATIENTS)
    death_days, censoring_days = rng.exponential(1200 * np.exp(-risk)), rng.uniform(200, 5000, PATIENTS)
    rows = pd.DataFrame({"fold": np.arange(PATIENTS) % 5, "risk": risk + rng.normal(size=PATIENTS)})
    rows["days"], rows["event"] = np.minimum(death_days, censoring_days), death_days <= censoring_days
    for year in YEARS:
        rows[survival_column(year)] = np.exp(-horizon_days(year) / (1200 * np.exp(-rows["risk"] / 2)))
    return rows


def _time_bootstrap() -> Measurement:
    rows = _make_predictions()
    days, event = rows["days"].to_numpy(), rows["event"].to_numpy()
    curves = FoldCurves(censoring_curve(days, event), survival_curve(days, event), float(days.max()))
    panel = survival_metrics(rows, Horizons(YEARS, dict.fromkeys(range(5), curves), {}))

    def run() -> None:
        weights = bootstrap_weights(rows["fold"].to_numpy(), RESAMPLES, 0)
        for metric in panel.values():
            estimate(metric, weights, 0.95)

    result = time_repeats(run, repeats=3, warm=0)
    return Measurement(result.wall_s, result.cpu_s, {"metrics": float(len(panel))})


register(Benchmark("bootstrap, 500 patients x 2,000 x all metrics", "8 evaluation", _time_bootstrap))
