import numpy as np
import pytest

from dml.evaluation.metric_sets import MAIN, PRIMARY
from dml.evaluation.metrics.registry import entries, find, metric, metric_label


def test_one_metric_leads_each_kind():
    for kind in ("survival", "classification"):
        leading = [entry for entry in entries(kind) if entry.leading]
        assert [entry.name for entry in leading] == [PRIMARY[kind]]
        assert leading[0].chance_level(2) == 0.5
        assert PRIMARY[kind] == MAIN[kind][0]
        assert all(find(entry.null, kind) for entry in entries(kind) if entry.null)


def test_main_metrics_are_in_the_order_of_tables():
    assert MAIN["survival"] == ("c_index", "c_uno", "ibs", "calibration_slope")
    assert MAIN["classification"] == ("auc", "balanced_accuracy", "f1", "ece", "brier", "calibration_slope")


def test_labels_of_horizons_and_classes():
    assert metric_label("auc_0.5y") == "AUC at 0.5 y"
    assert metric_label("recall_G2") == "Recall G2"
    assert metric_label("unknown") == "unknown"
    assert find("oe_3y", "survival").calibration
    assert find("balanced_accuracy", "survival") is None


def test_chance_may_depend_on_the_number_of_classes():
    assert find("balanced_accuracy").chance_level(4) == 0.25


def test_a_metric_is_bound_only_where_its_inputs_are_known():
    entry = find("ece", "classification")
    assert entry.bind({"label": np.zeros(2, int)}) is None
    bound = entry.bind({"label": np.zeros(2, int), "probabilities": np.tile([0.8, 0.2], (2, 1)), "classes": 2})
    assert bound(np.ones((1, 2)))[0] == pytest.approx(0.2)
    assert find("auc_G2", "classification").bind(
        {"label": 0, "score": 0, "fold": 0, "positive": 0, "classes": 2}
    ) is None  # fmt: skip


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="defined twice"):

        @metric("c_index", kind="survival", label="another")
        def another(weights):
            return weights
