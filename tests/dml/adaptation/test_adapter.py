"""Adapters: no change before training, the same when merged, trained on training spots alone."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import nn

from dml.adaptation.evaluate_adapter import draw_blocks, leave_sections_out, stack_programs
from dml.adaptation.expression_programs import group_score, log_counts, make_programs
from dml.adaptation.spot_tiles import SpotTiles, read_spot_tiles
from dml.adaptation.train_adapter import AdapterSettings, TrainableTail, train_adapter
from dml.adaptation.write_adapter import write_adapter
from dml.checks.adapter_check import check_adapter
from dml.cohorts.spot_store import SpotTable
from dml.core.errors import CheckFailed, ConfigError, InputError
from dml.core.types import GeneGroups
from dml.encoders import registry
from dml.encoders.backends.low_rank import attach, changeable_layers, changes_of, merge
from dml.encoders.backends.tile_encoder import TileEncoderRunner
from dml.encoders.card import EncoderCard
from tests.painted import tissue_pixels, write_slide

GENES = tuple(f"G{i}" for i in range(12))
GROUPS = GeneGroups(GENES[:4], GENES[4:8])
SETTINGS = AdapterSettings(rank=2, layers=1, epochs=30, batch_size=16, learning_rate=0.02, views=2)


class Mean(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean(dim=(2, 3))


def blind_network() -> nn.Sequential:
    """Tokens of eight numbers that read the red channel only; the rest of the colour is behind a zero weight."""
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 1)
    with torch.no_grad():
        first.weight.copy_(torch.eye(3)[:, :, None, None])
        first.bias.zero_()  # type: ignore[union-attr]
        last.weight[:, 1:] = 0
    return nn.Sequential(first, last, nn.ReLU6(inplace=True), Mean()).eval()


def runner() -> TileEncoderRunner:
    return TileEncoderRunner(blind_network(), (0.5,) * 3, (0.25,) * 3)


def planted(spots: int = 40, seed: int = 0) -> SpotTiles:
    """Green tells the tumor genes, blue the TME genes; red is noise."""
    rng = np.random.default_rng(seed)
    factors = rng.uniform(-1, 1, (3 * spots, 2))
    colour = np.stack([rng.uniform(-1, 1, 3 * spots), factors[:, 0], factors[:, 1]], axis=1)
    noise = rng.normal(0, 8, (3 * spots, 16, 16, 3))
    tiles = (128 + 80 * colour[:, None, None] + noise).clip(0, 255).astype(np.uint8)
    load = np.zeros((2, len(GENES)))
    load[0, :4] = load[1, 4:8] = 1.0
    counts = rng.poisson(np.exp(3 + factors @ load)).astype(np.float32)
    frame = pd.DataFrame({"section_id": np.repeat(["A", "B", "C"], spots), "patient_id": "P"})
    frame["array_x"], frame["array_y"] = np.tile(np.arange(spots) % 8, 3), np.tile(np.arange(spots) // 8, 3)
    frame["region"] = np.where(factors[:, 0] > 0, "dense", "loose")
    return SpotTiles(frame, csr_matrix(counts), GENES, {0.5: tiles})


def test_an_attached_change_changes_nothing_before_it_is_trained() -> None:
    network, pixels = blind_network(), torch.rand(2, 3, 8, 8)
    before = network(pixels)
    trainable = attach(network, [name for name, _ in changeable_layers(network)], rank=2)
    assert torch.equal(network(pixels), before)
    assert [p for p in network.parameters() if p.requires_grad] == trainable
    network(pixels).square().sum().backward()
    assert all(change.grad is not None for change in trainable)


def test_a_merged_change_is_the_attached_one() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 5)).eval()
    plain, pixels = copy.deepcopy(network), torch.rand(2, 3, 4, 4)
    for change in attach(network, ["0", "3"], rank=2):
        nn.init.normal_(change)
    merge(plain, changes_of(network), "adapter")
    assert torch.allclose(plain(pixels), network(pixels), atol=1e-5)


@pytest.mark.parametrize("name", ["9", "0"])
def test_changes_of_another_network_are_refused(name: str) -> None:
    changes = {f"{name}.a": torch.zeros(2, 7), f"{name}.b": torch.zeros(4, 2)}
    with pytest.raises(InputError, match=rf"its change of '{name}' does not fit the network"):
        merge(nn.Sequential(nn.Conv2d(3, 4, 1)), changes, "adapter")


def test_programs_do_not_read_spots_that_are_left_out() -> None:
    spots = planted()
    logs, training = log_counts(spots.counts), np.arange(120) < 80
    first = make_programs(logs, GENES, GROUPS, training)
    changed = logs.copy()
    changed[~training] = changed[~training][::-1] + 5
    second = make_programs(changed, GENES, GROUPS, training)
    assert np.allclose(first.values[training], second.values[training])
    assert first.weights.sum() == pytest.approx(1)
    assert np.allclose(first.values[training].mean(axis=0), 0, atol=1e-9)
    assert np.allclose(first.values[training].std(axis=0), 1)


def test_counts_per_ten_thousand_by_hand() -> None:
    counts = csr_matrix(np.array([[1.0, 3.0], [0.0, 5.0]]))
    assert log_counts(counts) == pytest.approx(np.log1p([[2500, 7500], [0, 10000]]))


def test_a_group_of_few_measured_genes_has_no_score() -> None:
    logs = log_counts(planted().counts)
    with pytest.raises(InputError, match=r"2 of 3 genes of a group are measured and vary"):
        group_score(logs, GENES, ("G0", "G1", "ABSENT"), np.ones(len(logs), bool))


def test_an_adapter_lets_through_what_the_frozen_encoder_does_not_read() -> None:
    spots = planted()
    tail = TrainableTail(runner(), list(spots.tiles.values()), SETTINGS)
    table = leave_sections_out(spots, tail, GROUPS, 100.0, SETTINGS, resamples=200).set_index("target")
    for target in ("tumor genes", "tme genes", "region dense"):
        assert table.loc[target, "difference"] > 0.2
        assert table.loc[target, "ci_low"] > 0
    assert table.loc["region dense", "statistic"] == "auc"
    assert set(table["sections"]) == {3}


def test_the_contrastive_term_trains_too_and_the_seed_decides() -> None:
    spots = planted(20)
    settings = AdapterSettings(rank=2, layers=1, epochs=2, batch_size=16, contrastive_weight=1.0, views=1)
    tail = TrainableTail(runner(), list(spots.tiles.values()), settings)
    programs, rows = stack_programs(log_counts(spots.counts), spots, GROUPS, np.ones(60, bool))
    changes = [train_adapter(tail, programs, rows, settings)[1] for _ in range(2)]
    assert all(torch.equal(changes[0][name], changes[1][name]) for name in changes[0])
    without = AdapterSettings(rank=2, layers=1, epochs=2, batch_size=16, views=1)
    assert not torch.equal(train_adapter(tail, programs, rows, without)[1]["1.b"], changes[0]["1.b"])


def test_stains_of_all_views_but_the_first_are_changed_and_the_seed_decides() -> None:
    tiles = list(planted(4).tiles.values())
    plain = TrainableTail(runner(), tiles, SETTINGS).maps
    settings = replace(SETTINGS, stain_augmentation=0.1)
    changed, again = (TrainableTail(runner(), tiles, settings).maps for _ in range(2))
    assert torch.equal(changed[0], plain[0])
    assert not torch.equal(changed[1], plain[1])
    assert torch.equal(changed[1], again[1])
    other = TrainableTail(runner(), tiles, replace(settings, seed=8)).maps
    assert not torch.equal(changed[1], other[1])
    with pytest.raises(ConfigError, match="views must be 2 or more"):
        TrainableTail(runner(), tiles, replace(settings, views=1))


def test_tiles_of_spots_are_normalised_by_section(tmp_path: Path) -> None:
    pixels = tissue_pixels(256, 256, cover=1.2)
    drawn = {"A": pixels, "B": np.rint(255 * (pixels / 255.0) ** 2).astype(np.uint8)}
    slides = pd.DataFrame({"slide_id": list(drawn), "patient_id": "P", "section_id": list(drawn), "mpp": 0.5})
    slides["path"] = [str(write_slide(tmp_path / f"{name}.tif", image)) for name, image in drawn.items()]
    centres = [(x, y) for y in (64, 128, 192) for x in (64, 128, 192)]
    spots = pd.DataFrame({"section_id": np.repeat(list(drawn), 9), "patient_id": "P", "on_tissue": True})
    spots[["x_px", "y_px"]] = np.array(centres * 2, float)
    table = SpotTable(spots, csr_matrix(np.ones((18, 2))), ("G", "H"), 100.0, 55.0)
    plain, same = (read_spot_tiles(table, slides, (0.5,), 64, normalise).tiles[0.5] for normalise in (False, True))
    before, after = (np.abs(tiles[:9].astype(float) - tiles[9:]).mean() for tiles in (plain, same))
    assert before > 20
    assert after < before / 5


def test_blocks_of_spots_are_drawn_whole() -> None:
    spots = planted().spots.iloc[:40]
    weights = draw_blocks(spots, 500.0, 50, seed=1)
    block = list(zip(spots["array_x"] // 2, spots["array_y"] // 2, strict=True))
    assert (weights[0] == 1).all()
    for row in weights[1:]:
        assert all(len({row[i] for i in range(40) if block[i] == each}) == 1 for each in set(block))


@pytest.fixture
def adapted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An adapted encoder `mine` of a registered toy encoder `toy`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    card = EncoderCard("toy", 8, 0.5, None, (0.5,) * 3, (0.25,) * 3, "none", "none",
                       load_with=lambda device, precision: runner(), hash_with=lambda: "toy")  # fmt: skip
    monkeypatch.setitem(registry._registered, "toy", card)
    spots = planted(20)
    tail = TrainableTail(runner(), list(spots.tiles.values()), SETTINGS)
    programs, rows = stack_programs(log_counts(spots.counts), spots, GROUPS, np.ones(60, bool))
    _, changes = train_adapter(tail, programs, rows, SETTINGS)
    seen = {"patients": ["P"] * 3, "sections": ["A", "B", "C"]}
    return write_adapter(tmp_path / "encoders", "mine", "toy", changes, "c", seen, SETTINGS.to_dict())


def test_an_adapted_encoder_is_an_encoder_like_any_other(adapted: Path) -> None:
    card = registry.get("mine")
    assert card.trained_on == {"P", "A", "B", "C"}
    assert card.weights_hash() != registry.get("toy").weights_hash()
    tiles = planted(5).tiles[0.5]
    ours, base = card.load()(tiles), registry.get("toy").load()(tiles)
    assert ours.shape == base.shape
    assert np.abs(ours.astype(float) - base.astype(float)).max() > 0.05
    assert "mine" in registry.names()


def test_what_is_wrong_with_an_adapter_is_named(adapted: Path) -> None:
    adapted.with_suffix(".safetensors").unlink()
    with pytest.raises(InputError, match=r"mine\.safetensors: the file does not exist"):
        registry.get("mine").load()
    adapted.write_text(adapted.read_text().replace("base: toy", "base: mine"))
    with pytest.raises(ConfigError, match="cannot be its own base"):
        registry.get("mine")
    adapted.write_text(adapted.read_text().replace("base: mine", "base: hipt_4096"))
    with pytest.raises(ConfigError, match="hipt_4096 cannot encode tiles, so it cannot be adapted"):
        registry.get("mine")


def test_a_cohort_whose_expression_the_adapter_has_seen_cannot_be_tested_with_it(adapted: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path / "data", patients=["P", "Q"])
    with pytest.raises(CheckFailed, match=r"mine was adapted on the expression of P, which this cohort would test"):
        check_adapter(tmp_path / "data", adapted)
    write_cohort(tmp_path / "other", patients=["Q", "R"])
    check_adapter(tmp_path / "other", adapted)
    check_adapter(tmp_path / "data", adapted.with_name("none.yaml"))


def write_cohort(folder: Path, patients: list[str]) -> None:
    columns = {"patient_id": patients, "site": "x", "survival_days": 1.0, "event": True}
    folder.mkdir()
    pd.DataFrame(columns).to_parquet(folder / "patients.parquet")
    slides = {"slide_id": [f"{p}-1" for p in patients], "patient_id": patients, "path": None, "mpp": 0.5}
    pd.DataFrame(slides).to_parquet(folder / "slides.parquet")
