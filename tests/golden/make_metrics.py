"""Made metrics.json from metrics_survival.csv and metrics_classes.csv with scikit-survival 0.28.0, scikit-learn 1.9.1,
lifelines 0.30.3: golden values for dml.evaluation.metrics. Run from this folder: python make_metrics.py
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from lifelines.statistics import logrank_test
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, roc_auc_score
from sksurv.metrics import (
    concordance_index_censored,
    concordance_index_ipcw,
    cumulative_dynamic_auc,
    integrated_brier_score,
)

HERE = Path(__file__).parent
HORIZONS = [200.0, 400.0, 700.0]


def generate() -> None:
    """Write the inputs: heavy censoring, tied days, tied risks."""
    random = np.random.default_rng(2508)
    risk = np.round(random.normal(size=80), 1)
    death, dropout = random.exponential(900 * np.exp(-risk)), random.exponential(700, size=80)
    table = pd.DataFrame({"days": np.ceil(np.minimum(death, dropout) / 20) * 20, "event": (death <= dropout) * 1})
    table["risk"] = risk
    for horizon in HORIZONS:
        table[f"survival_{horizon:g}"] = np.round(np.exp(-horizon / 900 * np.exp(risk)), 4)
    table["train"] = [1] * 40 + [0] * 40
    table.to_csv(HERE / "metrics_survival.csv", index=False)
    label = np.r_[0, 1, 2, random.integers(0, 3, 77)]
    votes = random.multinomial(13, [1 / 3] * 3, size=80) + 3 * np.eye(3)[label]
    classes = pd.DataFrame(np.round(votes / 16, 4), columns=["p0", "p1", "p2"]).assign(label=label)
    classes.to_csv(HERE / "metrics_classes.csv", index=False)


def expected() -> dict[str, object]:
    """Compute the golden values."""
    table = pd.read_csv(HERE / "metrics_survival.csv")
    y = np.array(list(zip(table["event"] == 1, table["days"], strict=True)), dtype=[("e", bool), ("d", float)])
    train, test = y[table["train"] == 1], y[table["train"] == 0]
    tested = table[table["train"] == 0]
    index, *counts = concordance_index_censored(test["e"], test["d"], tested["risk"])
    survival = tested[[f"survival_{h:g}" for h in HORIZONS]].to_numpy()
    high = tested["risk"] > 0
    rank = logrank_test(test["d"][high], test["d"][~high], test["e"][high], test["e"][~high])
    classes = pd.read_csv(HERE / "metrics_classes.csv")
    p, label = classes[["p0", "p1", "p2"]].to_numpy(), classes["label"].to_numpy()
    return {
        "harrell": index,
        "counts": [int(count) for count in counts],
        "uno": concordance_index_ipcw(train, test, tested["risk"], tau=700)[0],
        "auc": cumulative_dynamic_auc(train, test, tested["risk"], HORIZONS)[0].tolist(),
        "ibs": integrated_brier_score(train, test, survival, HORIZONS),
        "log_rank": [rank.test_statistic, rank.p_value],
        "macro_auc": roc_auc_score(label, p, multi_class="ovr"),
        "balanced_accuracy": balanced_accuracy_score(label, p.argmax(axis=1)),
        "f1": f1_score(label, p.argmax(axis=1), average="macro"),
        "brier": brier_score_loss(label, p),
    }


if __name__ == "__main__":
    generate()
    (HERE / "metrics.json").write_text(json.dumps(expected(), indent=2) + "\n")
