"""Encoders behind extras: weights that are there, absent or broken, and networks checked with small stand-ins."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from dml.core.errors import ConfigError, InputError
from dml.encoders.backends import weights as weights_module
from dml.encoders.backends.tile_encoder import resize_tiles
from dml.encoders.backends.timm_network import TimmNetwork, TokenOf, timm_card
from dml.encoders.backends.torchvision_operators import declare_operators
from dml.encoders.backends.weights import Weights
from dml.encoders.card import TileEncoder
from dml.encoders.registry import get, names
from tests.painted import tissue_pixels

TIMM = ("resnet50", "uni", "uni2_h", "virchow2", "h_optimus_0", "prov_gigapath")
TILES = np.stack([tissue_pixels(64, 64, seed=i, cover=1.4) for i in range(3)])


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(weights_module.VARIABLE, raising=False)
    monkeypatch.setattr(weights_module, "_find_in_cache", lambda *_: None)
    return tmp_path


def test_all_are_registered_with_licence_and_gate() -> None:
    assert {*TIMM, "phikon", "phikon_v2", "conch"} <= set(names())
    gated = {name for name in names() if get(name).gated}
    assert gated == {"uni", "uni2_h", "virchow2", "h_optimus_0", "prov_gigapath", "conch"}
    assert {name: get(name).width for name in TIMM} == {
        "resnet50": 1024, "uni": 1024, "uni2_h": 1536, "virchow2": 2560, "h_optimus_0": 1536, "prov_gigapath": 1536
    }  # fmt: skip


def test_absent_weights_say_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as error:
        get("uni").weights_hash()
    assert str(error.value) == (
        "encoder uni: no model.safetensors or pytorch_model.bin in data/weights/uni. They are MahmoodLab/UNI on the "
        "Hugging Face Hub. These weights are gated: ask for access on that page and log in (hf auth login), then run: "
        "hf download MahmoodLab/UNI --local-dir data/weights/uni; or copy them there"
    )
    monkeypatch.setenv("DML_WEIGHTS", "/models")
    with pytest.raises(InputError, match=r"in /models/phikon and data/weights/phikon\. .* Run: hf download owkin"):
        get("phikon").weights_hash()


def test_weights_are_found_and_their_content_counts(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Weights("mine", "a/b")
    (repository / "data/weights/mine").mkdir(parents=True)
    torch.save({"w": torch.ones(2)}, repository / "data/weights/mine/pytorch_model.bin")
    assert own.state()["w"].tolist() == [1.0, 1.0]
    first = own.fingerprint()
    monkeypatch.setenv("DML_WEIGHTS", str(repository / "other"))
    (repository / "other/mine").mkdir(parents=True)
    save_file({"w": torch.zeros(2)}, repository / "other/mine/model.safetensors")
    assert own.state()["w"].tolist() == [0.0, 0.0], "the variable comes first"
    assert own.fingerprint() != first


def load(name: str) -> TileEncoder:
    """Load an encoder whose stand-in has another width than its card, so without the trial tile."""
    load_with = get(name).load_with
    assert load_with is not None
    return load_with("cpu", "float32")


class Small(nn.Module):
    """Stands for a vision transformer: a class token, `registers` and four patch tokens of width `d`."""

    def __init__(self, d: int, registers: int = 0) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, d, 112, stride=112)
        self.first = nn.Parameter(torch.zeros(1 + registers, d))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.first.expand(len(x), -1, -1), patches], dim=1)


def fake_timm(monkeypatch: pytest.MonkeyPatch, network: nn.Module) -> list[tuple[str, dict[str, object]]]:
    asked: list[tuple[str, dict[str, object]]] = []

    def create_model(name: str, **options: object) -> nn.Module:
        asked.append((name, options))
        return network

    timm, layers = ModuleType("timm"), ModuleType("timm.layers")
    layers.SwiGLUPacked = type("SwiGLUPacked", (), {})
    timm.create_model, timm.layers = create_model, layers
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.layers", layers)
    return asked


def test_virchow2_puts_the_class_token_beside_the_mean_patch(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Small(16, registers=4).requires_grad_(False)
    asked = fake_timm(monkeypatch, network)
    folder = repository / "data/weights/virchow2"
    folder.mkdir(parents=True)
    trained = {"patch.weight": torch.randn(16, 3, 112, 112) / 100, "patch.bias": torch.zeros(16)}
    save_file({**trained, "first": torch.randn(5, 16), "head.unused": torch.ones(1)}, folder / "model.safetensors")
    tokens = load("virchow2")(TILES)
    name, options = asked[0]
    assert name == "vit_huge_patch14_224"
    assert (options["pretrained"], options["reg_tokens"], options["act_layer"]) == (False, 4, nn.SiLU)
    assert options["mlp_layer"].__name__ == "SwiGLUPacked"
    assert tokens.shape == (3, 32)
    np.testing.assert_allclose(tokens[0, :16], network.first[0].half().numpy(), rtol=1e-3)
    with torch.inference_mode():
        pixels = torch.from_numpy(resize_tiles(TILES[:1], 224)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (get("virchow2").mean, get("virchow2").std))
        expected = network.patch((pixels - mean) / std).flatten(2).mean(dim=2)[0]
    np.testing.assert_allclose(tokens[0, 16:], expected.numpy(), atol=2e-3)


def test_weights_of_another_network_are_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_timm(monkeypatch, Small(8))
    (repository / "data/weights/uni").mkdir(parents=True)
    save_file({"first": torch.zeros(1, 8)}, repository / "data/weights/uni/model.safetensors")
    with pytest.raises(InputError, match=r"not the weights of this network: 2 tensors are missing \(patch\.bias"):
        get("uni").load()


@pytest.mark.parametrize("failure", [ImportError("No module named 'timm'"), RuntimeError("operator does not exist")])
def test_a_missing_package_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    class Refuses:
        def find_spec(self, name: str, *_: object) -> None:
            if name.startswith("timm"):
                raise failure

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refuses(), *sys.meta_path])
    with pytest.raises(InputError, match=r"encoder uni: it needs the package timm, .*pip install -e '\.\[timm\]'"):
        get("uni").load()


def test_a_network_of_timm_from_a_local_folder(repository: Path) -> None:
    declare_operators()
    timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")
    options = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 0}
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", **options).eval()
    (repository / "data/weights/tiny").mkdir(parents=True)
    save_file(network.state_dict(), repository / "data/weights/tiny/model.safetensors")
    tiny = TimmNetwork("vit_tiny_patch16_224", options)
    card = timm_card(Weights("tiny", "a/b"), tiny, width=16, licence="none", paper="none", input_px=32)
    tokens = card.load()(TILES)
    with torch.inference_mode():
        pixels = torch.from_numpy(resize_tiles(TILES, 32)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (card.mean, card.std))
        expected = network((pixels - mean) / std).numpy()
    np.testing.assert_allclose(tokens, expected, atol=2e-3)
    assert card.requirements == ("timm", "safetensors")


def test_a_feature_map_is_averaged() -> None:
    output = TokenOf(nn.Conv2d(3, 5, 1), "map")(torch.ones(2, 3, 4, 4))
    assert output.shape == (2, 5)
    assert torch.allclose(output[0], output[1])


def test_phikon_takes_the_class_token(repository: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra `transformers` is not installed")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=224, patch_size=32
    )
    torch.manual_seed(0)
    network = transformers.ViTModel(config, add_pooling_layer=False).eval()
    network.save_pretrained(repository / "data/weights/phikon")
    tokens = load("phikon")(TILES)
    assert tokens.shape == (3, 32)
    again = load("phikon")(TILES[1:2])
    np.testing.assert_array_equal(tokens[1], again[0])
    (repository / "data/weights/phikon/config.json").write_text(json.dumps({"model_type": "none"}))
    with pytest.raises(InputError, match="not a model of transformers"):
        get("phikon").load()


def spoil_partly(path: Path) -> None:
    save_file({"w": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])


def spoil_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n")


def spoil_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><title>401</title>")


def spoil_nothing(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_partly, r"not readable weights, 500 bytes: in part downloaded.*Fetch MahmoodLab/UNI again"),
        (spoil_pointer, r"a pointer of Git LFS \(\d+ bytes\), not the file it stands for.*hf download"),
        (spoil_page, r"a page of a web site, not weights"),
        (spoil_nothing, r"the file is empty"),
    ],
)
def test_weights_that_are_none_are_named(
    repository: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], message: str
) -> None:
    fake_timm(monkeypatch, Small(8))
    (repository / "data/weights/uni").mkdir(parents=True)
    spoil(repository / "data/weights/uni/model.safetensors")
    with pytest.raises(InputError, match=rf"model\.safetensors: {message}"):
        get("uni").load()


def test_a_pickled_module_is_not_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_timm(monkeypatch, Small(8))
    (repository / "data/weights/uni").mkdir(parents=True)
    torch.save(Small(8), repository / "data/weights/uni/pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin: not readable weights.*or pickled"):
        get("uni").load()
    torch.save(Small(8), repository / "mine.pt")
    describe(repository, "mine.pt")
    with pytest.raises(InputError, match=r"mine\.pt: a pickled PyTorch module.*torch\.jit\.trace"):
        get("mine").load()


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean(dim=(2, 3)), x


class Fixed(nn.Module):
    """A network for 224 pixels only."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 224 * 224, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))


