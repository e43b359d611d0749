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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


DESCRIBED = FileLayout(tile_um=128.0, encoder="uni", mpp=0.5)


@pytest.mark.parametrize("name", ["uni", "UNI", "uni_v1", "uni-0a1b2c3d"])
def test_an_encoder_may_be_spelt_as_other_tools_do(tmp_path: Path, name: str) -> None:
    path = h5(tmp_path / "a.h5", {"features": TOKENS, "coords": COORDS}, {**TRIDENT, "encoder": name})
    np.testing.assert_array_equal(read_features_file(path, DESCRIBED)[0], TOKENS)


def test_another_encoder_than_described_is_refused_with_both(tmp_path: Path) -> None:
    path = h5(tmp_path / "a.h5", {"features": TOKENS, "coords": COORDS}, TRIDENT)
    with h5py.File(path, "a") as file:
        file["features"].attrs["encoder"] = "phikon_v2"
    with pytest.raises(InputError, match=r"a\.h5: features of phikon_v2, not of uni\. Correct `encoder`"):
        read_features_file(path, DESCRIBED)


@pytest.mark.parametrize(
    ("name", "encoder", "good"),
    [("P1_uni", "uni", True), ("P1_conch", "uni", False), ("P1-conch_v1", "uni", True), ("P1", "uni", True),
     ("P1_conch", "conch", True), ("P1_uni", "my_uni_v7", True), ("P1_DX1", "uni", True)],
)  # fmt: skip
def test_an_encoder_in_the_name_of_a_file_counts(tmp_path: Path, name: str, encoder: str, good: bool) -> None:
    path = h5(tmp_path / f"{name}.h5", {"features": TOKENS})
    if good:
        read_features_file(path, FileLayout(encoder=encoder))
    else:
        with pytest.raises(InputError, match=rf"by its name features of conch, not of {encoder}"):
            read_features_file(path, FileLayout(encoder=encoder))


def test_another_magnification_or_tile_is_refused_with_both(tmp_path: Path) -> None:
    half = {**TRIDENT, "patch_size_level0": 1024, "target_magnification": 10}
    path = h5(tmp_path / "a.h5", {"features": TOKENS, "coords": COORDS}, half)
    with pytest.raises(InputError, match=r"features at 1 microns per pixel, not 0\.5\. Correct `mpp`"):
        read_features_file(path, DESCRIBED)
    large = {**TRIDENT, "patch_size": 512, "patch_size_level0": 1024}
    path = h5(tmp_path / "b.h5", {"features": TOKENS, "coords": COORDS}, large)
    with pytest.raises(InputError, match=r"features at 256 microns a tile, not 128\. Correct `tile_um`"):
        read_features_file(path, DESCRIBED)


