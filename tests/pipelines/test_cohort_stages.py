"""The stages cohort, check_cohort, check_features and split in a folder of their own: what they write and refuse."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from dml.core.files import read_json, read_parquet, write_parquet
from dml.data.feature_store import bag_path, write_bag
from pipelines import check_cohort, check_features, cohort, split

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = """
name: small
patients:
  - {file: patients.csv, id: id, survival: {time: days, unit: days, event: dead, dead: 1, alive: 0}}
features:
  - {path: bags, encoder: e, width: 4, mpp: 0.5, tile_um: 128, patient: "^(P..)"}
expression: {file: expression.csv, orientation: patients_as_rows, id: id, unit: log2_tpm}
gene_groups:
  tumor: [{file: sets.csv, select: [tumor]}]
  tme: [{file: sets.csv, select: [tme]}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    """A repository with one cohort of 30 patients, 26 of them with expression."""
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"cohort": "small", "tasks": ["survival"], "folds": [0, 1, 2]}
    params["tiles"]["mpps"], params["embed"] = [0.5], {"source": "import", "encoder": "e"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("cohorts").mkdir()
    Path("cohorts/small.yaml").write_text(DESCRIPTION)
    raw = Path("data/raw/small")
    (raw / "bags").mkdir(parents=True)
    ids = [f"P{i:02d}" for i in range(30)]
    pd.DataFrame({"id": ids, "days": range(1, 31), "dead": [i % 2 for i in range(30)]}).to_csv(raw / "patients.csv")
    genes = pd.DataFrame(rng.uniform(0, 9, (26, 24)), columns=[f"G{i}" for i in range(24)])
    genes.insert(0, "id", ids[:26])
    genes.to_csv(raw / "expression.csv", index=False)
    sets = {"tumor": list(genes.columns[1:13]), "tme": list(genes.columns[13:25])}
    pd.DataFrame(sets).to_csv(raw / "sets.csv", index=False)
    for patient in ids:
        (raw / "bags" / f"{patient}-1.npy").write_bytes(b"")
    return tmp_path


def embed(rng: np.random.Generator) -> None:
    """Stand in for the embed stage."""
    slides = read_parquet(Path("data/small/slides.parquet"))[0].to_pandas()
    for slide in slides["slide_id"]:
        meta = {"encoder": "e", "mpp": 0.5, "tile_um": 128.0, "slide_id": slide}
        write_bag(bag_path(Path("data/small/features"), "e", 0.5, slide), rng.normal(size=(3, 4)), None, meta)
    manifest = slides[["slide_id", "patient_id"]].assign(mpp=0.5, tiles=3, status="ok", reason=None)
    manifest.loc[0, ["status", "reason"]] = ["failed", "no tissue"]
    write_parquet(Path("data/small/features/manifest.parquet"), pa.Table.from_pandas(manifest, preserve_index=False))


def test_from_raw_tables_to_splits(folder: Path, rng: np.random.Generator) -> None:
    assert cohort.main() == 0
    assert check_cohort.main() == 0
    embed(rng)
    assert check_features.main() == 0
    assert split.main() == 0
    checks = folder / "reports/small/checks"
    assert read_json(checks / "cohort.json")["counts"]["patients with slide and expression"] == 26
    assert read_json(checks / "features.json")["counts"]["slides that failed"] == 1
    splits, metadata = read_parquet(folder / "data/small/splits.parquet")
    frame = splits.to_pandas()
    tested = frame.loc[frame["role"] == "test", "patient_id"]
    assert sorted(tested) == [f"P{i:02d}" for i in range(1, 26)], (
        "P00's only slide failed, P26 to P29 have no expression"
    )
    assert set(frame.loc[frame["patient_id"].isin(["P00", "P27"]), "role"]) == {"train"}
    assert metadata["report"]["0"]["patients"]["validation"] == 3


def test_a_broken_table_stops_the_pipeline_with_its_own_exit_status(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = folder / "data/raw/small/patients.csv"
    text = table.read_text()
    table.write_text(text.replace("1,P01,2,1", "1,P01,2,yes"))
    assert cohort.main() == 2
    assert "column 'dead' holds yes in row 3, which the description does not explain" in caplog.text
    assert not (folder / "data/small").exists(), "nothing half-written"
    table.write_text(text.replace("1,P01,2,1", "1,P01,-2,1"))
    assert cohort.main() == 0
    assert check_cohort.main() == 3
    assert "no negative time: failed for patient_id P01, survival_days -2.0" in caplog.text
    assert not read_json(folder / "reports/small/checks/cohort.json")["success"]


def test_what_was_built_stays_when_a_table_breaks(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert cohort.main() == 0
    built = {path: path.read_bytes() for path in (folder / "data/small").iterdir()}
    table, expression = folder / "data/raw/small/patients.csv", folder / "data/raw/small/expression.csv"
    whole = table.read_text()
    table.write_text(whole.replace("1,P01,2,1", "1,P01,2,1\n1,P02,9,0"))
    assert cohort.main() == 2
    assert "rows of the same patient disagree in 'days': P02 (rows 4, 5)" in caplog.text
    table.write_text(whole)
    measured = pd.read_csv(expression)
    measured.loc[3, "G5"] = np.nan
    measured.to_csv(expression, index=False)
    assert cohort.main() == 2
    assert "expression.csv: 1 missing or infinite values: gene G5 of patient P03" in caplog.text
    assert {path: path.read_bytes() for path in (folder / "data/small").iterdir()} == built


def test_a_fold_in_which_nobody_died_stops_before_training(
    folder: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    assert cohort.main() == 0
    embed(rng)
    assert split.main() == 0
    before = (folder / "data/small/splits.parquet").read_bytes()
    patients, metadata = read_parquet(folder / "data/small/patients.parquet")
    frame = patients.to_pandas().assign(event=[i == 4 for i in range(30)])
    write_parquet(folder / "data/small/patients.parquet", pa.Table.from_pandas(frame, preserve_index=False), metadata)
    assert split.main() == 3
    assert "survival, fold " in caplog.text
    assert "test patients with follow-up died" in caplog.text
    assert (folder / "data/small/splits.parquet").read_bytes() == before


def test_published_splits_are_used_where_described(folder: Path, rng: np.random.Generator) -> None:
    path = folder / "cohorts/small.yaml"
    path.write_text(path.read_text() + "published_splits: folds\n")
    (folder / "data/raw/small/folds").mkdir()
    ids = [f"P{i:02d}" for i in range(1, 26)]
    for fold in range(3):
        parts = {"train": [p for i, p in enumerate(ids) if i % 3 != fold], "val": ids[fold::3]}
        columns = {name: pd.Series(values) for name, values in parts.items()}
        pd.DataFrame(columns).to_csv(folder / f"data/raw/small/folds/splits_{fold}.csv")
    assert cohort.main() == 0
    embed(rng)
    assert split.main() == 0
    frame = read_parquet(folder / "data/small/splits.parquet")[0].to_pandas()
    first = frame[(frame["fold"] == 0) & (frame["role"] == "test")]
    assert sorted(first["patient_id"]) == ids[::3]
