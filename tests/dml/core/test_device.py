"""A device by name with a clear error, and the number of threads, restored."""

import pytest
import torch

from dml.core.device import resolve_device, torch_threads
from dml.core.errors import ConfigError


def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_an_error_that_names_the_parameter(name: str) -> None:
    with pytest.raises(ConfigError, match=f"embed.device: {name} is asked for, but PyTorch sees no CUDA device"):
        resolve_device(name, "embed.device")


@pytest.mark.parametrize("name", ["gpu", "mps", "meta", ""])
def test_an_unknown_name_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"optimisation\.device: '{name}' is no device to compute on here; allowed"):
        resolve_device(name)


def test_threads_are_restored_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    with pytest.raises(KeyError), torch_threads(1):
        raise KeyError
    assert torch.get_num_threads() == before
