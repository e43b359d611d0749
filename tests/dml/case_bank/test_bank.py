"""The bank holds no names, its tokens are of members that did not train on a patient, and neighbours are right."""

from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from dml.case_bank.bank import CaseBank
from dml.case_bank.build_bank import build_bank, embed, embed_all
from dml.case_bank.dichotomy import Dichotomy, nodes_of
from dml.case_bank.outcomes import describe_outcomes
from dml.case_bank.similar_cases import find_similar
from dml.core.errors import InputError
from dml.core.files import digest
from dml.core.tasks import make_task
from dml.core.types import Cohort
from dml.data.example_cohort import example_cohort
from dml.evaluation.intervals import wilson_interval
from dml.training.checkpoint import FoldModel
from tests.dml.attribution.test_attribute import fold_model

SURVIVAL = make_task("survival", {})


def trained_with(fold: int, patients: list[str]) -> FoldModel:
    model = fold_model("student", "survival", True, fold=fold)
    hashes = tuple(sorted(digest(patient) for patient in patients))
    return replace(model, spec=model.spec.model_copy(update={"training_patient_hashes": hashes}))


@pytest.fixture(scope="module")
def patients() -> Cohort:
    return example_cohort(12)


@pytest.fixture(scope="module")
def folds(patients: Cohort) -> list[FoldModel]:
    ids = [case.patient_id for case in patients.cases]
    return [trained_with(0, ids[4:]), trained_with(1, ids[:4] + ids[8:])]


@pytest.fixture(scope="module")
def bank(folds: list[FoldModel], patients: Cohort) -> CaseBank:
    inner = {f"P{i:03d}": i % 2 for i in range(4, 8)}
    return build_bank(folds, patients, [inner, {}])


def tokens_of(folds: list[FoldModel], patients: Cohort, patient: str) -> dict[str, np.ndarray]:
    return {b: v[0] for b, v in embed_all(folds, patients.subset({patient})).items()}


def test_tokens_are_of_members_that_did_not_train_on_the_patient(bank: CaseBank, folds: list[FoldModel]) -> None:
    known = np.isfinite(bank.tokens["tumor"][:, :, 0])
    members = len(folds[0].members)
    assert known[:4, :members].all()
    assert not known[:4, members:].any(), "fold 1 was trained with the first four"
    assert known[4:8, members:].all()
    for i in range(4, 8):
        assert known[i, :members].tolist() == [m % 2 == i % 2 for m in range(members)], "selected on the inner fold"
    assert known[8:].all()
    assert bank.cases["held_out"].tolist() == [True] * 8 + [False] * 4


def test_a_bank_has_no_names(bank: CaseBank, tmp_path: Path) -> None:
    bank.save(tmp_path, {"model": "m"})
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"P000" not in content
    assert bank.cases["patient"].iloc[0] == digest("P000")


def test_a_bank_survives_its_file(bank: CaseBank, tmp_path: Path, folds: list[FoldModel], patients: Cohort) -> None:
    bank.save(tmp_path, {})
    again, tokens = CaseBank.load(tmp_path), tokens_of(folds, patients, "P003")
    for branch, values in bank.distances(tokens).items():
        np.testing.assert_allclose(again.distances(tokens)[branch], values, atol=2e-3)
    assert again.labels == ["grade", "score"]


