"""The page of a patient: complete, offline, honest at the top, and two sheets of paper."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dml.attribution.attribute import attribute
from dml.case_bank.build_bank import build_bank
from dml.case_bank.novelty import measure_novelty
from dml.case_bank.similar_cases import find_similar
from dml.cli.app import app
from dml.core.errors import InputError
from dml.core.files import digest, write_json
from dml.core.predictions import write_predictions
from dml.core.types import Case, Mpp
from dml.inference.ensemble import Ensemble
from dml.inference.predictor import Predictor
from dml.patient_report.gene_figures import read_sets, set_rows
from dml.patient_report.write_page import write_patient_page
from dml.registry.predict import request_table
from tests.trained_models import GENES, cohort, write_folds

CHROMIUM = shutil.which("chromium")
MODEL = "models/demo/survival/{}"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write fold models with bank and out-of-fold predictions, and a new patient's features and genes."""
    monkeypatch.chdir(tmp_path)

    def make(name: str = "teacher", task: str = "survival", bank: bool = True) -> str:
        folder, patients = write_folds(Path(MODEL.format(name)), name, task=task), cohort()
        ensemble = Ensemble.load(folder)
        if bank:
            picture = base64.b64decode("/9j/4AAQSkZJRg==")
            build_bank(ensemble.folds, patients, [{}, {}], lambda _: picture).save(
                Path("reports/demo/survival/case_bank") / name, {}
            )
        for number, fold in enumerate(ensemble.folds):
            part = patients.subset({case.patient_id for case in patients.cases[number::2]})
            rows = fold.predict(part).assign(site="a", fold=number, role="test", model=name)
            targets = pd.DataFrame([case.target_values(task) for case in part.cases])
            info = {"task": task, "kind": ensemble.spec.preprocessor.task.kind,
                    "classes": list(ensemble.spec.preprocessor.task.classes), "train_cutoff": 0.0,
                    "train_days": [], "train_event": []}  # fmt: skip
            write_predictions(folder / f"fold-{number}/predictions.parquet", pd.concat([rows, targets], axis=1), info)
        new = cohort(25).cases[24]
        write_features(new)
        genes = pd.DataFrame([new.expression], index=["new"], columns=list(GENES))
        genes.to_csv("genes.csv")
        return MODEL.format(name)

    return make


def write_features(case: Case, shift: float = 0.0) -> None:
    for mpp in (0.5, 1.0):
        Path(f"{mpp:g}").mkdir(exist_ok=True)
        np.save(f"{mpp:g}/new.npy", case.bags[Mpp(mpp)].tokens.numpy() + np.float16(shift))
    pd.DataFrame({"patient_id": "new", "path": ["0.5/new.npy", "1/new.npy"]}).to_csv("slides.csv", index=False)


def read(path: str = "page.html") -> str:
    return Path(path).read_text()


@pytest.mark.parametrize("task", ["survival", "grade", "purity"])
def test_a_page_of_every_kind_of_task_stands_alone(write: Callable[..., str], task: str) -> None:
    content = write_patient_page(write(task=task), Path("slides.csv"), Path("page.html"), Path("genes.csv"), site="b")
    text = read()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "http" not in re.sub(r"data:[^\"]+", "", text).replace("http-equiv", "")
    assert content["uncertainty"].text in text
    assert content["uncertainty"].patients == 24
    assert "must not be used for" in text
    assert text.count("<figure>") == (3 if task == "survival" else 2), "curve, subspaces, genes"
    assert len(content["neighbours"]) == 6
    assert "The features" not in text
    assert "without a slide file" in text


def test_the_student_without_bank_says_what_is_missing(write: Callable[..., str]) -> None:
    write_patient_page(write("student", bank=False), Path("slides.csv"), Path("page.html"))
    text = " ".join(read().split())
    assert all(stage in text for stage in ("No case bank", "dvc repro case_bank@survival", "register@survival"))
    assert "this model reads slides only" in read()


def test_pathways_sum_what_their_genes_contributed_by_group(write: Callable[..., str]) -> None:
    """EGFR is in two sets and divided; TP53 is in none; the sets of the page are those of the file."""
    Path("sets.gmt").write_text("HALLMARK_G2M_CHECKPOINT\tx\tEGFR\tMYC\tABSENT\nHALLMARK_IL2_STAT5_SIGNALING\tx\tEGFR\tMYC\tCD3E\tCD8A\n"
                                "alone\tx\tTP53\n")  # fmt: skip
    model = write()
    content = write_patient_page(
        model, Path("slides.csv"), Path("page.html"), Path("genes.csv"), gene_sets=Path("sets.gmt")
    )
    assert list(content["gene_sets"]) == ["tumor", "microenvironment"]
    assert "Pathways through the microenvironment genes" in read()
    ensemble, table = Ensemble.load(Path(model)), request_table(Path("slides.csv"), Path("genes.csv"))
    patient = Predictor(ensemble).read_patient("new", table).cohort
    attribution = attribute(ensemble.folds, patient)
    sets = read_sets(Path("sets.gmt"), None)
    tumor, tme = (set_rows(group, 0, patient, sets) for group in attribution.genes)
    each = dict(zip(attribution.genes[0].genes, attribution.genes[0].contribution[:, 0], strict=True))
    values = {name: value for name, value, _, _ in tumor}
    assert values == pytest.approx(
        {"G2M checkpoint": (each["EGFR"] + each["MYC"]) / 2, "IL2 STAT5 signaling": (each["EGFR"] + each["MYC"]) / 2,
         "genes of none": each["TP53"]}
    )  # fmt: skip
    assert [name for name, *_ in tme] == ["IL2 STAT5 signaling", "genes of none"]
    assert tme[0][1] == pytest.approx(float(attribution.genes[1].contribution[:, 0].sum()))
    assert tme[1][1:3] == (0.0, 0.0)


