"""Each kind of fault that fuzzing has shown, as a case of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression
from dml.cohorts.provenance import read_provenance
from dml.cohorts.published_splits import load_published
from dml.cohorts.store_files import read_expression, read_gene_groups, read_patients, read_slides, read_splits
from dml.config.migrate import migrate
from dml.config.params import Split, parse
from dml.core.errors import ConfigError, InputError
from dml.core.files import read_json, read_parquet
from dml.data.feature_store import read_features
from dml.slides.grid_store import read_grid
from dml.slides.reader import open_slide
from tests import portals
from tests.cohort_tables import plain
from tests.painted import tissue_pixels, write_slide


@pytest.mark.parametrize("metadata", [b"\xff", b"{", b"", b"[]", b"null"])
@pytest.mark.parametrize("read", [read_parquet, read_splits, read_features])
def test_metadata_that_are_none_name_the_store(tmp_path: Path, read: Callable[[Path], object], metadata: bytes) -> None:
    path = tmp_path / "store.parquet"
    table = pa.table({"vector": pa.array([b"\0\0"] * 3, pa.binary(2))})
    pq.write_table(table.replace_schema_metadata({b"dml": metadata}), path)
    with pytest.raises(InputError, match=r"store\.parquet: "):
        read(path)


@pytest.mark.parametrize(
    "read", [read_patients, read_slides, read_expression, read_splits, read_provenance, read_grid, read_features]
)
def test_a_store_of_another_kind_is_refused_by_name(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "store.parquet"
    pq.write_table(pa.table({"x": [1, 2]}, metadata={"dml": "{}"}), path)
    with pytest.raises(InputError, match=r"store\.parquet: "):
        read(path)


@pytest.mark.parametrize("content", [b"\xff{}", b"[" * 100_000, b'{"tumor": 1, "tme": []}', b"[]", b'{"tumor": []}'])
def test_gene_groups_that_are_none_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "groups.json").write_bytes(content)
    with pytest.raises(InputError, match=r"groups\.json: "):
        read_gene_groups(tmp_path / "groups.json")


def test_coordinates_that_are_text_are_refused_by_name(tmp_path: Path) -> None:
    columns = {"vector": pa.array([b"\0\0"], pa.binary(2)), "x_um": ["x"], "y_um": [1.0]}
    pq.write_table(pa.table(columns, metadata={"dml": json.dumps({"encoder": "e"})}), tmp_path / "bag.parquet")
    with pytest.raises(InputError, match=r"bag\.parquet: "):
        read_features(tmp_path / "bag.parquet")


def test_json_in_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.json: not JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"cohort: \xe9\n", b"tuning: [1]\ntasks: []\n", b"split: 3\ntasks: []\n"])
def test_parameters_that_cannot_be_migrated_name_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        migrate(tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_bytes() == content


@pytest.mark.parametrize("cell", ["", None])
def test_a_gene_without_an_id_names_file_and_row(tmp_path: Path, cell: str | None) -> None:
    portals.write_gdc(tmp_path, portals.expression_of(portals.tcga(2), ["TP53", "EGFR"]))
    path = sorted((tmp_path / "gdc").rglob("*.tsv"))[0]
    frame = pd.read_csv(path, sep="\t", comment="#", dtype=str)
    frame.loc[5 if cell == "" else slice(None), "gene_id"] = cell  # one cell, or the whole column
    frame.to_csv(path, sep="\t", index=False)
    spec: dict[str, Any] = {"folder": "gdc", "sample_sheet": "gdc_sample_sheet.2026-01-15.tsv"}
    spec |= {"format": "gdc_star_counts"}
    described = {"name": "a", "raw": str(tmp_path), "patients": [{"file": "p.csv", "id": "id"}], "expression": spec}
    with pytest.raises(InputError, match=rf"{path.name}: column 'gene_id' is empty in row"):
        build_expression(parse(CohortDescription, described, "a.yaml"))


def test_published_splits_without_anybody_to_train_on_are_refused_by_name(tmp_path: Path) -> None:
    patients = plain()["patients"].rename(columns={"patient": "patient_id", "hospital": "site", "dead": "event"})
    ids = list(patients["patient_id"])
    for k in range(2):
        pd.DataFrame({"train": pd.Series(ids[:6]), "val": pd.Series(ids[6 * (k + 1) : 6 * (k + 2)])}).to_csv(
            tmp_path / f"splits_{k}.csv"
        )
    with pytest.raises(InputError, match=r"splits_0\.csv: no patient of its column 'train'"):
        load_published(tmp_path, patients, set(ids[6:]), Split(stratify=()), 0)


def test_a_property_that_openslide_cannot_give_names_the_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_slide(tmp_path / "a.tif", tissue_pixels(256, 256), levels=1)

    def fail(_self: object, key: str) -> str:
        raise KeyError(key)

    monkeypatch.setattr(openslide._PropertyMap, "__getitem__", fail)
    with pytest.raises(InputError, match=r"a\.tif: cannot be read"):
        open_slide(path, np.float64(0.5))
