"""The fold models that a user names: a folder of them, or a registered version."""

from pathlib import Path

from dml.core.errors import InputError


def model_folder(model: str) -> Path:
    """Return the folder of the fold models.

    Raises
    ------
    InputError
        If there is none.
    """
    if Path(model).is_dir():
        return Path(model)
    if "@" not in model and not model.rpartition("/")[2].isdigit():
        raise InputError(
            model, "neither a folder nor a registered model", "Give models/<cohort>/<task>/<model>, or <name>@<alias>"
        )
    from dml.registry.packaged_code import download
    from dml.registry.versions import resolve

    return download(resolve(model)) / "artifacts" / "folds"