class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)) / 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (
            Pair(),
            {},
            r"fails on a tile of 32 x 32 pixels \(it returns a tuple of 2, not one tensor\)\. Correct input_px",
        ),
        (Fixed(), {"input_px": 256}, r"fails on a tile of 256 x 256 pixels \(.*shapes cannot be multiplied"),
        (
            Fixed(),
            {"input_px": 224, "width": 5},
            r"gives an array of shape \(1, 4\), not \(1, 5\)\. Correct input_px and width",
        ),
        (Nothing(), {"width": 3}, r"gives NaN or infinite numbers"),
    ],
)
def test_a_trial_tile_comes_before_the_first_slide(
    repository: Path, network: nn.Module, changes: dict[str, object], message: str
) -> None:
    torch.jit.script(network.eval()).save(repository / "mine.pt")
    describe(repository, "mine.pt", **changes)
    with pytest.raises(InputError, match=rf"encoder mine \(encoders/mine\.yaml, mine\.pt\): .*{message}"):
        get("mine").load()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_file_beside_its_description_is_enough(repository: Path) -> None:
    describe(repository, "mine.pt")
    torch.jit.trace(Mean(), torch.zeros(1, 3, 32, 32)).save(repository / "encoders/mine.pt")
    np.testing.assert_allclose(get("mine").load()(TILES), expected_means(), rtol=2e-3, atol=2e-3)


