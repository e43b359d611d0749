"""The stage pretrain: a file that says nothing when off; with another cohort weights that networks start from."""

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from dml.cohorts.splits import write_splits
from dml.config import params as config
from dml.core.errors import InputError
from dml.core.files import digest, read_json
from dml.experiments.ablation import Ablation, Cell
from dml.experiments.ablation_variants import list_variants
from dml.pretraining.pretrained import Pretrained, read_initial
from dml.training.checkpoint import FoldModel
from pipelines import pretrain
from tests.dml.pretraining.test_pretrain import renamed
from tests.synthetic import cohort, write_store

PARAMS = {
    "cohort": "synthetic",
    "tasks": ["survival", "grade"],
    "folds": [0, 1],
    "tiles": {"mpps": [0.5, 1.0]},
    "embed": {"encoder": "fake"},
    "model": {"width": 8, "heads": 2, "n_queries": 2, "gene_width": 8},
    "optimisation": {"epochs": 1, "device": "cpu"},
}
STARTED = Path("data/synthetic/pretraining/fold-1/pretraining.json")
ON = {"cohorts": ["other", "synthetic"], "epochs": 1, "batch_size": 16}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository root with two cohorts and the folds of the first."""
    monkeypatch.chdir(tmp_path)
    data = cohort(30)
    write_store(data, tmp_path / "data/synthetic")
    write_store(renamed(cohort(24, seed=3)), tmp_path / "data/other")
    roles = ["train", "train", "validation", "test"]
    rows = [
        (case.patient_id, fold, roles[(i + fold) % 4], [1, 2, 0, -1][(i + fold) % 4], "")
        for fold in range(2)
        for i, case in enumerate(data.cases)
    ]
    table = pd.DataFrame(rows, columns=["patient_id", "fold", "role", "inner_fold", "stratum"])
    write_splits(tmp_path / "data/synthetic/splits.parquet", table, {})

    def set_params(**pretraining: object) -> config.Params:
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"pretraining": pretraining}))
        return config.load()

    return set_params


def run(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["pretrain", "--fold", "1"])
    return pretrain.main()


def test_without_cohorts_nothing_is_read_and_nothing_starts_from_it(root, tmp_path, monkeypatch) -> None:
    for pretraining in ({}, {"cohorts": ["synthetic"]}):
        params = root(**pretraining)
        monkeypatch.setattr("dml.data.cohort_store.CohortStore.cohort", None)
        assert run(monkeypatch) == 0
        folder = tmp_path / "data/synthetic/pretraining/fold-1"
        assert [path.name for path in folder.iterdir()] == ["pretraining.json"]
        assert read_json(folder / "pretraining.json") == {"pairs": {}}
        assert read_initial(params, "student", 1) is None
        assert not any("pretraining" in variant.name for variant in list_variants(params))


def test_the_weights_of_another_cohort_are_what_networks_start_from(root, tmp_path, monkeypatch) -> None:
    params = root(**ON)
    assert run(monkeypatch) == 0
    read = Pretrained.load(tmp_path / "data/synthetic/pretraining/fold-1")
    assert read.report["pairs"] == {"synthetic": 15, "other": 24}
    splits = pd.read_parquet(tmp_path / "data/synthetic/splits.parquet")
    tested = splits[(splits["fold"] == 1) & (splits["role"] == "test")]["patient_id"]
    assert {digest(p) for p in tested}.isdisjoint(read.report["patient_hashes"])
    initial = read_initial(params, "student", 1)
    assert initial is not None
    assert torch.equal(initial.weights["project.project.weight"], read.weights["project.project.weight"])
    assert read_initial(params, "teacher", 1) is None, "only the student, by default"
    with pytest.raises(InputError, match="dvc repro pretrain"):
        read_initial(params, "student", 0)


def test_a_cohort_that_is_not_there_is_named_with_the_remedy(root, monkeypatch, caplog) -> None:
    root(cohorts=["nowhere"])
    assert run(monkeypatch) == 2
    assert "cohort nowhere: pretraining.cohorts names it" in caplog.text
    assert "dml cohort import nowhere" in caplog.text


def test_the_ablation_has_a_row_for_each_network_and_cells_of_their_own(root, tmp_path, monkeypatch) -> None:
    params = root(**ON)
    run(monkeypatch)
    rows = {variant.name: variant for variant in list_variants(params) if "pretraining" in variant.name}
    assert set(rows) == {"with pretraining", "student: no pretraining"}
    ablation = Ablation.read(params, "grade")
    full = {variant.name: variant for variant in list_variants(params)}["student"]
    without, off = rows["student: no pretraining"], Ablation.read(root(), "grade")
    assert ablation.folder(Cell(full, 0, 1)) != ablation.folder(Cell(without, 0, 1))
    assert ablation.folder(Cell(without, 0, 1)) == off.folder(Cell(full, 0, 1)), "the cell without it is known"
    models = [FoldModel.load(ablation.predictions(Cell(row, 0, 1)).parent) for row in (rows["with pretraining"], full)]
    for model in models:
        assert set(read_json(STARTED)["patient_hashes"]) < set(model.spec.training_patient_hashes)
