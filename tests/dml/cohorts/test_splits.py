"""Splits: every paired patient is tested once, strata are even, nothing depends on the order of rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dml.cohorts.splits import draw_share, joint_strata, make_splits, split_report, write_splits
from dml.cohorts.store_files import read_splits
from dml.config.params import Split
from dml.core.errors import ConfigError, InputError


def cohort(count: int = 60, sites: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(count)
    return pd.DataFrame(
        {
            "patient_id": [f"P{i:03d}" for i in range(count)],
            "site": [f"H{i % sites}" for i in range(count)],
            "survival_days": rng.uniform(1, 3000, count),
            "event": [bool(i % 3) for i in range(count)],
            "age": rng.uniform(20, 80, count),
            "grade": [["G2", "G3", "G4"][i % 7 % 3] for i in range(count)],
        }
    )


def paired_of(patients: pd.DataFrame) -> set[str]:
    return set(patients["patient_id"])


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(20, 120),
    folds=st.integers(2, 6),
    share=st.floats(0.1, 0.5),
    unpaired=st.integers(0, 7),
    columns=st.lists(st.sampled_from(["event", "survival", "grade", "age"]), max_size=3, unique=True),
)
def test_what_every_split_must_be(count: int, folds: int, share: float, unpaired: int, columns: list[str]) -> None:
    patients = cohort(count)
    paired = set(patients["patient_id"][unpaired:])
    config = Split(validation_share=share, stratify=tuple(columns))
    splits = make_splits(patients, paired, folds, config, seed=1)
    assert len(splits) == count * folds
    tested = splits[splits["role"] == "test"]
    assert sorted(tested["patient_id"]) == sorted(paired), "every paired patient is tested exactly once, no other ever"
    alone = splits[~splits["patient_id"].isin(paired)]
    assert set(alone["role"]) <= {"train"}
    sizes = tested["fold"].value_counts()
    assert sizes.max() - sizes.min() <= 1
    for _, rows in splits[splits["patient_id"].isin(paired)].groupby("fold"):
        rest = rows[rows["role"] != "test"]
        assert (rest["role"] == "validation").sum() == max(1, round(share * len(rest)))
        assert ((rest["inner_fold"] == 0) == (rest["role"] == "validation")).all()
        turns = rest.loc[rest["inner_fold"] > 0, "inner_fold"].value_counts()
        others = min(max(1, round(1 / share) - 1), (rest["role"] == "train").sum())
        assert set(turns.index) == set(range(1, others + 1))
        assert turns.max() - turns.min() <= 1
    assert (splits.loc[~splits["patient_id"].isin(paired) | (splits["role"] == "test"), "inner_fold"] == -1).all()


@pytest.mark.parametrize("columns", [("event",), ("event", "grade"), ("survival", "grade")])
def test_strata_are_spread_as_evenly_as_whole_numbers_allow(columns: tuple[str, ...]) -> None:
    patients = cohort(90)
    splits = make_splits(patients, paired_of(patients), 5, Split(stratify=columns), seed=3)
    tested = splits[splits["role"] == "test"]
    table = pd.crosstab(tested["stratum"], tested["fold"])
    assert (table.max(axis=1) - table.min(axis=1) <= 1).all()
    events = tested.merge(patients).groupby("fold")["event"].sum()
    assert events.max() - events.min() <= len(table)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_order_of_rows_does_not_matter(seed: int, group_sites: bool) -> None:
    patients = cohort()
    config = Split(stratify=("event", "grade"), group_sites=group_sites)
    shuffled = patients.sample(frac=1, random_state=seed)
    first = make_splits(patients, paired_of(patients), 3, config, seed=7)
    pd.testing.assert_frame_equal(make_splits(shuffled, paired_of(patients), 3, config, seed=7), first)


def test_the_seed_decides() -> None:
    patients = cohort()
    splits = [make_splits(patients, paired_of(patients), 3, Split(), seed=s) for s in (1, 1, 2)]
    assert splits[0].equals(splits[1])
    assert not splits[0].equals(splits[2])


def test_sites_stay_together_in_test_and_validation() -> None:
    patients = cohort(90, sites=9)
    config = Split(stratify=("event",), group_sites=True)
    splits = make_splits(patients, paired_of(patients), 3, config, seed=5)
    for _, rows in splits.merge(patients).groupby("fold"):
        assert (rows.groupby("site")["role"].nunique() == 1).all()
    report = split_report(splits, patients)
    assert [part["test_sites_also_elsewhere"] for part in report.values()] == [[], [], []]


@pytest.mark.parametrize("group_sites", [False, True])
def test_a_group_is_never_on_two_sides_of_a_fold(group_sites: bool) -> None:
    patients = cohort(90, sites=15)
    patients["group"] = patients["site"]
    patients["site"] = [f"S{int(site[1:]) % 5}" for site in patients["site"]]
    eligible = set(patients["patient_id"]) - {"P003", "P004"}
    splits = make_splits(patients, eligible, 3, Split(group_sites=group_sites), seed=5).merge(patients)
    column = "site" if group_sites else "group"
    for _, rows in splits[splits["patient_id"].isin(eligible)].groupby("fold"):
        assert (rows.groupby(column)["role"].nunique() == 1).all()
        assert (rows[rows["role"] == "train"].groupby(column)["inner_fold"].nunique() == 1).all()
    for patient in ("P003", "P004"):
        own = splits.loc[splits["patient_id"] == patient, column].iloc[0]
        tested = set(splits.loc[(splits[column] == own) & (splits["role"] == "test"), "fold"])
        assert set(splits.loc[splits["patient_id"] == patient, "fold"]) == {0, 1, 2} - tested
    assert set(splits.loc[splits["role"] == "test", "patient_id"]) == eligible


def test_the_report_says_which_sites_straddle_and_why_they_can() -> None:
    patients = cohort(90, sites=9)
    paired = set(patients["patient_id"][1:])
    splits = make_splits(patients, paired, 3, Split(group_sites=True), seed=5)
    straddling = [
        site for part in split_report(splits, patients).values() for site in part["test_sites_also_elsewhere"]
    ]
    assert straddling == ["H0"], "its unpaired patient P000 trains in every fold"
    free = split_report(make_splits(patients, paired, 3, Split(), seed=5), patients)
    assert all(len(part["test_sites_also_elsewhere"]) == part["test_sites"] == 9 for part in free.values())


def test_patients_of_unknown_site_are_not_one_site() -> None:
    patients = cohort(60).assign(site="unknown")
    splits = make_splits(patients, paired_of(patients), 3, Split(group_sites=True), seed=5)
    assert (splits[splits["role"] == "test"]["fold"].value_counts() == 20).all()


def test_rare_strata_fall_back_to_their_leading_columns() -> None:
    patients = cohort(40)
    patients["grade"] = ["G2"] * 20 + ["G3"] * 18 + ["G4"] * 2
    strata = joint_strata(patients, ["event", "grade"], 5)
    assert set(strata) == {"alive / G2", "alive / G3", "dead / G2", "dead / G3", "rare"} or "dead" in set(strata)
    assert pd.Series(strata[-2:]).isin(["dead", "alive", "rare"]).all()
    patients["grade"] = None
    assert set(joint_strata(patients, ["grade"], 5)) == {"unknown"}
    assert set(joint_strata(patients, [], 5)) == {"rare"}


def test_what_cannot_be_split_is_said() -> None:
    patients = cohort(40, sites=2)
    with pytest.raises(
        InputError,
        match=r"4 patients can be tested \(paired\); 5 folds need at least 10\. .*split\.test_population: ",
    ):
        make_splits(patients, set(patients["patient_id"][:4]), 5, Split(), 0)
    with pytest.raises(
        InputError, match=r"2 sites or groups cannot be kept together in 5 parts\. Set split\.group_sites: false"
    ):
        make_splits(patients, paired_of(patients), 5, Split(group_sites=True), 0)
    with pytest.raises(ConfigError, match=r"split\.stratify: no column 'gade'; there are survival, patient_id"):
        make_splits(patients, paired_of(patients), 5, Split(stratify=("gade",)), 0)


def test_draw_is_even_over_strata(rng: np.random.Generator) -> None:
    strata = np.array(["a"] * 40 + ["b"] * 20 + ["c"] * 10)
    mask = draw_share(strata, 0.2, rng)
    assert [int(mask[strata == s].sum()) for s in "abc"] == [8, 4, 2]


def test_written_and_read_back(tmp_path: Path) -> None:
    patients = cohort()
    splits = make_splits(patients, paired_of(patients), 3, Split(), 0)
    write_splits(tmp_path / "s.parquet", splits, split_report(splits, patients))
    back = read_splits(tmp_path / "s.parquet")
    assert back.attrs["report"]["0"]["patients"]["test"] == 20
    pd.testing.assert_frame_equal(back, splits, check_dtype=False)


def test_a_number_is_balanced_by_its_quartiles() -> None:
    patients = cohort(120).assign(purity=np.random.default_rng(4).gamma(2.0, size=120))
    splits = make_splits(patients, paired_of(patients), 4, Split(stratify=("purity",)), seed=3)
    tested = splits[splits["role"] == "test"].merge(patients[["patient_id", "purity"]], on="patient_id")
    quartile = pd.qcut(tested["purity"], 4, labels=False)
    counts = pd.crosstab(tested["fold"], quartile).to_numpy()
    assert counts.max() - counts.min() <= 1
