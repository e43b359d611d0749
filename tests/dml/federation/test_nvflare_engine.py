"""NVIDIA FLARE carries the same messages: its simulator trains the same weights, bit by bit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dml.config.params import Params
from dml.core.types import SURVIVAL
from dml.federation.coordinator import FederationSettings, weights_of
from dml.federation.federated_result import train_across
from dml.federation.local_sites import LocalSites
from dml.training.checkpoint import FoldModel
from tests.dml.federation.test_federation import SIZES, settings, sites

__all__ = ["settings", "sites"]
pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
SCRIPT = """
import sys
from pathlib import Path
from dml.config.params import Params
from dml.federation.coordinator import FederationSettings
from dml.federation.nvflare_engine import simulate

if __name__ == "__main__":
    params = Params.model_validate_json(Path("params.json").read_text())
    folders = {name: Path("data") / name for name in sys.argv[1:]}
    simulate(params, "survival", FederationSettings(rounds=2), ["teacher"], folders, Path("flare"))
"""


@pytest.mark.slow
def test_the_simulator_trains_what_local_sites_train(
    sites: LocalSites, settings: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = train_across(sites, settings, SURVIVAL, FederationSettings(rounds=2), ["teacher"])
    Path("params.json").write_text(settings.model_dump_json())
    Path("run.py").write_text(SCRIPT)
    process = subprocess.run(
        [sys.executable, "run.py", *SIZES], env=os.environ, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr[-2000:]
    for fold in (0, 1):
        trained = weights_of(FoldModel.load(Path(f"flare/models/network/survival/teacher/fold-{fold}")))
        expected = weights_of(local.models["teacher"][fold])
        assert all(np.array_equal(trained[name], expected[name]) for name in expected)


def test_messages_survive_the_way_through_flare() -> None:
    from dml.federation.messages import Message, number
    from dml.federation.nvflare_engine import allowed_classes, from_flare, to_flare

    message = Message({"x": np.arange(3.0), "n": number(2)}, {"genes": ["A", "B"], "none": []})
    returned = from_flare(to_flare(message))
    assert returned.texts == message.texts
    assert all(np.array_equal(returned.arrays[name], array) for name, array in message.arrays.items())
    assert "dml.federation.nvflare_engine.SiteExecutor" in allowed_classes()
