"""Progress in a log: a line now and then, none for short work."""

import logging

import pytest

from dml.core import progress as module
from dml.core.progress import progress


def test_short_work_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress("embedding", 3, "tiles") as advance:
        advance(3)
    assert caplog.text == ""


def test_long_work_says_how_far_it_is(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0, 25.0, 40.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO), progress("embedding", 100, "tiles", done=20) as advance:
        for _ in range(4):
            advance(10)
    assert [record.message for record in caplog.records] == [
        "embedding: 40 of 100 tiles, 1.0/s, 60 s left",
        "embedding: 60 of 100 tiles, 1.0/s, 40 s left",
    ]


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    with progress("embedding", 4, "tiles") as advance:
        advance(4)
    shown = capsys.readouterr().err
    assert "embedding" in shown
    assert "4/4" in shown
