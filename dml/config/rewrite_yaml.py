"""Change values of a YAML file: comments and layout stay, the result is validated first, the change is a diff."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dml.config.base import section_in
from dml.config.params import Params, parse
from dml.core.errors import ConfigError
from dml.core.files import atomic
from dml.core.yaml_files import read_yaml


def rewrite(
    path: Path, changes: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]], name: str, what: str
) -> str:
    """Write new values into params.yaml.

    Parameters
    ----------
    path : Path
        params.yaml.
    changes : callable
        Takes the present content and returns mappings of sections to values, applied one after the other; a section
        keeps its other keys.
    name : str
        Name of the new version in the diff.
    what : str
        Source of the values, for the message if they are not valid.

    Returns
    -------
    str
        A unified diff, empty if nothing changed.

    Raises
    ------
    ConfigError
        If there is no such file or it would not be valid with the new values; nothing is written then.
    """

    def edit(content: Any) -> None:
        for overrides in changes(content):
            _override(content, overrides, Params)
        parse(Params, to_plain(content), f"{path} with {what}")

    return edit_yaml(path, edit, name)


def edit_yaml(path: Path, edit: Callable[[Any], None], name: str) -> str:
    """Apply `edit` to the content of a YAML file and write it; returns a unified diff, empty if nothing changed.

    Raises
    ------
    ConfigError
        If there is no such file or it is not a mapping; `edit` may raise its own, and nothing is written then.
    """
    from ruamel.yaml.error import YAMLError

    yaml, before = _yaml(), _read_text(path)
    read_yaml(path)  # its rules count here, too: no aliases, no repeated keys, no endless nesting
    try:
        content = yaml.load(before)
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {type(content).__name__}")
    original = to_plain(content)
    try:
        edit(content)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: a section or list is not what it must be ({error})") from error
    if to_plain(content) == original:
        return ""
    with atomic(path) as temporary:
        with temporary.open("w") as handle:
            yaml.dump(content, handle)
        after = temporary.read_text()
    changed = difflib.unified_diff(before.splitlines(True), after.splitlines(True), str(path), f"{path} ({name})", n=0)
    return "".join(changed)


def to_plain(content: Any) -> Any:
    """Convert what ruamel.yaml loaded to dict, list and scalars."""
    if isinstance(content, Mapping):
        return {str(key): to_plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [to_plain(value) for value in content]
    return content


def to_flow(value: Any) -> Any:
    """Convert lists and mappings to what is dumped on one line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(value, list):
        sequence = CommentedSeq([to_flow(item) for item in value])
        sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, Mapping):
        mapping = CommentedMap({key: to_flow(item) for key, item in value.items()})
        mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, float) and "e" in repr(value) and "." not in repr(value):
        return YAML().load(repr(value).replace("e", ".0e"))  # 1e-05 without a point is text to many readers of YAML
    return value


def _yaml() -> Any:
    """Return a reader and writer that keeps the lines that nobody changes."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):
        """Writes None as null, not as nothing."""

    Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = 4096  # long lines stay one line
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise ConfigError(f"{path}: the file does not exist. Run from the root of the repository") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _override(content: Any, overrides: Mapping[str, Any], kind: type[BaseModel]) -> None:
    """Set values; sections keep their other keys, anything else is replaced as a whole."""
    for key, value in overrides.items():
        field = kind.model_fields.get(key)
        section = section_in(field.annotation) if field is not None else None
        is_section = section is not None and isinstance(field and field.get_default(call_default_factory=True), section)
        if section is not None and is_section and isinstance(value, Mapping) and isinstance(content.get(key), Mapping):
            _override(content[key], value, section)
        elif to_plain(content.get(key)) != value:
            content[key] = to_flow(value)
