"""An adapter as files: the low-rank changes, and the description of the encoder that they make."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from torch import Tensor

from dml.core.files import atomic


def write_adapter(
    folder: Path, name: str, base: str, changes: Mapping[str, Tensor], cohort: str,
    seen: Mapping[str, Sequence[str]], settings: Mapping[str, float | int | str],
) -> Path:  # fmt: skip
    """Write ``<name>.safetensors`` and ``<name>.yaml``.

    Parameters
    ----------
    folder : Path
        ``encoders``.
    name, base : str
        Of the adapted encoder, and of the one that is adapted.
    changes : mapping
        As `train_adapter` returns them.
    cohort : str
        Whose spots were trained on.
    seen : mapping
        ``patients`` and ``sections`` that the adapter has seen.
    settings : mapping
        How it was trained.

    Returns
    -------
    Path
        The description.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    weights, description = folder / f"{name}.safetensors", folder / f"{name}.yaml"
    with atomic(weights) as path:
        path.write_bytes(save({key: tensor.contiguous() for key, tensor in changes.items()}))
    content = {
        "base": base,
        "adapter": weights.name,
        "trained_on": {"cohort": cohort, **{key: sorted(set(ids)) for key, ids in seen.items()}},
        "settings": dict(settings),
    }
    with atomic(description) as path:
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    return description
