"""Features of one slide (2,500 x 1,024 float16) written, and read to a tensor: our store and other formats."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.measurement import time_repeats
from benchmarks.registry import Benchmark, Measurement, register
from dml.data.feature_store import read_features, write_bag

TILES, WIDTH = 2500, 1024
META = {"encoder": "benchmark", "mpp": 0.5, "tile_um": 128.0, "slide_id": "S", "patient_id": "P", "weights": "none"}
Tokens = np.ndarray


def _write_store(path: Path, tokens: Tokens) -> None:
    write_bag(path, tokens, np.zeros((len(tokens), 2), np.float32), META)


def _read_store(path: Path) -> torch.Tensor:
    return read_features(path)[0]


def _write_npy(path: Path, tokens: Tokens) -> None:
    np.save(path, tokens)


def _read_npy(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _write_safetensors(path: Path, tokens: Tokens) -> None:
    from safetensors.numpy import save_file

    save_file({"tokens": tokens}, path)


def _read_safetensors(path: Path) -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file(path)["tokens"]


def _write_h5(path: Path, tokens: Tokens) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["features"] = tokens


def _read_h5(path: Path) -> torch.Tensor:
    import h5py

    with h5py.File(path) as file:
        return torch.from_numpy(file["features"][:])


FORMATS: dict[str, tuple[str, Callable[[Path, Tokens], None], Callable[[Path], torch.Tensor]]] = {
    "store": (".parquet", _write_store, _read_store),
    "npy memmap": (".npy", _write_npy, _read_npy),
    "safetensors": (".safetensors", _write_safetensors, _read_safetensors),
    "h5": (".h5", _write_h5, _read_h5),
}


def _time_format(name: str, write: bool) -> Measurement:
    suffix, save, load = FORMATS[name]
    tokens = np.random.default_rng(0).normal(size=(TILES, WIDTH)).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"slide{suffix}"
        save(path, tokens)
        work = (lambda: save(path, tokens)) if write else (lambda: load(path).view(torch.int64).sum())
        result = time_repeats(work, repeats=30, warm=3, max_seconds=10)
        return Measurement(result.wall_s, result.cpu_s, {"MB": path.stat().st_size / 1e6})


for name in FORMATS:
    register(Benchmark(f"read, {name}", "6 feature files", partial(_time_format, name, write=False), threads=1))
    register(Benchmark(f"write, {name}", "6 feature files", partial(_time_format, name, write=True), threads=1))
