import numpy as np
import pytest

from dml.core.errors import InputError
from dml.core.predictions import read_predictions, write_predictions
from dml.core.tasks import horizon_days, survival_column


def test_horizons_are_named_by_their_days():
    assert [survival_column(year) for year in (1.0, 2.0, 3.0, 5.0)] == [
        "survival_365", "survival_730", "survival_1096", "survival_1826",
    ]  # fmt: skip
    assert horizon_days(0.5) == 183


@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_what_is_written_is_read_back(tmp_path, invented, kind):
    rows, metadata = invented.rows(kind, "teacher", 0.8, fold=0)
    write_predictions(tmp_path / "predictions.parquet", rows, metadata)
    again, said = read_predictions(tmp_path / "predictions.parquet")
    assert said == metadata
    assert again.equals(rows.reset_index(drop=True)[again.columns.tolist()])


BAD_SURVIVAL = {
    "NaN or infinite values among risk": lambda rows: rows.assign(risk=rows["risk"].where(rows.index != 3)),
    "probabilities outside 0 to 1": lambda rows: rows.assign(survival_365=1.2),
    "follow-up that is missing or negative": lambda rows: rows.assign(days=-rows["days"]),
    "an event that is neither 0 nor 1": lambda rows: rows.assign(event=2),
    "roles train": lambda rows: rows.assign(role="train"),
    "columns missing: site": lambda rows: rows.drop(columns="site"),
    "patients with more than one row in a fold: P": lambda rows: rows.assign(patient_id=rows["patient_id"].iloc[0]),
}


@pytest.mark.parametrize(("message", "spoil"), BAD_SURVIVAL.items(), ids=BAD_SURVIVAL)
def test_bad_survival_predictions_are_refused_by_name(tmp_path, invented, message, spoil):
    rows, metadata = invented.rows("survival", "teacher", 0.8, fold=0)
    path = tmp_path / "predictions.parquet"
    with pytest.raises(InputError, match=message) as refused:
        write_predictions(path, spoil(rows), metadata)
    assert str(path) in str(refused.value)
    assert not path.exists()


BAD_CLASSES = {
    "class probabilities that do not sum to one": lambda rows: rows.assign(p_G2=0.9),
    "labels other than G2, G3, G4": lambda rows: rows.assign(label="G9"),
    "columns missing: p_G4": lambda rows: rows.drop(columns="p_G4"),
}


@pytest.mark.parametrize(("message", "spoil"), BAD_CLASSES.items(), ids=BAD_CLASSES)
def test_bad_class_predictions_are_refused_by_name(tmp_path, invented, message, spoil):
    rows, metadata = invented.rows("classification", "teacher", 0.8, fold=0)
    with pytest.raises(InputError, match=message):
        write_predictions(tmp_path / "predictions.parquet", spoil(rows), metadata)


def test_the_message_names_the_patient(tmp_path, invented):
    rows, metadata = invented.rows("survival", "teacher", 0.8, fold=0)
    rows.loc[4, "risk"] = np.nan
    with pytest.raises(InputError, match=rows["patient_id"][4]):
        write_predictions(tmp_path / "predictions.parquet", rows, metadata)


def test_an_unknown_kind_is_refused(tmp_path, invented):
    rows, metadata = invented.rows("survival", "teacher", 0.8, fold=0)
    with pytest.raises(InputError, match="metadata 'kind' is 'ranking'"):
        write_predictions(tmp_path / "predictions.parquet", rows, metadata | {"kind": "ranking"})
