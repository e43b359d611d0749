"""Encoders under ONNX Runtime: the tokens of PyTorch, exported once, refused where they differ."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from torch import nn

from dml.core.errors import InputError
from dml.encoders.backends import runtimes
from dml.encoders.backends.runtimes import export_encoder
from dml.encoders.backends.tile_encoder import TileEncoderRunner
from dml.encoders.card import EncoderCard
from dml.encoders.registry import get
from dml.features.load_encoder import load_encoder
from dml.registry.packaging import requirements
from tests.painted import tissue_pixels

TILES = np.stack([tissue_pixels(32, 32, seed=i, cover=1.4) for i in range(5)])
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


class Pooled(nn.Module):
    """A convolution whose map is averaged."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(pixels)).mean(dim=(2, 3))


class DataDependent(nn.Module):
    """Tokens that tracing with a black tile gets wrong."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        token = pixels.mean(dim=(2, 3))
        return -token if float(pixels.std()) > 0.5 else token


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def small_card(network: type[nn.Module], exportable: bool = True) -> EncoderCard:
    def load(device: str, precision: str) -> TileEncoderRunner:
        return TileEncoderRunner(network(), MEAN, STD, 32, device, precision)

    width = 8 if network is Pooled else 3
    return EncoderCard("small", width, 0.5, 32, MEAN, STD, "none", "none", load_with=load, exportable=exportable)


def test_tokens_are_those_of_pytorch_in_any_batch() -> None:
    card = small_card(Pooled)
    torch_tokens, ours = card.load()(TILES), load_encoder(card, runtime="onnxruntime")
    np.testing.assert_allclose(ours(TILES), torch_tokens, atol=2e-3)
    assert np.array_equal(ours(TILES), np.concatenate([ours(TILES[:2]), ours(TILES[2:])]))


def test_the_default_encoder_under_onnxruntime() -> None:
    card = get("efficientnet_lite0")
    tiles = np.stack([tissue_pixels(256, 256, seed=7)])
    expected, ours = card.load()(tiles).astype(float)[0], load_encoder(card, runtime="auto")(tiles).astype(float)[0]
    assert ours @ expected / np.linalg.norm(ours) / np.linalg.norm(expected) > 0.999999
    assert np.abs(ours - expected).max() < 0.01


def test_an_export_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TileEncoderRunner(Pooled(), MEAN, STD, 32)
    export_encoder(encoder, "small", "weights", "onnxruntime", "float32")
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("exported again"))
    export_encoder(encoder, "small", "weights", "onnxruntime", "float32")


def test_a_network_that_computes_something_else_when_exported_is_refused() -> None:
    with pytest.raises(InputError, match="differ from PyTorch's: cosine -"):
        load_encoder(small_card(DataDependent), runtime="onnxruntime")


def test_bfloat16_needs_another_runtime() -> None:
    with pytest.raises(InputError, match=r"float32 only.* Set embed\.runtime to torch"):
        load_encoder(small_card(Pooled), "cpu", "bfloat16", "onnxruntime")


def test_auto_is_onnxruntime_only_where_it_can_run() -> None:
    exportable, other = small_card(Pooled), small_card(Pooled, exportable=False)
    assert exportable.runtime("auto", "cpu", "float32") == "onnxruntime"
    assert exportable.runtime("auto", "cuda", "float32") == "torch"
    assert exportable.runtime("auto", "cpu", "bfloat16") == "torch"
    assert other.runtime("auto", "cpu", "float32") == "torch"
    with pytest.raises(InputError, match="runs no such network"):
        other.runtime("onnxruntime", "cpu", "float32")
    with pytest.raises(InputError, match="on a CPU only"):
        exportable.runtime("openvino", "cuda", "float32")


def test_openvino_gives_the_tokens_of_pytorch() -> None:
    pytest.importorskip("openvino", reason="needs the extra `openvino`")
    card = small_card(Pooled)
    np.testing.assert_allclose(load_encoder(card, runtime="openvino")(TILES), card.load()(TILES), atol=2e-3)
    coarse = load_encoder(card, "cpu", "bfloat16", "openvino")(TILES)
    np.testing.assert_allclose(coarse, card.load()(TILES), atol=0.05)


def test_a_packed_model_lists_what_its_runtime_needs() -> None:
    def named(runtime: str) -> set[str]:
        return {Requirement(text).name for text in requirements("efficientnet_lite0", runtime)}

    assert named("auto") - named("torch") == {"onnx", "onnxruntime"}
    assert named("openvino") - named("torch") == {"onnx", "openvino"}


def test_the_bound_is_on_the_least_alike_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TileEncoderRunner(Pooled(), MEAN, STD, 32)
    exported = export_encoder(encoder, "small", "weights", "onnxruntime", "float32")
    assert exported.cosine > 0.99999
    assert exported.max_error < 2e-3
    monkeypatch.setitem(runtimes._MIN_COSINE, "float32", 1.1)
    with pytest.raises(InputError, match=r"embed\.runtime"):
        export_encoder(encoder, "small", "weights", "onnxruntime", "float32")
    assert replace(small_card(Pooled), exportable=False).runtime_requirements("auto") == ()
