"""The metrics against values from other libraries, kept in tests/golden with the script that made them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.brier import integrated_brier
from dml.evaluation.metrics.classification import balanced_accuracy, brier_score, macro_auc, macro_f1
from dml.evaluation.metrics.concordance import count_pairs, dynamic_auc, uno_c
from dml.evaluation.metrics.kaplan_meier import censoring_curve, log_rank

GOLDEN = Path(__file__).parents[2] / "golden"
HORIZONS = np.array([200.0, 400.0, 700.0])


@pytest.fixture
def golden():
    return json.loads((GOLDEN / "metrics.json").read_text())


def test_survival(golden):
    table = pd.read_csv(GOLDEN / "metrics_survival.csv")
    train, test = table[table["train"] == 1], table[table["train"] == 0]
    censoring = censoring_curve(train["days"].to_numpy(), train["event"].to_numpy(bool))
    ranked = {
        "days": test["days"].to_numpy(), "event": test["event"].to_numpy(bool),
        "risk": test["risk"].to_numpy(), "fold": np.zeros(len(test), int),
    }  # fmt: skip
    weighted = ranked | {"uncensored": censoring.at(ranked["days"])}
    one = unweighted(len(test))
    counts = count_pairs(**ranked)
    assert [counts.concordant, counts.discordant, counts.tied_risk, counts.tied_time] == golden["counts"]
    assert counts.index == pytest.approx(golden["harrell"], abs=1e-10)
    assert uno_c(one, **weighted, tau=700.0)[0] == pytest.approx(golden["uno"], abs=1e-10)
    auc = [dynamic_auc(one, **weighted, horizon=horizon)[0] for horizon in HORIZONS]
    assert auc == pytest.approx(golden["auc"], abs=1e-10)
    survival = test[[f"survival_{h:g}" for h in HORIZONS]].to_numpy()
    ibs = integrated_brier(
        one, days=ranked["days"], event=ranked["event"], survival=survival, horizons=HORIZONS,
        uncensored=weighted["uncensored"], uncensored_at=np.tile(censoring.at(HORIZONS), (len(test), 1)),
    )  # fmt: skip
    assert ibs[0] == pytest.approx(golden["ibs"], abs=1e-10)
    high = (ranked["risk"] > 0).astype(int)
    assert log_rank(ranked["days"], ranked["event"], high) == pytest.approx(golden["log_rank"], abs=1e-8)


def test_classes(golden):
    table = pd.read_csv(GOLDEN / "metrics_classes.csv")
    probabilities, label = table[["p0", "p1", "p2"]].to_numpy(), table["label"].to_numpy()
    one, predicted = unweighted(len(table)), probabilities.argmax(axis=1)
    auc = macro_auc(one, label=label, probabilities=probabilities, fold=np.zeros(len(table), int))[0]
    assert auc == pytest.approx(golden["macro_auc"], abs=1e-10)
    hard = {"label": label, "predicted": predicted, "classes": 3}
    assert balanced_accuracy(one, **hard)[0] == pytest.approx(golden["balanced_accuracy"], abs=1e-10)
    assert macro_f1(one, **hard)[0] == pytest.approx(golden["f1"], abs=1e-10)
    brier = brier_score(one, label=label, probabilities=probabilities)[0]
    assert brier == pytest.approx(golden["brier"], abs=1e-10)