def describe(repository: Path, file: str, **changes: object) -> None:
    (repository / "encoders").mkdir(exist_ok=True)
    content = {"file": file, "width": 4, "mpp": 0.5, "input_px": 32, "licence": "ours", "paper": "none", **changes}
    (repository / "encoders/mine.yaml").write_text(yaml.safe_dump(content))


class Mean(nn.Module):
    """Four numbers a tile that can be checked by hand."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(1, 2, 3)).unsqueeze(1)], dim=1)


def expected_means() -> np.ndarray:
    pixels = (resize_tiles(TILES, 32) / 255 - get("mine").mean) / get("mine").std
    return np.concatenate([pixels.mean(axis=(1, 2)), pixels.max(axis=(1, 2, 3))[:, None]], axis=1)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_file(repository: Path) -> None:
    torch.jit.trace(Mean(), torch.zeros(1, 3, 32, 32)).save(repository / "mine.pt")
    describe(repository, "mine.pt")
    assert "mine" in names()
    card = get("mine")
    np.testing.assert_allclose(card.load()(TILES), expected_means(), rtol=2e-3, atol=2e-3)
    before = card.weights_hash()
    (repository / "mine.pt").write_bytes(b"no")
    assert get("mine").weights_hash() != before
    with pytest.raises(InputError, match=r"mine\.pt: not a TorchScript file"):
        get("mine").load()


def test_an_onnx_file(repository: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the package onnx, which writes the test's file, is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"]),
        helper.make_node("Flatten", ["m"], ["means"]),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("ReduceMax", ["flat", "one"], ["top"], keepdims=1),
        helper.make_node("Concat", ["means", "top"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "mean", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 4])],
        [helper.make_tensor("one", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, repository / "mine.onnx")
    describe(repository, "mine.onnx")
    run = get("mine").load()
    np.testing.assert_allclose(run(TILES), expected_means(), rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(run(TILES)[1], run(TILES[1:2])[0])
    (repository / "mine.onnx").write_bytes(b"no")
    with pytest.raises(InputError, match=r"mine\.onnx: not an ONNX file"):
        get("mine").load()


def test_a_description_that_is_wrong(repository: Path) -> None:
    describe(repository, "mine.pkl")
    with pytest.raises(ConfigError, match=r"encoders/mine\.yaml: file: mine\.pkl must end in \.pt, \.ts, \.onnx"):
        get("mine")
    describe(repository, "mine.onnx", size=3)
    with pytest.raises(ConfigError, match=r"size: unknown key; allowed here: .*input_px"):
        get("mine")
    describe(repository, "mine.pt")
    with pytest.raises(InputError, match=r"mine\.pt: the file does not exist"):
        get("mine").load()