def test_hallmark_sets_lie_beside_the_cohort_and_a_missing_file_is_said(write: Callable[..., str]) -> None:
    model, raw = write(), Path("data/raw/here")
    raw.mkdir(parents=True)
    (raw / "h.all.v2023.symbols.gmt").write_text("HALLMARK_APOPTOSIS\tx\tEGFR\tMYC\n")
    inputs = (model, Path("slides.csv"), Path("page.html"), Path("genes.csv"))
    assert write_patient_page(*inputs)["gene_sets"] == {}
    assert "no gene sets were given (--gene-sets)" in read()
    assert list(write_patient_page(*inputs, slide_table=Path("data/here/slides.parquet"))["gene_sets"]) == ["tumor"]
    with pytest.raises(InputError, match=r"none\.gmt"):
        write_patient_page(*inputs, gene_sets=Path("none.gmt"))


def test_a_patient_far_outside_is_said_at_the_top(write: Callable[..., str]) -> None:
    model = write("student")
    ordinary = write_patient_page(model, Path("slides.csv"), Path("page.html"), site="b")
    assert not any("Far outside" in warning for warning in ordinary["warnings"])
    ensemble, patients = Ensemble.load(Path(model)), cohort()
    bank = build_bank(ensemble.folds, patients, [{}, {}])
    far = {branch: values.astype(float) + 40 for branch, values in bank.centre.items()}
    assert measure_novelty(find_similar(bank, far, "new", None)).is_far
    near = {branch: np.asarray(values, float) for branch, values in bank.centre.items()}
    assert not measure_novelty(find_similar(bank, near, "new", None)).is_far


def test_a_learning_patient_is_shown_by_the_folds_that_did_not_see_him(write: Callable[..., str]) -> None:
    model = write("student")
    described = Path(model) / "fold-0/model.json"
    write_json(described, json.loads(described.read_text()) | {"training_patient_hashes": [digest("new")]})
    content = write_patient_page(model, Path("slides.csv"), Path("page.html"))
    assert content["folds"] == 1
    assert "A learning patient of this model" in read()
    described = Path(model) / "fold-1/model.json"
    write_json(described, json.loads(described.read_text()) | {"training_patient_hashes": [digest("new")]})
    write_patient_page(model, Path("slides.csv"), Path("page.html"))
    assert "Every fold was trained with this patient" in read()


def test_names_in_the_page_are_data_not_markup(write: Callable[..., str]) -> None:
    model = write("student")
    table = pd.read_csv("slides.csv").assign(patient_id="<script>alert(1)</script>")
    table.to_csv("slides.csv", index=False)
    write_patient_page(model, Path("slides.csv"), Path("page.html"))
    assert "<script" not in read()


def test_several_patients_are_asked_for_a_name(write: Callable[..., str]) -> None:
    model = write("student")
    table = pd.read_csv("slides.csv")
    pd.concat([table, table.assign(patient_id="other")]).to_csv("slides.csv", index=False)
    with pytest.raises(InputError, match="Name one with --patient: new, other"):
        write_patient_page(model, Path("slides.csv"), Path("page.html"))
    with pytest.raises(InputError, match="no slide of patient third"):
        write_patient_page(model, Path("slides.csv"), Path("page.html"), patient="third")
    with pytest.raises(InputError, match=r"Name it \.html"):
        write_patient_page(model, Path("slides.csv"), Path("page.pdf"), patient="new")
    assert write_patient_page(model, Path("slides.csv"), Path("page.html"), patient="new")["patient"] == "new"


def test_the_command_writes_the_page(write: Callable[..., str]) -> None:
    arguments = ["report-patient", "--model", write("student"), "--slides", "slides.csv", "-o", "out/page.html"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert Path("out/page.html").exists()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_the_page_prints_on_two_sheets(write: Callable[..., str], tmp_path: Path) -> None:
    names = [f"HALLMARK_SET_OF_A_LONG_NAME_{i}" for i in range(12)]
    Path("sets.gmt").write_text("\n".join(f"{name}\tx\t{chr(9).join(GENES)}" for name in names))
    inputs = (write(), Path("slides.csv"), Path("page.html"), Path("genes.csv"))
    write_patient_page(*inputs, site="b", gene_sets=Path("sets.gmt"))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
               f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer",
               f"--print-to-pdf={tmp_path / 'page.pdf'}", (tmp_path / "page.html").as_uri()]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=90)
    assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())) == 2
