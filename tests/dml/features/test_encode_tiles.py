"""Many slides, many workers: same bits in the same order, errors kept to their slide."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dml.core.types import Mpp, TileGrid
from dml.encoders.registry import get
from dml.features.encode_tiles import EncodingJob, EncodingResult, encode_tiles
from dml.slides.reader import Slide
from tests.painted import ColourStatistics, tissue_pixels, with_a_hole, write_slide


def grid(n: int, tile_px: int = 64, mpp: float = 0.5) -> TileGrid:
    cells = np.array([(i % 4, i // 4) for i in range(n)], float)
    px = np.rint(cells * tile_px * mpp / 0.5).astype(np.int64)
    return TileGrid(px, (cells + 0.5) * tile_px * mpp, np.ones(n), tile_px, Mpp(mpp), Mpp(0.5))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[EncodingJob]:
    folder = tmp_path_factory.mktemp("slides")
    made = []
    for i, n in enumerate((11, 1, 16, 5)):
        path = write_slide(folder / f"{i}.tif", tissue_pixels(256, 256, seed=i, cover=1.2), levels=2)
        made += [
            EncodingJob(path.stem, path, grid(n)),
            EncodingJob(path.stem, path, grid(min(n, 4), mpp=1.0)),
        ]
    return made


def run(jobs: list[EncodingJob], workers: int, batch: int) -> list[EncodingResult]:
    return list(encode_tiles(jobs, ColourStatistics(), workers, batch))


def test_results_come_in_order_and_whole(jobs: list[EncodingJob]) -> None:
    results = run(jobs, workers=3, batch=4)
    assert [result.job for result in results] == jobs
    shapes = [result.tokens.shape for result in results if result.tokens is not None]
    assert shapes == [(len(job.grid.coords_px), 8) for job in jobs]


def test_tokens_are_those_of_the_tiles(jobs: list[EncodingJob]) -> None:
    job = jobs[0]
    tokens = run([job], workers=2, batch=3)[0].tokens
    pixels = tissue_pixels(256, 256, seed=0, cover=1.2)
    expected = [ColourStatistics()(pixels[None, y : y + 64, x : x + 64])[0] for x, y in job.grid.coords_px]
    np.testing.assert_array_equal(tokens, np.stack(expected))


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (2, 4), (5, 3), (2, 100)])
def test_any_number_of_workers_gives_the_same_bits(jobs: list[EncodingJob], workers: int, batch: int) -> None:
    encoder = get("efficientnet_lite0").load()
    few = [jobs[1], jobs[3], jobs[7]]
    reference = [result.tokens for result in encode_tiles(few, encoder, 1, 32)]
    result = [result.tokens for result in encode_tiles(few, encoder, workers, batch)]
    for one, other in zip(reference, result, strict=True):
        assert one is not None
        assert other is not None
        assert one.tobytes() == other.tobytes()


def test_a_damaged_slide_fails_alone(jobs: list[EncodingJob], tmp_path: Path) -> None:
    bad = with_a_hole(write_slide(tmp_path / "bad.tif", tissue_pixels(512, 256, cover=1.2), levels=2))
    mixed = [
        jobs[0],
        EncodingJob("bad", bad, grid(16, tile_px=100)),
        EncodingJob("gone", tmp_path / "gone.tif", grid(2)),
        jobs[2],
    ]
    results = run(mixed, workers=2, batch=2)
    assert [result.tokens is None for result in results] == [False, True, True, False]
    assert "bad.tif: truncated or damaged" in str(results[1].error)
    assert "gone.tif: the file does not exist" in str(results[2].error)


def test_handles_are_one_a_worker_and_closed(jobs: list[EncodingJob], monkeypatch: pytest.MonkeyPatch) -> None:
    users: dict[int, set[int]] = {}
    closed: list[int] = []
    read, close = Slide.read_tile, Slide.close

    def watched(self: Slide, *args: float) -> NDArray[np.uint8]:
        users.setdefault(id(self), set()).add(threading.get_ident())
        held.append(self)
        return read(self, *args)  # type: ignore[arg-type]

    def counted(self: Slide) -> None:
        closed.append(id(self))
        close(self)

    held: list[Slide] = []  # keeps every handle alive, so that ids stay unique
    monkeypatch.setattr(Slide, "read_tile", watched)
    monkeypatch.setattr(Slide, "close", counted)
    run(jobs, workers=3, batch=2)
    assert all(len(threads) == 1 for threads in users.values())
    assert sorted(closed) == sorted(users)


def test_progress_counts_every_tile(jobs: list[EncodingJob]) -> None:
    counted: list[int] = []
    list(encode_tiles(jobs, ColourStatistics(), 2, 4, counted.append))
    assert sum(counted) == sum(len(job.grid.coords_px) for job in jobs)


def test_jobs_are_taken_as_they_are_needed(jobs: list[EncodingJob]) -> None:
    taken: list[int] = []

    def many() -> Iterator[EncodingJob]:
        for i in range(200):
            taken.append(i)
            yield jobs[3]

    first = next(iter(results := encode_tiles(many(), ColourStatistics(), 2, 4)))
    assert first.tokens is not None
    assert len(taken) < 50
    results.close()  # type: ignore[attr-defined]


def test_an_error_of_the_encoder_is_not_hidden(jobs: list[EncodingJob]) -> None:
    def broken(tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(encode_tiles(jobs, broken, 2, 4))
