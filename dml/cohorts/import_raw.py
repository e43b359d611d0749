"""Bring a cohort's raw files into the repository's data folder, and make it the current cohort."""

import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dml.cohorts.description import CohortDescription
from dml.cohorts.merge_cohorts import OPTIONAL, STORES
from dml.config.params import Params, Section
from dml.config.rewrite_yaml import rewrite
from dml.core.cache import hardlink
from dml.core.errors import ConfigError, InputError
from dml.core.files import atomic

logger = logging.getLogger(__name__)

DATA = Path("data")


def import_cohort(name: str, source: Path | None, cohorts: Path = Path("cohorts"), data: Path = DATA) -> list[Path]:
    """Copy the files that a description lists under `import` from `source` into its raw folder.

    Every file is checked to be there before the first is copied; each copy appears under its name only when complete;
    a file that is there already with the same content is left alone, so a second run does nothing. For a cohort that
    `combines` others the files are the stores of these, linked from ``data/<part>`` as they are now.

    Returns
    -------
    list of Path
        The files of the raw folder that were written now.

    Raises
    ------
    ConfigError
        If there is no such cohort or it imports nothing.
    InputError
        If `source`, one of the files, or a part does not exist, or cannot be copied (disk full, no permission).
    """
    description = CohortDescription.load(name, cohorts)
    if description.combines:
        written = _link_parts(description, data)
    else:
        written = _copy_pairs(description, source, cohorts / f"{name}.yaml")
    logger.info("%s: %d files brought to %s", name, len(written), description.raw_folder)
    return written


def use_cohort(name: str, params: Path = Path("params.yaml"), cohorts: Path = Path("cohorts")) -> str:
    """Make a cohort the current one: write its name and the overrides of its description into params.yaml.

    Comments and layout stay. What the cohort used so far had set, and this one does not, goes back to its default
    (`tasks` and `folds` have none and stay).

    Returns
    -------
    str
        A unified diff of params.yaml, empty if nothing changed.

    Raises
    ------
    ConfigError
        If there is no such cohort, or params.yaml would not be valid with its overrides; nothing is written then.
    """
    description = CohortDescription.load(name, cohorts)

    def list_changes(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [_defaults(_previous_params(content, name, cohorts)), {"cohort": name, **description.params}]

    return rewrite(params, list_changes, name, f"the params of {cohorts / name}.yaml")


def _copy_pairs(description: CohortDescription, source: Path | None, yaml: Path) -> list[Path]:
    if not description.imports:
        raise ConfigError(f"{yaml}: import: lists no files; put them into {description.raw_folder} yourself")
    if source is None:
        raise ConfigError(f"{yaml}: import: name the folder of its {len(description.imports)} files with --source")
    if not source.is_dir():
        raise InputError(source, "the folder does not exist", "Give the folder with the cohort's files as --source")
    absent = [item.source for item in description.imports if not (source / item.source).exists()]
    if absent:
        raise InputError(
            source, f"not there: {', '.join(absent)}", "Fetch them, or correct `import` in the description"
        )
    written = []
    for item in description.imports:
        for origin, target in _pairs(source / item.source, description.raw_folder / item.target):
            if not _has_same_content(origin, target):
                _copy(origin, target)
                written.append(target)
    return written


def _link_parts(description: CohortDescription, data: Path) -> list[Path]:
    """Link the stores of the parts; remove what a part no longer has."""
    for part in description.combines:
        absent = [name for name in (*STORES, "features/manifest.parquet") if not (data / part / name).exists()]
        if absent:
            remedy = f"Build this cohort first: dml cohort use {part}, dvc repro split"
            raise InputError(data / part, f"not there: {', '.join(absent)}", remedy)
    written, current = [], set()
    for part in description.combines:
        optional = [name for name in OPTIONAL if (data / part / name).exists()]
        for store in (*STORES, *optional, "features"):
            for origin, target in _pairs(data / part / store, description.raw_folder / part / store):
                current.add(target)
                if not _has_same_content(origin, target):
                    hardlink(origin, target)
                    written.append(target)
        for file in [p for p in (description.raw_folder / part / "features").rglob("*") if p.is_file()]:
            if file not in current:
                file.unlink()
    return written


def _previous_params(content: Any, name: str, cohorts: Path) -> Mapping[str, Any]:
    """Return what the description of the cohort used so far had set."""
    previous = content.get("cohort", name)
    described = previous != name and (cohorts / f"{previous}.yaml").exists()
    return CohortDescription.load(previous, cohorts).params if described else {}


def _defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """Replace each value by its default; what has none is left out."""
    defaults: dict[str, Any] = {}
    for key, value in params.items():
        field = Params.model_fields.get(key)
        default = None if field is None else field.get_default(call_default_factory=True)
        if isinstance(default, Section) and isinstance(value, Mapping):
            values = default.model_dump(mode="json")
            defaults[key] = {name: values[name] for name in value if name in values}
    return defaults


def _pairs(origin: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    if origin.is_file():
        yield origin, target
        return
    for file in sorted(p for p in origin.rglob("*") if p.is_file()):
        yield file, target / file.relative_to(origin)


def _has_same_content(origin: Path, target: Path) -> bool:
    """Compare content, a block at a time."""
    if target.is_file() and origin.samefile(target):
        return True
    if not target.is_file() or origin.stat().st_size != target.stat().st_size:
        return False
    with origin.open("rb") as first, target.open("rb") as second:
        while block := first.read(1 << 20):
            if block != second.read(1 << 20):
                return False
    return True


def _copy(origin: Path, target: Path) -> None:
    try:
        with atomic(target) as temporary:
            shutil.copyfile(origin, temporary)
    except OSError as error:
        raise InputError(
            origin, f"cannot be copied to {target} ({error.strerror})", "Make room or check permissions"
        ) from None
