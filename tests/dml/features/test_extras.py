"""The extras of encoders install beside the pins as the documentation says, and what they are for works then."""

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment over this one, with the extras of encoders installed under the pins."""
    folder = tmp_path_factory.mktemp("overlay")
    venv.create(folder, with_pip=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "below.pth").write_text("\n".join(here))
    wanted = [
        package for name in ("timm", "transformers", "onnx", "openvino", "ome", "h5ad") for package in EXTRAS[name]
    ]
    run(folder, "-m", "pip", "install", "--quiet", *wanted, "-c", str(ROOT / "constraints.txt"))
    return folder


def run(overlay: Path, *arguments: str) -> str:
    done = subprocess.run(
        [overlay / "bin/python", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.network
def test_the_pinned_torch_stays(overlay: Path) -> None:
    code = "import torch; print(torch.__version__, torch.__file__)"
    installed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert run(overlay, "-c", code) == installed


@pytest.mark.slow
@pytest.mark.network
def test_encoders_of_every_extra_run(overlay: Path) -> None:
    """Tiny random networks of timm and transformers from a local folder, TorchScript and ONNX, none skipped."""
    output = run(overlay, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/dml/encoders/test_backends.py")
    assert "SKIPPED" not in output


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("tests", ["tests/dml/readers/expression/test_h5ad.py", "tests/dml/encoders/test_runtimes.py"])
def test_h5ad_and_runtimes_of_encoders_run(overlay: Path, tests: str) -> None:
    """Files that anndata itself writes, of today's and of its oldest kind; OpenVINO beside ONNX Runtime."""
    output = run(overlay, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", tests)
    assert "SKIPPED" not in output
