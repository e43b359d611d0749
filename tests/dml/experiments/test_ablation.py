"""`dml ablate`: rows that apply, cells that are trained once, a table whose full models have no difference."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.files import read_json
from dml.core.predictions import read_predictions, write_predictions
from dml.experiments import ablation as module
from dml.experiments.ablation import Ablation, Cell, iterate_cells, score_variants, select_variants, write_table
from dml.experiments.ablation_variants import FULL, list_variants
from dml.training.loss_terms.registry import TERMS, LossTerm
from tests.synthetic import cohort

PARAMS = config.Params(
    cohort="synthetic",
    tasks=("survival", "grade"),
    folds=(0, 1),
    model=config.Model(width=8, heads=2, n_queries=2, gene_width=8),
    optimisation=config.Optimisation(epochs=1, batch_size=16, device="cpu"),
    evaluation=config.Evaluation(resamples=50),
)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ablation:
    monkeypatch.chdir(tmp_path)
    data = cohort(40)
    roles = np.array(["test", "validation", "train", "train"])
    parts = np.array([-1, 0, 1, 1])
    group = np.arange(40) % 4
    ids = [case.patient_id for case in data.cases]
    splits = pd.concat(
        pd.DataFrame(
            {"patient_id": ids, "fold": k, "role": roles[(group - k) % 4], "inner_fold": parts[(group - k) % 4]}
        )
        for k in range(2)
    )
    return Ablation(PARAMS, "survival", data, splits, "stores")


def named(name: str):
    return next(variant for variant in list_variants(PARAMS) if variant.name == name)


def test_only_rows_that_are_another_model_are_in_the_table() -> None:
    names = {variant.name for variant in select_variants(PARAMS)}
    assert {"teacher", "student", "no distillation", "no disentangled fusion", "density-peak clustering"} <= names
    assert "no auxiliary labels" not in names, "there are none to leave out"
    assert "no consistency" in names
    one = PARAMS.model_copy(update={"tiles": PARAMS.tiles.model_copy(update={"mpps": (0.5,)})})
    assert "no consistency" not in {variant.name for variant in select_variants(one)}
    assert [variant.name for variant in select_variants(PARAMS, ["no aggregation"])] == [
        "teacher",
        "student",
        "no aggregation",
    ]
    with pytest.raises(ConfigError, match="no variant 'no fusion'; there are: teacher, "):
        select_variants(PARAMS, ["no fusion"])


def test_a_row_without_clinical_inputs_where_there_are_some() -> None:
    name, some = "student: no clinical inputs", PARAMS.model_copy(update={"inputs": config.Inputs(clinical=("age",))})
    assert name not in {variant.name for variant in select_variants(PARAMS)}
    assert name in {variant.name for variant in select_variants(some)}
    assert named(name).apply(some).inputs == PARAMS.inputs


def test_cross_fitted_targets_are_a_row_where_every_inner_fold_was_held_out() -> None:
    cross_fitted = {"targets beyond the linear model", "cross-fitted targets"}
    names = {variant.name for variant in select_variants(PARAMS)}
    assert not cross_fitted & names, "one member"
    assert {"targets of genes alone", "patients weighted"} <= names
    for members in (4, 5):
        many = PARAMS.model_copy(update={"optimisation": config.Optimisation(ensemble_size=members)})
        names = {variant.name for variant in select_variants(many)}
        assert cross_fitted & names == (cross_fitted if members == 5 else set())


def test_cells_are_trained_once_and_a_second_run_only_reads(small: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = [FULL["teacher"], FULL["student"], named("targets of another patient")]
    every = list(iterate_cells(variants, [1], [0, 1]))
    before = [small.predictions(cell).read_bytes() for cell in every]
    assert len({small.folder(cell) for cell in every}) == 6

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "train", never)
    assert [small.predictions(cell).read_bytes() for cell in every] == before
    with pytest.raises(AssertionError, match="trained again"):
        small.predictions(Cell(FULL["teacher"], 2, 0))


def test_the_table_compares_each_row_with_the_full_model_of_its_kind(small: Ablation) -> None:
    variants = [FULL["teacher"], named("no disentangled fusion"), FULL["student"], named("no distillation")]
    lines = score_variants(small, variants, [1, 2])
    by_name = {line["variant"]: line for line in lines}
    assert "p" not in by_name["teacher"]
    assert "p" not in by_name["student"]
    for name, full in (("no disentangled fusion", "teacher"), ("no distillation", "student")):
        line = by_name[name]
        assert line["difference"] == pytest.approx(line["value"] - by_name[full]["value"])
        assert line["difference_low"] <= line["difference"] <= line["difference_high"]
        assert line["p_holm"] >= line["p"]
    write_table(lines, [1, 2], 1, Path("reports"))
    assert len(read_json(Path("reports/ablation.json"))["rows"]) == 4
    assert "| no distillation | all | c_index |" in Path("reports/ablation.md").read_text()


def test_a_further_loss_term_gets_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for model, name in (("teacher", "my_term"), ("student", "other")):
        monkeypatch.setitem(TERMS, (model, name), LossTerm(name, model, lambda inputs: None, None, name, 2.0))
    weights = {"teacher": {"loss_weights": {"my_term": 0.5}}, "distillation": {"loss_weights": {"other": 0.1}}}
    params = config.Params.model_validate({**PARAMS.model_dump(), **weights})
    rows = {variant.name: variant for variant in select_variants(params)}
    assert rows["no my_term"].apply(params).teacher.loss_weights == {}
    assert rows["with my_term"].apply(params).teacher.loss_weights == {"my_term": 2.0}
    assert rows["no other"].apply(params).distillation.loss_weights == {}
    assert "no my_term" not in {variant.name for variant in select_variants(PARAMS)}, "it is off anyway"


def test_a_validation_table_does_not_look_at_test_patients(small: Ablation, tmp_path: Path) -> None:
    """Whatever the test patients' outcomes are, a table for choices is the same; a patient counts once a resample."""
    variants = [FULL["teacher"], named("no disentangled fusion")]
    lines = score_variants(small, variants, [1], "validation")
    rows = small.rows(FULL["teacher"], 1, "validation")
    assert set(rows["role"]) == {"validation"}
    for cell in iterate_cells(variants, [1], [0, 1]):
        path = small.predictions(cell)
        table, metadata = read_predictions(path)
        table.loc[table["role"] == "test", "days"] = 1.0
        write_predictions(path, table, metadata)
    assert score_variants(small, variants, [1], "validation") == lines
    write_table(lines, [1], 1, tmp_path, "validation")
    text = (tmp_path / "ablation-validation.md").read_text()
    assert text.startswith("Out-of-fold predictions of training patients, mean of seeds 1")
    assert not (tmp_path / "ablation.md").exists()


def test_a_patient_predicted_in_several_folds_is_drawn_with_all_its_rows() -> None:
    rows = pd.DataFrame({"patient_id": ["a", "b", "a", "b", "c"], "fold": [0, 0, 1, 1, 1]})
    weights = module._draw(rows, 200, seed=1)
    np.testing.assert_array_equal(weights[:, [0, 1]], weights[:, [2, 3]])
    assert set(weights[:, [0, 1, 4]].sum(1)) == {3}
