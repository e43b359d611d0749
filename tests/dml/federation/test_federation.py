"""Training across sites: what leaves is sums, counts and weights; sites may be uneven, absent, or lack a modality."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from dml.config.params import Params
from dml.core.errors import ConfigError, DmlError, InputError
from dml.core.files import read_json, write_parquet
from dml.core.types import SURVIVAL, Cohort
from dml.data.cohort_store import CohortStore
from dml.data.preprocessing import Preprocessor
from dml.federation.coordinator import Coordinator, FederationSettings, average_weights, weights_of
from dml.federation.federated_result import SITES, register_result, train_across, write_result
from dml.federation.federated_site import Site
from dml.federation.local_sites import LocalSites
from dml.federation.messages import NUMERIC, Dimensions, Message, check_leaving, number
from dml.inference.ensemble import Ensemble
from dml.training.folds import make_fold
from dml.update.retrain import pool_cohorts
from tests.hospital_cohorts import write_cohort
from tests.trained_models import ENCODER, MPPS

SMALL: dict[str, Any] = {
    "cohort": "network",
    "tiles": {"mpps": MPPS},
    "embed": {"encoder": ENCODER},
    "model": {"width": 8, "heads": 2, "n_queries": 4, "gene_width": 8},
    "optimisation": {"learning_rate": 0.03, "device": "cpu"},
    "evaluation": {"years": [1.0, 2.0]},
}
SIZES = {"north": 60, "south": 30, "west": 18}


def write_splits(folder: Path, prefix: str, patients: int) -> None:
    rows = [
        {
            "patient_id": f"{prefix}{i}",
            "fold": fold,
            "role": "test" if i % 3 == fold else "training",
            "inner_fold": -1 if i % 3 == fold else i // 3 % 3,
            "stratum": "all",
        }
        for fold in (0, 1)
        for i in range(patients)
    ]
    write_parquet(folder / "splits.parquet", pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False))


@pytest.fixture
def sites(workplace: Path) -> LocalSites:
    for i, (name, patients) in enumerate(SIZES.items()):
        write_splits(write_cohort(name, patients, seed=i, prefix=name[0]), name[0], patients)
    return LocalSites({name: Site(Path("data") / name, name) for name in SIZES})


@pytest.fixture
def settings(params: Callable[..., Params]) -> Params:
    return params(**SMALL)


def pooled() -> Cohort:
    cohorts = [CohortStore.of(name).cohort(ENCODER, MPPS) for name in SIZES]
    folds = [make_fold(cohort, CohortStore.of(cohort.name).splits(), 0).learning for cohort in cohorts]
    return pool_cohorts(pool_cohorts(folds[0], folds[1]), folds[2])


def test_preprocessing_from_sums_and_counts_is_that_of_the_pooled_patients(sites: LocalSites, settings: Params) -> None:
    coordinator = Coordinator(sites, settings, SURVIVAL)
    fitted = coordinator.fit_preprocessor(coordinator.prepare(), 0)
    expected = Preprocessor.fit(pooled(), coordinator.params, SURVIVAL)
    assert (fitted.tumor_genes, fitted.tme_genes) == (expected.tumor_genes, expected.tme_genes)
    assert (fitted.unit, fitted.mpps, fitted.tile_um) == (expected.unit, expected.mpps, expected.tile_um)
    np.testing.assert_allclose(fitted.tokens.mean, expected.tokens.mean, atol=1e-5)
    np.testing.assert_allclose(fitted.tokens.deviation, expected.tokens.deviation, atol=1e-5)
    np.testing.assert_allclose(fitted.tumor.mean, expected.tumor.mean, atol=0.02)
    np.testing.assert_allclose(fitted.tumor.deviation, expected.tumor.deviation, rtol=0.03)
    np.testing.assert_allclose(fitted.tumor.low, expected.tumor.low, atol=0.4)
    np.testing.assert_allclose(fitted.bin_edges, expected.bin_edges, atol=40)
    days = np.linspace(30, 1400, 20)
    assert fitted.baseline is not None
    assert expected.baseline is not None
    np.testing.assert_allclose(fitted.baseline(days), expected.baseline(days), atol=0.1)


def test_every_message_from_a_site_is_numbers_of_a_size_that_does_not_depend_on_its_patients(
    sites: LocalSites, settings: Params
) -> None:
    leaving: dict[tuple[str, str], list[Message]] = {}
    ids = {id_ for name in SIZES for id_ in CohortStore.of(name).patients()["patient_id"]}

    def listen(site: str, direction: str, kind: str, message: Message) -> None:
        texts = [text for part in message.texts.values() for text in part]
        assert not ids & set(texts), "no id in any direction"
        if direction == "from":
            leaving.setdefault((site, kind), []).append(message)

    sites.listen = listen
    train_across(sites, settings, SURVIVAL, FederationSettings(rounds=2), ["teacher", "student"])
    kinds = {kind for _, kind in leaving}
    assert kinds == {
        "description", "sums", "histograms", "clipped_sums", "training", "validation", "risk", "score",
    }  # fmt: skip
    for kind in kinds:
        shapes = {
            tuple((name, array.shape) for name, array in sorted(message.arrays.items()))
            for site in SIZES
            for message in leaving[site, kind]
        }
        assert len(shapes) == (2 if kind in ("training",) else 1), f"{kind}: the same for 60, 30 and 18 patients"
        for site in SIZES:
            for message in leaving[site, kind]:
                assert all(array.dtype.kind in NUMERIC for array in message.arrays.values())
                assert not message.texts or kind == "description"
                assert message.size < 200_000
    described = leaving["west", "description"][0]
    assert set(described.texts) == {"encoder", "unit", "genes", "classes", "tumor", "tme"}


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Message({"validation_loss_sum": np.zeros(18), "validation_patients": number(18)}), r"float64 \(18,\)"),
        (Message({"validation_loss_sum": number(1), "validation_patients": number(1), "x": number(1)}), "x does not"),
        (Message({"validation_loss_sum": np.array("P1"), "validation_patients": number(1)}), "is <U2"),
        (Message({"validation_loss_sum": number(1)}), "validation_patients is missing"),
        (Message({"validation_loss_sum": number(1), "validation_patients": number(1)}, {"who": ["P1"]}), "who does"),
    ],
)
def test_what_is_no_sum_does_not_leave(message: Message, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        check_leaving("validation", message, Dimensions())


def test_weights_are_averaged_by_patients() -> None:
    answers = {
        "a": Message({"0.w": np.array([1.0], np.float32), "patients": number(30)}),
        "b": Message({"0.w": np.array([4.0], np.float32), "patients": number(10)}),
        "c": Message({"0.w": np.array([np.nan], np.float32), "patients": number(0)}),
    }
    averaged = average_weights(answers)
    assert averaged["0.w"].tolist() == [1.75]
    assert averaged["0.w"].dtype == np.float32


def test_a_site_that_drops_out_is_asked_again(sites: LocalSites, settings: Params) -> None:
    coordinator = Coordinator(sites, settings, SURVIVAL, FederationSettings(rounds=3))
    preprocessor = coordinator.fit_preprocessor(coordinator.prepare(), 0)
    asked = 0

    def listen(site: str, direction: str, kind: str, message: Message) -> None:
        nonlocal asked
        if kind == "training" and direction == "to" and site == "north":
            asked += 1
            sites.absent = {"west"} if asked == 2 else set()

    sites.listen = listen
    coordinator.train("teacher", preprocessor, 0)
    assert [row["sites"] for row in coordinator.history] == [3, 2, 3, 3]
    sites.absent = {"north", "south"}
    strict = Coordinator(sites, settings, SURVIVAL, FederationSettings(min_sites=2))
    with pytest.raises(DmlError, match="1 sites answered, 2 must"):
        strict.prepare()


def test_the_proximal_term_keeps_sites_near_each_other(sites: LocalSites, settings: Params) -> None:
    moved = {}
    for proximal in (0.0, 100.0):
        coordinator = Coordinator(
            sites, settings, SURVIVAL, FederationSettings(rounds=1, local_epochs=4, proximal=proximal)
        )
        preprocessor = coordinator.fit_preprocessor(coordinator.prepare(), 0)
        answers: list[Message] = []
        sites.listen = lambda site, direction, kind, m, answers=answers: (
            answers.append(m) if (direction, kind) == ("from", "training") else None
        )
        start = weights_of(coordinator._start("teacher", preprocessor, 0, 0))
        coordinator.train("teacher", preprocessor, 0)
        moved[proximal] = sum(float(np.square(a.arrays[n] - start[n]).sum()) for a in answers for n in start)
    assert moved[100.0] < 0.5 * moved[0.0]


def test_sites_without_deaths_without_slides_and_without_rna_take_part(sites: LocalSites, settings: Params) -> None:
    patients = pd.read_parquet("data/north/patients.parquet").assign(event=False)
    metadata = {"classes": {"grade": ["G2", "G3"], "purity": []}, "cohort": "north"}
    write_parquet(Path("data/north/patients.parquet"), pa.Table.from_pandas(patients, preserve_index=False), metadata)
    manifest = pd.read_parquet("data/south/features/manifest.parquet").assign(status="failed", reason="lost")
    write_parquet(Path("data/south/features/manifest.parquet"), pa.Table.from_pandas(manifest, preserve_index=False))
    from dml.cohorts.store_files import ExpressionMatrix, write_expression
    from tests.trained_models import GENES

    nobody = ExpressionMatrix((), GENES, np.zeros((0, len(GENES)), np.float32), "log2_tpm", "test")
    write_expression(Path("data/west/expression.parquet"), nobody)
    result = train_across(sites, settings, SURVIVAL, FederationSettings(rounds=1), ["teacher", "student"])
    assert result.concordance("student") is not None
    assert result.concordance("student", "south") is None, "no slide to score a student with"
    for models in result.models.values():
        assert all(np.isfinite(value).all() for model in models for value in weights_of(model).values())


def test_a_federated_model_learns_and_is_registered_with_its_sites(
    client: MlflowClient, sites: LocalSites, settings: Params
) -> None:
    rounds = FederationSettings(rounds=12, local_epochs=2)
    result = train_across(sites, settings, SURVIVAL, rounds, ["teacher", "student"])
    learned = result.concordance("teacher")
    assert learned is not None
    assert learned > 0.6
    losses = [row["loss"] for row in result.history if row["fold"] == 0][:13]
    assert min(losses) < losses[0]
    report = write_result(result, settings, SURVIVAL)
    assert read_json(report / "federation.json")["patients"] == SIZES
    ensemble = Ensemble.load(Path("models/network/survival/student"))
    cohort = CohortStore.of("west").cohort(ENCODER, MPPS)
    assert len(ensemble.predict(cohort)) == SIZES["west"]
    versions = register_result(read_json(report / "federation.json"), settings, SURVIVAL, ["teacher", "student"])
    assert [version.name for version in versions] == ["network-survival-teacher", "network-survival-student"]
    tags = client.get_model_version("network-survival-teacher", versions[0].version).tags
    assert tags[SITES] == "north (60), south (30), west (18)"


def test_sites_that_differ_are_refused(sites: LocalSites, settings: Params) -> None:
    from dml.cohorts.store_files import ExpressionMatrix, write_expression
    from tests.trained_models import GENES

    matrix = ExpressionMatrix(("w0",), GENES, np.zeros((1, len(GENES)), np.float32), "zscore", "test")
    write_expression(Path("data/west/expression.parquet"), matrix)
    with pytest.raises(InputError, match="sites have other unit"):
        Coordinator(sites, settings, SURVIVAL).prepare()
    with pytest.raises(InputError, match="no label stage"):
        Coordinator(sites, settings, "stage").prepare()


def test_a_student_that_is_a_frozen_teacher_is_refused(sites: LocalSites, settings: Params) -> None:
    frozen = settings.distillation.model_copy(update={"architecture": "completed_genes"})
    params = settings.model_copy(update={"distillation": frozen})
    with pytest.raises(ConfigError, match="completed_genes is not trained across sites"):
        train_across(sites, params, SURVIVAL, FederationSettings(rounds=1), ["teacher", "student"])
