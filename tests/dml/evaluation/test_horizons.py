import numpy as np

from dml.core.predictions import read_predictions, write_predictions
from dml.evaluation.horizons import select_horizons
from dml.evaluation.metrics.kaplan_meier import censoring_curve, survival_curve
from dml.evaluation.results import read_results


def test_curves_are_those_of_each_fold_training_patients(tmp_path, invented):
    results = read_results(invented.write(tmp_path, "survival", {"teacher": 0.8}))
    horizons = select_horizons(results, (1.0, 3.0))
    assert horizons.years == (1, 3)
    assert (horizons.tau, horizons.primary) == (1096, 3)
    fold = results.patients["fold"].to_numpy(int)
    days = results.patients["days"].to_numpy(float)
    ours, null = horizons.uncensored(fold, days), horizons.null_survival(fold)
    for key, training in results.models["teacher"].training.items():
        expected = censoring_curve(training.days, training.event).at(days[fold == key])
        np.testing.assert_array_equal(ours[fold == key], expected)
        alive = survival_curve(training.days, training.event).at(np.array([365, 1096]))
        np.testing.assert_array_equal(null[fold == key], np.tile(alive, ((fold == key).sum(), 1)))


def test_every_model_is_weighted_by_the_largest_training_set(tmp_path, invented):
    invented.write(tmp_path, "survival", {"teacher": 0.8, "linear_genes": 0.5})
    for fold in range(3):
        path = tmp_path / "teacher" / f"fold-{fold}" / "predictions.parquet"
        rows, metadata = read_predictions(path)
        short = metadata | {"train_days": metadata["train_days"][:5], "train_event": metadata["train_event"][:5]}
        write_predictions(path, rows, short)
    horizons = select_horizons(read_results(tmp_path), (1.0,))
    training = read_results(tmp_path).models["linear_genes"].training[0]
    assert horizons.folds[0].last_day == training.days.max()


def test_a_year_that_training_does_not_reach_is_left_out(tmp_path, invented):
    invented.patients["survival_days"] = np.minimum(invented.patients["survival_days"], 800)
    results = read_results(invented.write(tmp_path, "survival", {"teacher": 0.8}))
    horizons = select_horizons(results, (1.0, 2.0, 3.0))
    assert horizons.years == (1, 2)
    assert "not followed for 1096 days" in horizons.left_out[3]


def test_without_training_follow_up_the_test_patients_stand_in(tmp_path, invented, caplog):
    for fold in range(3):
        rows, metadata = invented.rows("survival", "teacher", 0.8, fold)
        path = tmp_path / "teacher" / f"fold-{fold}" / "predictions.parquet"
        write_predictions(path, rows, metadata | {"train_days": [], "train_event": []})
    horizons = select_horizons(read_results(tmp_path), (1.0,))
    assert horizons.years == (1,)
    assert "censoring is estimated on the test patients" in caplog.text
