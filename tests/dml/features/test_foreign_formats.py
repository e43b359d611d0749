"""Features of other tools, in and out, and files that are not what they claim."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch

from dml.core.errors import InputError
from dml.data.feature_store import read_features, write_bag
from dml.features.foreign_formats import FileLayout, read_features_file, write_h5

TOKENS = np.random.default_rng(0).standard_normal((7, 16)).astype(np.float16)
COORDS = np.stack([np.arange(7) * 512, np.arange(7) * 1024], axis=1)  # top-left corners, level-0 pixels
TRIDENT = {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20}


def h5(path: Path, arrays: dict[str, Any], attributes: dict[str, Any] | None = None) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        if attributes:
            file["coords"].attrs.update(attributes)
    return path


WRITERS: dict[str, Callable[[Path], Any]] = {
    ".npy": lambda path: np.save(path, TOKENS),
    ".npz": lambda path: np.savez(path, features=TOKENS, coords=COORDS),
    ".pt": lambda path: torch.save(torch.from_numpy(TOKENS), path),
    ".pth": lambda path: torch.save({"features": torch.from_numpy(TOKENS), "coords": torch.from_numpy(COORDS)}, path),
    ".safetensors": lambda path: safetensors.torch.save_file({"x": torch.from_numpy(TOKENS)}, path),
    ".h5": lambda path: h5(path, {"features": TOKENS}),
    ".hdf5": lambda path: h5(path, {"features": TOKENS[None], "coords": COORDS}),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix](path)
    tokens, coords = read_features_file(path)
    np.testing.assert_array_equal(tokens, TOKENS)
    assert coords is None  # none, or of unknown unit
    inside, _ = read_features_file(Path("zip/a" + suffix), content=path.read_bytes())
    np.testing.assert_array_equal(inside, TOKENS)


def test_brain_floats(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"features": torch.from_numpy(TOKENS).bfloat16()}, path)
    np.testing.assert_allclose(read_features_file(path)[0], TOKENS, rtol=0.01)


def test_trident_coordinates_become_centres_in_microns(tmp_path: Path) -> None:
    path = h5(tmp_path / "a.h5", {"features": TOKENS[None], "coords": COORDS[None]}, TRIDENT)
    _, coords = read_features_file(path)
    np.testing.assert_allclose(coords, COORDS * 0.25 + 64)
    _, exact = read_features_file(path, FileLayout(tile_um=130.0))  # a slide of 130 / 512 microns per pixel
    np.testing.assert_allclose(exact, COORDS * (130 / 512) + 65)


def test_clam_coordinates_need_the_description(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = h5(tmp_path / "a.h5", {"features": TOKENS, "coords": COORDS}, {"patch_level": 0, "patch_size": 512})
    assert read_features_file(path)[1] is None
    assert "coordinates left out: microns per pixel or tile size unknown" in caplog.text
    _, corner = read_features_file(path, FileLayout(um_per_px=0.25, tile_um=128.0))
    np.testing.assert_allclose(corner, COORDS * 0.25 + 64)
    _, centre = read_features_file(path, FileLayout(um_per_px=0.25, at="centre"))
    np.testing.assert_allclose(centre, COORDS * 0.25)
    assert read_features_file(path, FileLayout(um_per_px=0.25, tile_um=128.0, coords=None))[1] is None


def test_export_and_back(tmp_path: Path) -> None:
    meta = {"encoder": "e", "mpp": 0.5, "tile_um": 128.0, "slide_mpp": 0.2525, "slide_id": "s", "patient_id": None}
    centres = np.random.default_rng(1).uniform(64, 9000, (7, 2)).astype(np.float32)
    write_bag(tmp_path / "a.parquet", TOKENS, centres, meta)
    tokens, coords, read = read_features(tmp_path / "a.parquet")
    write_h5(tmp_path / "a.h5", tokens.numpy(), coords, read)
    back, where = read_features_file(tmp_path / "a.h5")
    np.testing.assert_array_equal(back, TOKENS)
    np.testing.assert_array_equal(where, centres)


def test_export_is_what_trident_users_expect(tmp_path: Path) -> None:
    meta = {"encoder": "e", "mpp": 0.5, "tile_um": 128.0, "slide_mpp": 0.25}
    write_h5(tmp_path / "a.h5", TOKENS, COORDS * 0.25 + 64, meta)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["coords"][()], COORDS)
        assert dict(file["coords"].attrs) == {**TRIDENT, "overlap": 0}
        assert file.attrs["encoder"] == "e"


def test_export_without_coordinates(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", TOKENS, None, {"encoder": "e"})
    tokens, coords = read_features_file(tmp_path / "a.h5")
    np.testing.assert_array_equal(tokens, TOKENS)
    assert coords is None


def test_pickles_are_never_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (ran,))

    torch.save({"features": Evil()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil()], dtype=object), allow_pickle=True)
    (tmp_path / "c.npy").write_bytes(buffer.getvalue())
    for name in ("a.pt", "b.pt", "c.npy"):
        with pytest.raises(InputError, match=rf"{name}: not a readable"):
            read_features_file(tmp_path / name)
    assert not ran.exists()


@pytest.mark.parametrize("suffix", WRITERS)
def test_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    with pytest.raises(InputError, match=rf"bad{suffix}: the file does not exist"):
        read_features_file(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=rf"bad{suffix}: the file is empty"):
        read_features_file(path)
    WRITERS[suffix](path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"bad{suffix}: not a readable {suffix} file"):
        read_features_file(path)


def test_misunderstood_files_are_named(tmp_path: Path) -> None:
    path = h5(tmp_path / "a.h5", {"feats": TOKENS, "more": TOKENS})
    with pytest.raises(InputError, match=r"a\.h5: no array called 'features', but feats, more.*features\.tokens"):
        read_features_file(path)
    np.testing.assert_array_equal(read_features_file(path, FileLayout(tokens="more"))[0], TOKENS)
    with pytest.raises(InputError, match=r"b\.h5: features of shape \(0, 16\)"):
        read_features_file(h5(tmp_path / "b.h5", {"features": TOKENS[:0]}))
    with pytest.raises(InputError, match=r"c\.h5: 7 feature vectors, but 6 coordinates"):
        read_features_file(h5(tmp_path / "c.h5", {"features": TOKENS, "coords": COORDS[:6]}))
    (tmp_path / "d.csv").write_text("1,2")
    with pytest.raises(InputError, match=r"d\.csv: unknown kind of feature file '\.csv'\. There are: \.h5"):
        read_features_file(tmp_path / "d.csv")
