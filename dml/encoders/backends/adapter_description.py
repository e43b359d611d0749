"""The description of an encoder with an adapter: ``encoders/<name>.yaml``, as `dml adapt` writes it.

For example::

base: efficientnet_lite0
adapter: efficientnet_lite0_her2st.safetensors   # beside this file
trained_on: {cohort: her2st, patients: [her2st_C], sections: [C2, C3, C4]}
"""

from pathlib import Path

from pydantic import Field

from dml.config.base import Section, parse
from dml.core.yaml_files import read_yaml


class TrainedOn(Section):
    """Whose tiles and expression an adapter has seen: they may train a model, and never test it."""

    cohort: str
    patients: tuple[str, ...] = Field(min_length=1)
    sections: tuple[str, ...] = Field(min_length=1)


class AdaptedEncoder(Section):
    """What ``encoders/<name>.yaml`` says of an adapted encoder."""

    base: str
    adapter: str
    trained_on: TrainedOn
    settings: dict[str, float | int | str] = Field(default_factory=dict, description="how it was trained")


def read_adapted_encoder(path: Path) -> AdaptedEncoder | None:
    """Read a description; None if there is none, or it is not of an adapted encoder."""
    if not path.exists():
        return None
    content = read_yaml(path)
    if not isinstance(content, dict) or "base" not in content:
        return None
    spec: AdaptedEncoder = parse(AdaptedEncoder, content, str(path))
    return spec
