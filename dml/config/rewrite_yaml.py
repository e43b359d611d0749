"""Change values of params.yaml: comments and layout stay, what results is checked first, the change is shown."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dml.config.params import Params, parse
from dml.core.errors import ConfigError
from dml.core.files import atomic


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
        What the new version is called in the diff.
    what : str
        What the values come from, for the message if they are not valid.

    Returns
    -------
    str
        A unified diff, empty if nothing changed.

    Raises
    ------
    ConfigError
        If there is no such file or it would not be valid with the new values; nothing is written then.
    """
    yaml, before = _yaml(), _text(path)
    content = yaml.load(before)
    for overrides in changes(content):
        _override(content, overrides)
    parse(Params, _plain(content), f"{path} with {what}")
    with atomic(path) as temporary:
        with temporary.open("w") as handle:
            yaml.dump(content, handle)
        after = temporary.read_text()
    changed = difflib.unified_diff(before.splitlines(True), after.splitlines(True), str(path), f"{path} ({name})", n=0)
    return "".join(changed)


def _yaml() -> Any:
    """Return a reader and writer that leaves the lines alone that nobody changes."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):
        """Writes what is not set as null, not as nothing."""

    Representer.add_representer(type(None), lambda own, _: own.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise ConfigError(f"{path}: the file does not exist. Run from the root of the repository") from None


def _override(content: Any, overrides: Mapping[str, Any]) -> None:
    """Set values; sections of params.yaml keep their other keys, anything else is replaced as a whole."""
    for key, value in overrides.items():
        section = isinstance(value, Mapping) and isinstance(content.get(key), Mapping)
        target, values = (content[key], value) if section else (content, {key: value})
        for name, new in values.items():
            if _plain(target.get(name)) != new:
                target[name] = _styled(new)


def _styled(value: Any) -> Any:
    """Keep lists and small mappings on one line, as they are in params.yaml."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(value, list):
        sequence = CommentedSeq([_styled(item) for item in value])
        sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, Mapping):
        mapping = CommentedMap({key: _styled(item) for key, item in value.items()})
        mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, float) and "e" in repr(value) and "." not in repr(value):
        return YAML().load(repr(value).replace("e", ".0e"))  # 1e-05 without a point is text to many readers of YAML
    return value


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    return content
