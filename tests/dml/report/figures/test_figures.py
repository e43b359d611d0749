import numpy as np
import pytest
from scipy.stats import binomtest

from dml.evaluation.intervals import wilson_interval
from dml.evaluation.results import Training, read_results
from dml.report.figures.calibration import confusion_counts, quantile_groups
from dml.report.figures.faithfulness import draw_faithfulness
from dml.report.figures.forest import draw_forest
from dml.report.figures.kaplan_meier import draw_kaplan_meier
from dml.report.tables import faithfulness_table


@pytest.fixture
def teacher(tmp_path, invented):
    return read_results(invented.write(tmp_path / "m", "survival", {"teacher": 0.8})).models["teacher"]


def test_a_figure_has_no_date_and_equal_content_is_equal_bytes(teacher, tmp_path):
    assert draw_kaplan_meier(teacher, tmp_path / "a.svg")
    assert draw_kaplan_meier(teacher, tmp_path / "b.svg")
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes()
    assert b"dc:date" not in drawn


def test_without_two_groups_nothing_is_drawn(teacher, tmp_path):
    lowest = {fold: Training(t.days, t.event, -1e9) for fold, t in teacher.training.items()}
    assert not draw_kaplan_meier(type(teacher)("teacher", teacher.rows, lowest), tmp_path / "a.svg")
    assert not draw_forest({"teacher": {}}, "c_index", tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()


def test_fifths_are_of_like_size_and_ties_stay_together():
    predicted = np.random.default_rng(0).random(53)
    parts = quantile_groups(predicted)
    assert sorted(np.concatenate(parts)) == list(range(53))
    assert {len(index) for index in parts} <= {10, 11}
    assert [len(index) for index in quantile_groups(np.full(20, 0.3))] == [20]


@pytest.mark.parametrize(("right", "patients"), [(0, 12), (5, 12), (12, 12), (80, 333)])
def test_the_interval_of_a_share_is_wilsons(right, patients):
    theirs = binomtest(right, patients).proportion_ci(0.95, "wilson")
    assert wilson_interval(right, patients) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_confusion_counts_every_patient_once(tmp_path, invented):
    model = read_results(invented.write(tmp_path, "classification", {"teacher": 0.8})).models["teacher"]
    counts = confusion_counts(model.rows, ("G2", "G3", "G4"))
    assert counts.sum() == 120
    assert counts.sum(axis=1).tolist() == invented.patients["grade"].value_counts()[["G2", "G3", "G4"]].tolist()


def test_faithfulness_is_drawn_and_tabled_where_it_was_probed(tmp_path):
    area = {"value": 0.3, "ci_low": 0.2, "ci_high": 0.4}
    curve = {"deletion": [-0.1, -0.2], "insertion": [0.2, 0.1], "faithfulness": area}
    paired = {"difference": 0.25, "ci_low": 0.1, "ci_high": 0.35, "p": 0.01}
    model = dict.fromkeys(("contribution", "attention", "random"), curve)
    model |= {"differences": {"attention": paired, "random": None}}
    probed = {"patients": 9, "shares": [0.3, 0.7], "teacher": model, "student": model}
    assert draw_faithfulness(probed, tmp_path / "a.svg")
    assert not draw_faithfulness({"left_out": "small bags"}, tmp_path / "b.svg")
    assert not draw_faithfulness(None, tmp_path / "b.svg")
    assert not (tmp_path / "b.svg").exists()
    rows = faithfulness_table(probed).rows
    assert [row[:2] for row in rows[:2]] == [("teacher", "contribution"), ("teacher", "attention")]
    assert "0.25" in rows[1][3]
    assert len(rows) == 6
