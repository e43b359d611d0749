"""The feature store: layout on disk, what comes back, and errors that name the file."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dml.core.errors import InputError
from dml.core.files import write_parquet
from dml.data.feature_store import bag_path, read_bags, read_features, write_bag

META: dict[str, Any] = {"encoder": "fake", "mpp": 0.5, "tile_um": 128.0, "slide_id": "s", "patient_id": None}


def tokens(n: int = 600, d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float16)


def places(n: int = 600) -> np.ndarray:
    return np.stack([np.arange(n) * 128.0 + 64, np.arange(n) * 64.0 + 64], axis=1)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    write_bag(tmp_path / "a.parquet", tokens(), places(), META)
    result, coords, meta = read_features(tmp_path / "a.parquet", encoder="fake", width=8, finite=True)
    assert result.dtype == torch.float16
    np.testing.assert_array_equal(result.numpy(), tokens())
    assert coords is not None
    np.testing.assert_array_equal(coords.numpy(), places().astype(np.float32))
    assert meta == {**META, "width": 8}


def test_layout_on_disk(tmp_path: Path) -> None:
    write_bag(tmp_path / "a.parquet", tokens(), places(), META)
    facts = pq.read_metadata(tmp_path / "a.parquet")
    assert [facts.row_group(i).num_rows for i in range(facts.num_row_groups)] == [250, 250, 100]
    vector = facts.row_group(0).column(2)
    assert (vector.path_in_schema, vector.compression, vector.statistics) == ("vector", "UNCOMPRESSED", None)
    assert not {"RLE_DICTIONARY", "PLAIN_DICTIONARY"} & set(vector.encodings)
    assert pq.read_schema(tmp_path / "a.parquet").field("vector").type == pa.binary(16)


def test_same_content_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_bag(tmp_path / name, tokens(), places(), META)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tokens_share_the_memory_parquet_was_read_into(tmp_path: Path) -> None:
    write_bag(tmp_path / "a.parquet", tokens(), None, META)
    before = pa.total_allocated_bytes()
    result, coords, _ = read_features(tmp_path / "a.parquet")
    assert coords is None
    assert pa.total_allocated_bytes() - before >= result.numel() * 2


def test_single_precision_is_stored_as_half(tmp_path: Path) -> None:
    write_bag(tmp_path / "a.parquet", tokens().astype(np.float32), None, META)
    np.testing.assert_array_equal(read_features(tmp_path / "a.parquet")[0].numpy(), tokens())


def spoiled(value: float) -> np.ndarray:
    bad = tokens(5).astype(np.float32)
    bad[2, 3] = value
    return bad


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e6])
def test_not_finite_is_not_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: 1 of 5 tiles have NaN or infinite features"):
        write_bag(tmp_path / "a.parquet", spoiled(value), None, META)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(0, 8), (5, 0), (5,), (1, 5, 8)])
def test_empty_or_misshapen_is_not_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: features of shape"):
        write_bag(tmp_path / "a.parquet", np.zeros(shape), None, META)


def test_coordinates_must_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"5 feature vectors, but coordinates of shape \(6, 2\)"):
        write_bag(tmp_path / "a.parquet", tokens(5), places(6), META)


def binary(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(values), [None, pa.py_buffer(values)])


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    with pytest.raises(InputError, match=r"bad\.parquet: the file does not exist"):
        read_features(path)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"bad\.parquet: not a readable Parquet file"):
        read_features(path)
    write_parquet(path, pa.table({"vector": [[1.0]]}))
    with pytest.raises(InputError, match=r"bad\.parquet: not a file of this feature store"):
        read_features(path)
    write_parquet(path, pa.table({"vector": binary(tokens(0))}), META)
    with pytest.raises(InputError, match=r"bad\.parquet: an empty bag"):
        read_features(path)
    write_parquet(path, pa.table({"vector": pa.array([None, bytes(16)], pa.binary(16))}), META)
    with pytest.raises(InputError, match=r"bad\.parquet: 1 tiles without features"):
        read_features(path)
    write_parquet(path, pa.table({"vector": binary(spoiled(np.nan).astype(np.float16))}), META)
    with pytest.raises(InputError, match=r"bad\.parquet: NaN or infinite values"):
        read_features(path, finite=True)


def test_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    write_bag(path, tokens(), None, META)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"cut\.parquet: not a readable Parquet file"):
        read_features(path)


def test_other_encoder_or_width_is_named(tmp_path: Path) -> None:
    write_bag(tmp_path / "a.parquet", tokens(), None, META)
    with pytest.raises(InputError, match=r"a\.parquet: features of encoder fake, not uni"):
        read_features(tmp_path / "a.parquet", encoder="uni")
    with pytest.raises(InputError, match=r"a\.parquet: features of width 8, not 1024"):
        read_features(tmp_path / "a.parquet", width=1024)


def store(folder: Path, slide: str, mpp: float, n: int, has_coords: bool = True, d: int = 8, **changes: Any) -> None:
    meta = {**META, "mpp": mpp, "tile_um": 256 * mpp, "slide_id": slide, **changes}
    write_bag(bag_path(folder, "fake", mpp, slide), tokens(n, d, seed=n), places(n) if has_coords else None, meta)


def test_slides_of_a_patient_become_one_bag_a_resolution(tmp_path: Path) -> None:
    for slide, n in (("a", 3), ("b", 5)):
        store(tmp_path, slide, 0.5, 4 * n)
        store(tmp_path, slide, 1.0, n)
    pyramid = read_bags(tmp_path / "fake", ["b", "a"], [0.5, 1.0])
    assert list(pyramid) == [0.5, 1.0]
    bag = pyramid[1.0]
    assert (bag.mpp, bag.tile_um, bag.encoder, len(pyramid[0.5])) == (1.0, 256.0, "fake", 32)
    assert bag.slide.tolist() == [0] * 5 + [1] * 3
    np.testing.assert_array_equal(bag.tokens.numpy(), np.concatenate([tokens(5, seed=5), tokens(3, seed=3)]))
    assert bag.coords_um is not None
    assert bag.coords_um.tolist() == [*places(5).tolist(), *places(3).tolist()]


def test_coordinates_only_if_all_slides_have_them(tmp_path: Path) -> None:
    store(tmp_path, "a", 0.5, 3)
    store(tmp_path, "b", 0.5, 3, has_coords=False)
    assert read_bags(tmp_path / "fake", ["a", "b"], [0.5])[0.5].coords_um is None
    assert read_bags(tmp_path / "fake", ["a"], [0.5])[0.5].coords_um is not None


def test_no_slides_is_an_empty_pyramid(tmp_path: Path) -> None:
    assert read_bags(tmp_path / "fake", [], [0.5]) == {}


def test_slides_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    store(tmp_path, "a", 0.5, 3)
    store(tmp_path, "wide", 0.5, 3, d=9)
    store(tmp_path, "large", 0.5, 3, tile_um=300.0)
    store(tmp_path, "other", 0.5, 3, encoder="uni")
    for slide, message in (
        ("wide", r"wide\.parquet: features of width 9, not 8"),
        ("large", r"large\.parquet: tiles of 300 microns, others have 128"),
        ("other", r"other\.parquet: features of encoder uni, not fake"),
        ("gone", r"gone\.parquet: the file does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            read_bags(tmp_path / "fake", ["a", slide], [0.5])