def test_a_damaged_bank_is_refused(bank: CaseBank, tmp_path: Path) -> None:
    bank.save(tmp_path, {})
    (tmp_path / "tokens.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="dvc repro case_bank"):
        CaseBank.load(tmp_path)


def test_the_patient_is_the_nearest_and_left_out(bank: CaseBank, folds: list[FoldModel], patients: Cohort) -> None:
    tokens = tokens_of(folds, patients, "P002")
    similar = find_similar(bank, tokens, "P002", None)
    assert all(values.argmin() == 2 and values.min() < 1e-3 for values in similar.distances.values())
    assert similar.excluded.counts() == {"patient": 1, "near_duplicates": 0, "same_site": 0}
    assert digest("P002") not in set(similar.nearest("both", 20)["patient"])
    renamed = find_similar(bank, tokens, "somebody", None)
    assert renamed.excluded.counts() == {"patient": 0, "near_duplicates": 1, "same_site": 0}


def test_patients_of_the_hospital_are_left_out_unless_allowed(
    bank: CaseBank, folds: list[FoldModel], patients: Cohort
) -> None:
    tokens, site = tokens_of(folds, patients, "P002"), patients.cases[2].site
    assert site not in set(find_similar(bank, tokens, "P002", site).nearest("both", 20)["site"])
    assert site in set(find_similar(bank, tokens, "P002", site, allow_same_site=True).nearest("both", 20)["site"])
    assert site in set(find_similar(bank, tokens, "P002", "unknown").nearest("both", 20)["site"])


def test_neighbours_are_those_of_least_distance_in_each_subspace(
    bank: CaseBank, folds: list[FoldModel], patients: Cohort
) -> None:
    tokens = tokens_of(folds, patients, "P009")
    similar = find_similar(bank, tokens, "P009", None)
    assert list(similar.distances) == ["both", "tumor", "tme"]
    for space, distance in similar.distances.items():
        order = [i for i in np.argsort(distance) if i != 9]
        assert similar.nearest(space, 3)["patient"].tolist() == [bank.cases["patient"][i] for i in order[:3]]
    tumor, tme = similar.distances["tumor"], similar.distances["tme"]
    np.testing.assert_allclose(similar.distances["both"], np.sqrt((tumor**2 + tme**2) / 2))


def test_a_bank_of_another_model_is_refused(bank: CaseBank, folds: list[FoldModel], patients: Cohort) -> None:
    with pytest.raises(InputError, match="another model"):
        bank.distances(tokens_of(folds[:1], patients, "P002"))


def test_the_neighbours_curve_is_that_of_lifelines() -> None:
    from lifelines import KaplanMeierFitter

    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"days": rng.integers(50, 1500, 40).astype(float), "event": rng.random(40) < 0.6})
    got = describe_outcomes(rows, SURVIVAL, (1.0, 3.0, 9.0))
    fitter = KaplanMeierFitter().fit(rows["days"], rows["event"])
    at = got["horizons"]["1"]
    interval = fitter.confidence_interval_survival_function_
    row = interval.loc[interval.index <= 365].iloc[-1]
    assert at["survival"] == pytest.approx(float(fitter.predict(365)), abs=1e-6)
    assert [at["ci_low"], at["ci_high"]] == pytest.approx(row.tolist(), abs=1e-6)
    assert at["at_risk"] == int((rows["days"] > 365).sum())
    assert got["horizons"]["9"] is None, "nobody was followed for nine years"
    assert got["n"] == 40


def test_shares_of_classes_have_wilsons_interval() -> None:
    rows = pd.DataFrame({"grade": ["low"] * 3 + ["high"] * 7 + [None]})
    got = describe_outcomes(rows, make_task("grade", {"grade": ("low", "high")}), ())
    assert got["n"] == 10
    p, n, z = 0.3, 10, NormalDist().inv_cdf(0.975)
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    ends = [(middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)]
    assert [got["classes"]["low"][end] for end in ("ci_low", "ci_high")] == pytest.approx(ends, abs=1e-6)
    assert wilson_interval(3, 10) == pytest.approx(ends)


def test_no_neighbour_with_an_outcome_is_said() -> None:
    rows = pd.DataFrame({"days": [np.nan], "event": [None]})
    assert describe_outcomes(rows, SURVIVAL, (1.0,)) == {"n": 0, "deaths": 0, "horizons": {"1": None}, "curve": None}


def test_halving_without_weight_is_the_model_and_with_all_weight_the_neighbours() -> None:
    rng = np.random.default_rng(1)
    model, other = (np.cumprod(rng.uniform(0.5, 1, size=(9, 4)), axis=1) for _ in range(2))
    for weight, expected in ((0.0, model), (1.0, other)):
        mixed = Dichotomy(dict.fromkeys(nodes_of(5), weight))(model, other)
        np.testing.assert_allclose(mixed, expected, atol=1e-12)


def test_halving_trusts_whoever_knows() -> None:
    rng = np.random.default_rng(2)
    hazard = rng.uniform(0.1, 2.0, 4000)
    days = rng.exponential(1000 / hazard)
    horizons = np.array([365.0, 730.0, 1096.0, 1826.0])
    right = np.exp(-hazard[:, None] * horizons / 1000)
    wrong = right[rng.permutation(4000)]
    event = np.ones(4000, bool)
    assert max(Dichotomy.fit(right, wrong, days, event, horizons).weights.values()) <= 0.2
    assert min(Dichotomy.fit(wrong, right, days, event, horizons).weights.values()) >= 0.8


def test_embedding_is_in_the_order_of_the_patients(folds: list[FoldModel], patients: Cohort) -> None:
    whole = embed(folds[0], patients, [0])["tumor"]
    alone = embed(folds[0], patients.subset({"P005"}), [0])["tumor"]
    np.testing.assert_allclose(whole[5], alone[0], atol=1e-5)
