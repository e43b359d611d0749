"""`dml benchmark`: two tiny cohorts, every cell once, killed and resumed, and a page that says what is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import dml
from dml.cli.benchmark import params_of
from dml.cohorts.splits import write_splits
from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.files import read_json
from dml.data.cohort_store import CohortStore
from dml.evaluation.rank_tests import compare_ranks
from dml.experiments import benchmark as module
from dml.experiments.ablation import Ablation, Cell
from dml.experiments.ablation_variants import FULL
from dml.experiments.benchmark import LINEAR, Benchmark, BenchmarkCell, with_backbones
from dml.experiments.benchmark_page import write_benchmark
from dml.experiments.benchmark_scores import score_benchmark
from dml.experiments.separate_process import run_apart
from tests.synthetic import cohort, write_store

MODELS = ("teacher", "student", "murrenet", *LINEAR)
PARAMS = {
    "cohort": "alpha",
    "tasks": ["survival"],
    "folds": [0, 1],
    "embed": {"encoder": "fake"},
    "model": {"width": 8, "heads": 2, "n_queries": 2, "gene_width": 8},
    "optimisation": {"epochs": 1, "batch_size": 16, "device": "cpu"},
    "baselines": {"deep": ["murrenet"]},
    "evaluation": {"resamples": 60},
}
BETA = {"name": "beta", "combines": ["one", "two"], "params": {"folds": [0, 1, 2], "embed": {"encoder": "fake"}}}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    Path("cohorts").mkdir()
    Path("cohorts/beta.yaml").write_text(yaml.safe_dump(BETA))
    for seed, (name, folds) in enumerate({"alpha": 2, "beta": 3}.items()):
        data = cohort(45, seed=seed)
        store = write_store(data, Path("data") / name)
        group = np.arange(45) % (folds + 2)
        parts = [
            pd.DataFrame(
                {
                    "patient_id": [case.patient_id for case in data.cases],
                    "fold": fold,
                    "role": np.where(group == fold, "test", np.where(group == folds, "validation", "train")),
                    "inner_fold": np.where(group == fold, -1, np.where(group == folds, 0, 1)),
                    "stratum": "all",
                }
            )
            for fold in range(folds)
        ]
        write_splits(store.splits_path, pd.concat(parts, ignore_index=True), {})
    return tmp_path


def read(models: tuple[str, ...] = MODELS) -> Benchmark:
    return Benchmark.read({name: params_of(name) for name in ("alpha", "beta")}, "survival", models)


def test_parameters_are_those_of_the_cohort_and_params_yaml_stays(here: Path) -> None:
    before = Path("params.yaml").read_bytes()
    assert params_of("beta").folds == (0, 1, 2)
    assert (params_of("beta").cohort, params_of("alpha").folds) == ("beta", (0, 1))
    assert Path("params.yaml").read_bytes() == before


def test_cohorts_with_different_budgets_are_refused(here: Path) -> None:
    params = {name: params_of(name) for name in ("alpha", "beta")}
    longer = params["beta"].optimisation.model_copy(update={"epochs": 9})
    params["beta"] = params["beta"].model_copy(update={"optimisation": longer})
    with pytest.raises(ConfigError, match="optimisation of beta differs from that of alpha"):
        Benchmark.read(params, "survival", MODELS)
    with pytest.raises(ConfigError, match="unknown model 'murrenett'"):
        Benchmark.read({"alpha": params_of("alpha")}, "survival", ["murrenett"])


@pytest.mark.slow
def test_the_page_has_every_model_of_every_cohort(here: Path) -> None:
    benchmark = read((*MODELS, "murrenet_plain", "student_undistilled"))
    result = score_benchmark(benchmark)
    assert len(result.rows) == 2 * len(benchmark.models)
    assert all(row["seconds"] > 0 and row["peak_gb"] > 0.05 for row in result.rows)
    assert {row["patients"] for row in result.rows} == {len(range(0, 45, 4)) * 2 - 1, 27}
    corrected = [row["p_holm"] for row in result.differences]
    assert all(row["p_holm"] >= row["p"] for row in result.differences)
    assert len(corrected) == 2 * (6 + 3)
    assert [(row["model"], row["reference"]) for row in result.ideas] == [("murrenet", "murrenet_plain")] * 2
    assert set(result.ranks) == {"slide", "slide+genes"}
    write_benchmark(result, Path("out"))
    page = Path("out/benchmark.html").read_text()
    assert "MurreNet-style, plain" in page
    assert page.index("<strong>Lost") < page.index("Every model on every cohort")
    assert "a difference cannot be shown" in page
    assert "src=" not in page
    assert "href=" not in page.replace('xlink:href="#', "").replace("xmlns:xlink", "")
    assert len(read_json(Path("out/benchmark.json"))["rows"]) == len(result.rows)
    assert len(pd.read_parquet("out/benchmark.parquet")) == len(result.rows)
    assert "| beta | teacher | slide + genes | 27 |" in Path("out/table.md").read_text()


def test_teacher_and_student_are_the_cells_of_the_ablation(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = read()
    ablation = Ablation.read(params_of("alpha"), "survival")
    trained = [ablation.predictions(Cell(FULL[kind], ablation.params.seed, 0)) for kind in ("teacher", "student")]

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "run_apart", never)
    assert [benchmark.complete(BenchmarkCell("alpha", kind, 0)) for kind in ("teacher", "student")] == trained
    assert benchmark.cost("alpha", "teacher") == {"seconds": None, "peak_gb": None}


def test_a_model_that_nobody_can_train_is_named_and_left_out(here: Path) -> None:
    bare = cohort(45, seed=3, absent=45)
    splits = CohortStore.of("alpha").splits_path.read_bytes()
    write_store(bare, Path("data/alpha"))
    CohortStore.of("alpha").splits_path.write_bytes(splits)
    result = score_benchmark(read(("mean_pool", "linear_slide", "genes_snn")))
    assert result.left_out == ["alpha: genes SNN has nobody to learn from"]
    assert ("alpha", "genes_snn") not in [(row["cohort"], row["model"]) for row in result.rows]
    write_benchmark(result, Path("out"))
    page = Path("out/benchmark.html").read_text()
    assert "Left out: alpha: genes SNN has nobody to learn from." in page
    assert page.index("<strong>Lost") < page.index("Every model on every cohort")


def start(here: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(dml.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from dml.cli import main; main()", "benchmark", "--cohorts", "alpha,beta"]
    return subprocess.Popen(command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def complete_cells(here: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted((here / ".work").rglob("predictions.parquet"))}


@pytest.mark.slow
def test_killed_in_the_middle_it_resumes_to_the_same_page(here: Path) -> None:
    process = start(here)
    deadline = time.monotonic() + 300
    while len(complete_cells(here)) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = complete_cells(here)
    assert 5 <= len(before) < 40
    assert not (here / "reports").exists()
    again = start(here)
    output, errors = again.communicate()
    assert again.returncode == 0, errors.decode()
    after = complete_cells(here)
    assert len(after) == 5 * 8
    assert {path: after[path] for path in before} == before, "what was complete is read, not trained"
    assert not list((here / ".work").rglob("*.tmp"))
    page = (here / "reports/benchmark/survival/benchmark.html").read_bytes()
    third = start(here)
    third.communicate()
    assert third.returncode == 0
    assert (here / "reports/benchmark/survival/benchmark.html").read_bytes() == page
    assert b"benchmark of survival" in output


def test_an_error_in_the_process_of_a_cell_is_the_users_error() -> None:
    def fail() -> None:
        raise ConfigError("no such thing")

    with pytest.raises(ConfigError, match="no such thing"):
        run_apart(fail)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")
def test_a_cell_whose_process_dies_is_an_error_with_a_remedy() -> None:
    with pytest.raises(dml.core.errors.DmlError, match=r"exit code 9.*optimisation\.workers: 1"):
        run_apart(lambda: os._exit(9))


def test_backbones_are_added_once() -> None:
    assert with_backbones(["clam", "dsmil", "mean_pool"]) == ["clam", "dsmil", "mean_pool", "abmil"]


def test_ranks_agree_with_those_counted_by_hand() -> None:
    values = np.array(
        [[0.9, 0.8, 0.7], [0.9, 0.7, 0.8], [0.6, 0.6, 0.5], [0.8, 0.7, 0.6], [0.9, 0.8, 0.1], [0.7, 0.6, 0.5]]
    )
    ranks = compare_ranks(values, ["a", "b", "c"])
    assert ranks.models == ("a", "b", "c")
    np.testing.assert_allclose(ranks.mean_ranks, [6.5 / 6, 12.5 / 6, 17 / 6])
    assert ranks.friedman_p < 0.05
    assert ranks.pairs["a - c"] == pytest.approx(3 * 2**-5)
    assert ranks.least_p == 2**-5
    assert "cannot be shown" not in ranks.verdict()


def test_equal_models_share_a_rank_and_do_not_differ() -> None:
    ranks = compare_ranks(np.full((4, 3), 0.7), ["a", "b", "c"])
    assert ranks.mean_ranks == (2.0, 2.0, 2.0)
    assert ranks.friedman_p == 1.0
    assert ranks.groups == (("a", "b", "c"),)


def test_one_cohort_has_ranks_and_no_test() -> None:
    ranks = compare_ranks(np.array([[0.7, 0.8, 0.9]]), ["a", "b", "c"])
    assert ranks.models == ("c", "b", "a")
    assert ranks.friedman_p is None
    assert "there is nothing to test" in ranks.verdict()


def test_params_of_the_current_cohort_are_those_of_params_yaml(here: Path) -> None:
    assert params_of("alpha") == config.load()