def test_stamp_coordinates_are_microns(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["feats"], file["coords"] = TOKENS, np.arange(14).reshape(7, 2) * 256.0
        file.attrs.update({"extractor": "uni-9f3c2b1a", "unit": "um", "tile_size_um": 256.0, "tile_size_px": 224})
    tokens, coords = read_features_file(path, FileLayout(tokens="feats", encoder="uni", mpp=256 / 224, tile_um=256.0))
    np.testing.assert_array_equal(tokens, TOKENS)
    np.testing.assert_allclose(coords, np.arange(14).reshape(7, 2) * 256.0 + 128)
    with pytest.raises(InputError, match="features at 256 microns a tile, not 128"):
        read_features_file(path, FileLayout(tokens="feats", encoder="uni", tile_um=128.0))


UNUSABLE: dict[str, tuple[Any, str]] = {
    "tuple": (
        (torch.from_numpy(TOKENS), torch.from_numpy(COORDS)),
        r"holds a tuple of 2, not a tensor\. Save one tensor",
    ),
    "list": (list(torch.from_numpy(TOKENS)), r"holds a list of 7, not a tensor\. Save one tensor"),
    "numpy": (TOKENS, r"holds NumPy arrays, which are pickled\. Save the tensor: torch\.save\(torch\.from_numpy"),
    "sparse": (torch.from_numpy(TOKENS).float().to_sparse(), r"'features' is a sparse tensor\. Save it dense"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", UNUSABLE)
def test_pt_files_say_what_they_hold_and_how_to_save_it(tmp_path: Path, kind: str) -> None:
    content, message = UNUSABLE[kind]
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=rf"a\.pt: {message}"):
        read_features_file(tmp_path / "a.pt")


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.complex64, "S4"])
def test_features_that_are_no_floats_are_refused(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(InputError, match=r"a\.h5: features of type .*; floats are expected"):
        read_features_file(h5(tmp_path / "a.h5", {"features": np.ones((3, 4), dtype)}))


def test_nan_names_the_file_and_the_tiles(tmp_path: Path) -> None:
    spoiled = TOKENS.copy()
    spoiled[2, 3], spoiled[5, 0] = np.nan, np.inf
    with pytest.raises(InputError, match=r"a\.h5: 2 of 7 tiles have NaN or infinite features"):
        read_features_file(h5(tmp_path / "a.h5", {"features": spoiled}))


@pytest.mark.parametrize(
    "coords",
    [np.full((7, 2), np.nan), np.full((7, 2), 1e300), np.zeros((7, 1)), np.zeros(7), np.full((7, 2), "x", "S1"),
     np.zeros((7, 2), np.complex64)],
    ids=["NaN", "1e300", "one column", "one dimension", "text", "complex"],
)  # fmt: skip
def test_coordinates_that_are_none_are_refused(tmp_path: Path, coords: np.ndarray) -> None:
    path = h5(tmp_path / "a.h5", {"features": TOKENS, "coords": coords}, TRIDENT)
    with pytest.raises(InputError, match=r"a\.h5: coordinates (of type|that are not on any slide)"):
        read_features_file(path)


def external(path: Path, secret: Path) -> None:
    secret.write_bytes(b"root:x:0:0:" * 100)
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (16, 16), np.float32, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def soft_link(path: Path, secret: Path) -> None:
    h5(secret, {"x": TOKENS})
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink(str(secret), "x")


def virtual(path: Path, secret: Path) -> None:
    h5(secret, {"x": TOKENS})
    layout = h5py.VirtualLayout((10**9, 16), np.float16)
    layout[:7] = h5py.VirtualSource(str(secret), "x", TOKENS.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("features", layout)


@pytest.mark.parametrize(
    ("write", "message"),
    [(external, r"in other files \(external storage\)"), (soft_link, "is a link to other data"), (virtual, "virtual")],
)
def test_data_that_lie_elsewhere_are_refused(tmp_path: Path, write: Callable[[Path, Path], None], message: str) -> None:
    write(tmp_path / "a.h5", tmp_path / "secret")
    with pytest.raises(InputError, match=rf"a\.h5: .*{message}"):
        read_features_file(tmp_path / "a.h5")


def claim_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (10**9, 1024), np.float16, chunks=(64, 1024))


def bomb_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=np.zeros((20_000, 4096), np.float16), compression="gzip", chunks=True)


def claim_pt(path: Path) -> None:
    torch.save(torch.zeros(1).expand(10**9, 1024), path)


def bomb_npz(path: Path) -> None:
    np.savez_compressed(path, features=np.zeros((20_000, 4096), np.float16))


@pytest.mark.parametrize(
    ("write", "suffix"), [(claim_h5, ".h5"), (bomb_h5, ".h5"), (claim_pt, ".pt"), (bomb_npz, ".npz")]
)
def test_claims_beyond_the_file_are_refused_before_reading(
    tmp_path: Path, write: Callable[[Path], None], suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    write(path)
    assert path.stat().st_size < 2**21
    with pytest.raises(InputError, match=rf"a\{suffix}: .* claims \d+ bytes, and the file has \d+"):
        read_features_file(path)


def test_an_npy_header_beyond_its_content_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TOKENS)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes().replace(b"(7, 16), ", b"(7**9,16)"[:9]))
    with pytest.raises(InputError, match=r"a\.npy: not a readable"):
        read_features_file(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", TOKENS)
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes().replace(b"(7, 16)", b"(999,9)"))
    with pytest.raises(InputError, match=r"b\.npy: 'features' claims 17982 bytes"):
        read_features_file(tmp_path / "b.npy")


def test_an_array_that_was_never_written_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", (12, 16), np.float16, chunks=(4, 16))
    with pytest.raises(InputError, match=r"nothing was written into 'features'"):
        read_features_file(tmp_path / "a.h5")


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", TOKENS)
    monkeypatch.setenv("DML_LIMITS", '{"feature_bytes": 100}')
    with pytest.raises(InputError, match=r"a\.npy: \d+ bytes; features have at most 100"):
        read_features_file(tmp_path / "a.npy")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from(sorted(WRITERS)), data=st.data())
def test_a_spoiled_file_is_read_or_refused_by_name(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"f{suffix}"
    WRITERS[suffix](path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    tokens, where = TOKENS, path.name
    try:
        tokens, _ = read_features_file(path, content=bytes(content[: data.draw(st.integers(1, len(content)))]))
    except InputError as error:
        where = error.where
    assert path.name in where
    assert np.isfinite(tokens).all()
