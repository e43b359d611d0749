from pathlib import Path

import pandas as pd
import pytest

from dml.cohorts.published_splits import load_published
from dml.config.params import Split
from dml.core.errors import InputError

IDS = [f"P{i:02d}" for i in range(20)]
PATIENTS = pd.DataFrame({"patient_id": IDS, "site": "H", "event": [bool(i % 2) for i in range(20)]})


def publish(folder: Path, fold: int, **parts: list[str]) -> None:
    pd.DataFrame({name: pd.Series(ids, dtype=object) for name, ids in parts.items()}).to_csv(
        folder / f"splits_{fold}.csv"
    )


def load(folder: Path, paired: set[str]) -> pd.DataFrame:
    return load_published(folder, PATIENTS, paired, Split(validation_share=0.25), seed=1)


def roles(splits: pd.DataFrame, fold: int, role: str) -> set[str]:
    return set(splits.loc[(splits["fold"] == fold) & (splits["role"] == role), "patient_id"])


def test_a_published_val_part_is_the_test_part_and_validation_is_drawn_from_train(tmp_path: Path) -> None:
    publish(tmp_path, 0, train=IDS[8:], val=[*IDS[:8], "elsewhere"])
    publish(tmp_path, 1, train=IDS[:8], val=IDS[8:16])
    splits = load(tmp_path, set(IDS[1:]))
    assert roles(splits, 0, "test") == set(IDS[1:8])
    assert roles(splits, 1, "test") == set(IDS[8:16])
    assert len(roles(splits, 0, "validation")) == 3
    assert roles(splits, 0, "validation") <= set(IDS[8:])
    assert {"P00", *IDS[16:]} <= roles(splits, 1, "train"), "unpaired and unmentioned patients train"
    assert len(splits) == 40


def test_a_published_test_part_is_kept_with_its_validation(tmp_path: Path) -> None:
    publish(tmp_path, 0, train=IDS[8:], val=IDS[4:8], test=IDS[:4])
    splits = load(tmp_path, set(IDS))
    assert roles(splits, 0, "test") == set(IDS[:4])
    assert roles(splits, 0, "validation") == set(IDS[4:8])


def test_a_patient_in_two_parts_or_two_tests_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, 0, train=IDS[3:], val=IDS[:4])
    with pytest.raises(InputError, match=r"splits_0\.csv: in train and in val: P03"):
        load(tmp_path, set(IDS))
    publish(tmp_path, 0, train=IDS[4:], val=IDS[:4])
    publish(tmp_path, 1, train=IDS[4:], val=IDS[:4])
    with pytest.raises(InputError, match=r"tested in more than one fold: P00, P01, P02, P03"):
        load(tmp_path, set(IDS))


def test_an_incomplete_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no series splits_0\.csv, .* but none"):
        load(tmp_path, set(IDS))
    publish(tmp_path, 1, train=IDS[4:], val=IDS[:4])
    with pytest.raises(InputError, match="no series"):
        load(tmp_path, set(IDS))


def test_splits_of_other_patients_are_refused(tmp_path: Path) -> None:
    publish(tmp_path, 0, train=[f"{p}-S1" for p in IDS[4:]], val=[f"{p}-S1" for p in IDS[:4]])
    with pytest.raises(InputError, match=r"0 of its 20 patients .* suffix \(sample or aliquot\) is cut: P00-S1 is P00"):
        load(tmp_path, set(IDS))
    publish(tmp_path, 0, train=[f"Q{i}" for i in range(20)], val=IDS[:4])
    with pytest.raises(InputError, match=r"4 of its 24 patients are among the cohort's 20 \(unmatched, .*Q0, Q1"):
        load(tmp_path, set(IDS))
