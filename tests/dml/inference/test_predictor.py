"""`Predictor`: patients from features, several slides a patient, and refusals with their reason."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dml.data.feature_store import write_bag
from dml.inference.ensemble import Ensemble
from dml.inference.file_access import ANY_FILE, SERVED_ROOT, FileAccess
from dml.inference.predictor import NO_EXPRESSION, Predictor
from tests.trained_models import ENCODER, GENES, WIDTH, cohort, write_folds

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write features of one slide as the store does, and return the file of the finest resolution."""

    def features(slide: str, mpps: tuple[float, ...] = (0.5, 1.0), seed: int = 0, **changes: object) -> Path:
        meta = {
            "encoder": ENCODER,
            "width": WIDTH,
            "weights": "w",
            "slide_id": slide,
            "patient_id": None,
            "fingerprint": "",
        }
        width, tiles = int(changes.pop("width", WIDTH)), int(changes.pop("tiles", 12))  # type: ignore[call-overload]
        for mpp in mpps:
            rng = np.random.default_rng(seed)
            tokens = rng.normal(size=(tiles, width)).astype(np.float16)
            coords = np.array(
                [[(i % 4 + 0.5) * 256 * mpp, (i // 4 + 0.5) * 256 * mpp] for i in range(tiles)], np.float32
            )
            written = {**meta, "mpp": mpp, "tile_um": 256 * mpp, "width": width, **changes}
            write_bag(tmp_path / f"{mpp:g}" / f"{slide}.parquet", tokens, coords.reshape(-1, 2), written)
        return tmp_path / f"{mpps[0]:g}" / f"{slide}.parquet"

    return features


def model(folder: Path, role: str = "student", **options: object) -> Predictor:
    return Predictor(Ensemble.load(write_folds(folder / role, role, **options)))  # type: ignore[arg-type]


def ask(
    predictor: Predictor, *rows: tuple[object, ...], names: tuple[str, ...] = ("patient_id", "path")
) -> pd.DataFrame:
    return predictor(
        pd.DataFrame([[str(v) if isinstance(v, Path) else v for v in row] for row in rows], columns=list(names))
    )


def test_a_survival_prediction_is_the_mean_of_the_folds(tmp_path: Path, write: Write) -> None:
    predictor = model(tmp_path)
    result = ask(predictor, ("a", write("s1"))).iloc[0]
    assert (result["status"], result["reason"]) == ("ok", "")
    each = [fold.predict(_as_cohort(write("s1"))).iloc[0] for fold in predictor.ensemble.folds]
    specs = [fold.spec for fold in predictor.ensemble.folds]
    risks = [
        (row["risk"] - spec.train_cutoff) / spec.train_risk_deviation for row, spec in zip(each, specs, strict=True)
    ]
    assert result["risk"] == pytest.approx(np.mean(risks))
    assert result["spread"] == pytest.approx(np.std(risks))
    assert result["survival_365"] == pytest.approx(np.mean([row["survival_365"] for row in each]))
    assert result["risk_group"] == ("high" if result["risk"] > 0 else "low")


def _as_cohort(path: Path):  # type: ignore[no-untyped-def]
    """The slide of one file as a cohort of one patient."""
    from dataclasses import replace

    from dml.inference.slide_inputs import SlideRequest, read_slides
    from dml.training.checkpoint import FoldModel

    spec = FoldModel.load(path.parents[1] / "student" / "fold-0").spec
    whole = cohort()
    return replace(
        whole,
        cases=(replace(whole.cases[0], bags=read_slides([SlideRequest(path)], spec, ANY_FILE).bags, covariates={}),),
    )


def test_attention_is_a_share_of_each_subspace_over_the_tiles_of_a_resolution(tmp_path: Path, write: Write) -> None:
    predictor, rows = model(tmp_path), [("a", write("s1", tiles=12)), ("a", write("s2", tiles=4)), ("b", "absent.svs")]
    table = pd.DataFrame([[patient, str(path)] for patient, path in rows], columns=["patient_id", "path"])
    result = predictor(table, attention=True)
    assert result["attention"][1] is None
    tiles = pd.DataFrame(json.loads(result["attention"][0]))
    assert tiles.groupby(["mpp", "slide"]).size().to_dict() == {
        (0.5, "s1"): 12,
        (0.5, "s2"): 4,
        (1.0, "s1"): 12,
        (1.0, "s2"): 4,
    }
    sums = tiles.groupby("mpp")[["tumor", "tme"]].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    assert (tiles[["tumor", "tme"]] >= 0).all(axis=None)
    assert tiles.loc[tiles["slide"] == "s1", "x_um"].max() == 3.5 * 256
    pd.testing.assert_frame_equal(result.drop(columns="attention"), predictor(table))


def test_classes_are_probabilities_and_the_likeliest_is_named(tmp_path: Path, write: Write) -> None:
    result = ask(model(tmp_path, task="grade"), ("a", write("s1"))).iloc[0]
    probabilities = result[["p_G2", "p_G3", "p_G4"]].astype(float)
    assert probabilities.sum() == pytest.approx(1)
    assert result["prediction"] == probabilities.idxmax().removeprefix("p_")


def test_slides_of_a_patient_are_taken_together_in_any_order(tmp_path: Path, write: Write) -> None:
    predictor, one, two = model(tmp_path), write("s1", seed=1), write("s2", seed=2)
    result = ask(predictor, ("a", one), ("b", two), ("a", two))
    assert result["patient_id"].tolist() == ["a", "b"]
    alone = ask(predictor, ("a", one))
    assert result["risk"][0] != pytest.approx(alone["risk"][0])
    turned = ask(predictor, ("a", two), ("a", one))
    assert turned["risk"][0] == pytest.approx(result["risk"][0], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoder": "other"}, "encoder other"),
        ({"width": 5}, "5 numbers a tile. The model needs 8"),
        ({"mpps": (0.25,)}, "0.25 microns per pixel"),
        ({"mpps": (0.5,)}, "no tokens at 1 microns per pixel"),
        ({"tile_um": 300.0}, "tiles of 300 microns"),
        ({"stain_normalisation": "macenko"}, "stain normalisation macenko.*embed.stain_normalisation: null"),
    ],
)
def test_inputs_out_of_scope_are_refused_beside_good_patients(
    tmp_path: Path, write: Write, changes: dict[str, object], reason: str
) -> None:
    result = ask(model(tmp_path), ("bad", write("s1", **changes)), ("good", write("s2")))
    assert result["status"].tolist() == ["refused", "ok"]
    assert pd.Series([result["reason"][0]]).str.contains(reason).all(), result["reason"][0]
    assert np.isnan(result["risk"][0])
    assert np.isfinite(result["risk"][1])


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    for name in ("broken.parquet", "broken.h5", "broken.svs", "broken.npy"):
        (tmp_path / name).write_text("not what it says")
    names = ["broken.parquet", "broken.h5", "broken.svs", "broken.npy", "absent.svs"]
    result = ask(model(tmp_path, mpps=(0.5,)), *((name, tmp_path / name) for name in names))
    assert result["status"].tolist() == ["refused"] * 5
    assert all(name in reason for name, reason in zip(names, result["reason"], strict=True))


@pytest.mark.parametrize(("tiles", "fill"), [(0, 0.0), (5, np.nan), (5, np.inf)])
def test_empty_and_infinite_features_are_refused(tmp_path: Path, tiles: int, fill: float) -> None:
    np.save(tmp_path / "s.npy", np.full((tiles, WIDTH), fill, np.float16))
    result = ask(model(tmp_path, mpps=(0.5,)), ("a", tmp_path / "s.npy"))
    assert result["status"].tolist() == ["refused"]
    assert "s.npy" in result["reason"][0]


def test_one_bad_slide_is_left_out_and_named(tmp_path: Path, write: Write) -> None:
    result = ask(model(tmp_path), ("a", write("s1")), ("a", tmp_path / "absent.svs"))
    assert result["status"].tolist() == ["ok"]
    assert "absent.svs" in result["reason"][0]


def test_other_tools_features_are_taken_by_width_and_folder(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float16)
    for mpp in ("0.5", "1"):
        (tmp_path / mpp).mkdir()
        np.save(tmp_path / mpp / "s1.npy", tokens)
    files = [tmp_path / mpp / "s1.npy" for mpp in ("0.5", "1")]
    assert ask(model(tmp_path), *(("a", file) for file in files))["status"].tolist() == ["ok"]
    np.save(tmp_path / "s2.npy", tokens)
    refused = ask(model(tmp_path), ("a", tmp_path / "s2.npy"))
    assert "folders named 0.5 and 1" in refused["reason"][0]
    assert ask(model(tmp_path / "one", mpps=(0.5,)), ("a", tmp_path / "s2.npy"))["status"].tolist() == ["ok"]
    np.save(tmp_path / "s3.npy", np.ones((4, WIDTH + 1), np.float16))
    wide = ask(model(tmp_path), ("a", tmp_path / "s3.npy"))["reason"][0]
    assert f"features of {WIDTH + 1} numbers a tile. The model needs {WIDTH}" in wide
    assert wide.startswith(str(tmp_path))


def test_teacher_uses_expression_in_any_gene_order(tmp_path: Path, write: Write) -> None:
    predictor, slide = model(tmp_path, "teacher"), write("s1")
    table = pd.DataFrame([[3.0, 0.1, 2.0, 1.0, 5.0]], index=["a"], columns=list(GENES))
    table.to_csv(tmp_path / "one.csv")
    table[list(reversed(GENES))].to_csv(tmp_path / "turned.tsv", sep="\t")
    names = ("patient_id", "path", "expression")
    without = ask(predictor, ("a", slide))
    result = [
        ask(predictor, ("a", slide, tmp_path / name), names=names)["risk"][0] for name in ("one.csv", "turned.tsv")
    ]
    assert result[0] == pytest.approx(result[1])
    assert result[0] != pytest.approx(without["risk"][0])
    assert (without["status"][0], without["reason"][0]) == ("ok", NO_EXPRESSION)
    stranger = ask(predictor, ("b", slide, tmp_path / "one.csv"), names=names)
    assert stranger.drop(columns="patient_id").equals(without.drop(columns="patient_id"))


def test_teacher_refuses_expression_it_cannot_use(tmp_path: Path, write: Write) -> None:
    slide, names = write("s1"), ("patient_id", "path", "expression")
    few = pd.DataFrame([[3.0, 0.1]], index=["a"], columns=list(GENES[:2]))
    few.to_csv(tmp_path / "few.csv")
    few.rename(index={"a": "b"}).to_csv(tmp_path / "other.csv")
    (few * 1e6).reindex(columns=GENES, fill_value=1.0).to_csv(tmp_path / "counts.csv")
    (tmp_path / "text.csv").write_text("patient_id,EGFR\na,high\n")
    rows = [("a", slide, tmp_path / f"{name}.csv") for name in ("few", "other", "counts", "text", "absent")]
    predictor = model(tmp_path, "teacher")
    reasons = [ask(predictor, row, names=names)["reason"][0] for row in rows]
    for reason, part in zip(reasons, ("40%", "40%", "log2_tpm", "not a table", "does not exist"), strict=True):
        assert part in reason


def test_student_does_not_read_expression(tmp_path: Path, write: Write) -> None:
    result = ask(model(tmp_path), ("a", write("s1"), "absent.csv"), names=("patient_id", "path", "expression"))
    assert result["status"].tolist() == ["ok"]


def test_an_empty_request_is_an_empty_table(tmp_path: Path) -> None:
    assert model(tmp_path)(pd.DataFrame({"patient_id": [], "path": []})).empty


def test_predictions_do_not_depend_on_threads_or_repetition(tmp_path: Path, write: Write) -> None:
    predictor, slide = model(tmp_path), write("s1")
    first = ask(predictor, ("a", slide))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pd.testing.assert_frame_equal(first, ask(predictor, ("a", slide)))
    torch.set_num_threads(threads)


def test_two_slides_of_one_name_are_refused_by_name(tmp_path: Path) -> None:
    for folder in ("A", "B"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "HE1.npy", np.ones((5, WIDTH), np.float16))
    rows = [("a", tmp_path / folder / "HE1.npy") for folder in ("A", "B")]
    result = ask(model(tmp_path, mpps=(0.5,)), *rows)
    assert result["status"].tolist() == ["refused"]
    assert "HE1: two slides of this name" in result["reason"][0]


def test_a_served_model_reads_below_its_root_only(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, inside = tmp_path / "0.5", write("s1", mpps=(0.5,))
    outside = write("s2", mpps=(1.0,))
    (root / "link.parquet").symlink_to(outside)
    (root / "folder.parquet").mkdir()
    monkeypatch.setenv(SERVED_ROOT, str(root))
    predictor = Predictor(model(tmp_path, mpps=(0.5,)).ensemble, FileAccess.of_server())
    paths = ["s1.parquet", str(inside), "link.parquet", str(outside), "/etc/passwd", "absent.parquet", "folder.parquet"]
    result = ask(predictor, *((f"p{i}", path) for i, path in enumerate(paths)))
    assert result["status"].tolist() == ["ok"] * 2 + ["refused"] * 5
    reasons = {reason.replace(path, "") for path, reason in zip(paths[2:], result["reason"][2:], strict=True)}
    assert len(reasons) == 1, reasons  # missing, forbidden, linked: the same words


def test_a_served_model_looks_for_nothing_beside_its_root(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("s1")
    monkeypatch.chdir(tmp_path / "0.5")  # the root, as none is set
    predictor = Predictor(model(tmp_path).ensemble, FileAccess.of_server())
    assert ask(predictor, ("a", "s1.parquet"))["status"].tolist() == ["refused"]


def test_no_message_shows_a_cell(tmp_path: Path, write: Write) -> None:
    secret = "root:x:0:0:secret"
    (tmp_path / "passwd").write_text(f"{secret}\ndaemon:{secret}\n{secret},{secret}\n")
    (tmp_path / "table.csv").write_text(f"patient_id,EGFR,MYC\na,1.0,{secret}\n")
    names, slide, predictor = ("patient_id", "path", "expression"), write("s1"), model(tmp_path, "teacher")
    rows = [ask(predictor, ("a", slide, tmp_path / name), names=names) for name in ("passwd", "table.csv")]
    rows.append(ask(predictor, ("a", tmp_path / "passwd")))
    assert [row["status"][0] for row in rows] == ["refused"] * 3
    assert not [row["reason"][0] for row in rows if "secret" in row["reason"][0]]
    assert "row 2, column 3" in rows[1]["reason"][0]


def test_clinical_inputs_may_be_given_and_what_lacks_is_said(tmp_path: Path, write: Write) -> None:
    predictor, slide = model(tmp_path, clinical=("age", "grade")), write("s1")
    names = ("patient_id", "path", "age", "grade")
    rows = [("a", slide, 70.0, "G4"), ("b", slide, 70.0, None), ("c", slide, None, None), ("d", slide, 70.0, "4")]
    result = ask(predictor, *rows, names=names)
    assert result["status"].tolist() == ["ok", "ok", "ok", "refused"]
    assert result["reason"][:3].tolist() == ["", "predicted without grade", "predicted without age, grade"]
    assert "column grade: unknown value '4'. Use G2, G3, G4" in result["reason"][3]
    assert len(set(result["risk"][:3].round(6))) == 3
    without = ask(predictor, ("c", slide)).iloc[0]
    assert without["risk"] == pytest.approx(result["risk"][2], abs=1e-5)
    assert without["reason"] == "predicted without age, grade"
