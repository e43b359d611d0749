"""Benchmarks: all register, results reach the page and the history, failures are reported. No test is timed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measurement, registry, results_page
from benchmarks.registry import Benchmark, Measurement

MACHINE = {"commit": "abc", "time": "2026-01-01 00:00", "load": "0.5", "torch": "2"}
RESULT = {
    "wall": 0.5,
    "cpu": 0.25,
    "product_wall": 0.05,
    "product_cpu": 0.05,
    "peak": 2e8,
    "figures": {"tiles/s": 1234.5},
}


def benchmark(name: str, **more: Any) -> Benchmark:
    return Benchmark(name, "group", lambda: Measurement(1.0, 1.0), **more)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{results_page.START}\n{results_page.END}\nafter\n")
    monkeypatch.setattr(results_page, "PAGE", page)
    monkeypatch.setattr(results_page, "HISTORY", tmp_path / "history.json")
    return page


def test_every_case_registers_and_names_are_unique() -> None:
    """In a process of its own: importing the cases must measure nothing and take no heavy module along."""
    code = "import sys; from benchmarks.registry import benchmarks; print(len(benchmarks()), 'mlflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=measurement.ROOT, capture_output=True, text=True, check=True
    )
    count, mlflow = done.stdout.split()
    assert int(count) > 30
    assert mlflow == "False"
    one = registry.register(benchmark("twice, in a test"))
    with pytest.raises(ValueError, match="two benchmarks are called 'twice, in a test'"):
        registry.register(one)


def test_a_row_has_times_units_memory_target_and_figures(page: Path) -> None:
    results_page.record([benchmark("a", seconds=0.2, gigabytes=0.5, reference="4.5 s")], {"a": RESULT}, MACHINE)
    lines = page.read_text().splitlines()
    assert "| benchmark | wall | CPU | products | memory | target | authors' code | figures |" in lines
    assert "| a | 500 ms | 250 ms | 5.00 | 0.20 GB | 0.2 s, 0.5 GB | 4.5 s | tiles/s 1,234 |" in lines
    assert (lines[0], lines[-1]) == ("before", "after")


def test_rows_not_run_this_time_stay_in_their_group_and_the_history_grows(page: Path) -> None:
    for names in (["a", "b"], ["b", "c"]):
        results_page.record([benchmark(name) for name in names], dict.fromkeys(names, RESULT), MACHINE)
    results_page.record([Benchmark("d", "other group", lambda: Measurement(1.0, 1.0))], {"d": RESULT}, MACHINE)
    lines = page.read_text().splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert rows == ["benchmark", "a", "b", "c", "benchmark", "d"]
    assert [line for line in lines if line.startswith("### ")] == ["### group", "### other group"]
    assert "target" not in page.read_text()  # no benchmark here has one
    runs = json.loads(results_page.HISTORY.read_text())
    names = [sorted(set(run) - {"time", "commit", "load"}) for run in runs]
    assert names == [["a", "b"], ["b", "c"], ["d"]]
    assert runs[0]["a"] == 5.0


def test_skipped_and_failed_benchmarks_give_their_reason(page: Path) -> None:
    results_page.record(
        [benchmark("a"), benchmark("b")], {"a": {"skipped": "no data"}, "b": {"failed": "boom"}}, MACHINE
    )
    assert "skipped: no data" in page.read_text()
    assert "failed: boom" in page.read_text()


def test_an_unknown_benchmark_fails_with_the_last_error_line() -> None:
    assert "KeyError" in measurement.run_in_process("no such benchmark")["failed"]


def test_the_peak_is_counted_from_its_reset() -> None:
    block = bytearray(b"x" * 50_000_000)
    del block
    start = measurement.reset_peak_bytes()
    assert measurement.read_peak_bytes() - start < 20_000_000
    block = bytearray(b"x" * 50_000_000)
    assert measurement.read_peak_bytes() - start > 40_000_000
    assert len(block) == 50_000_000
