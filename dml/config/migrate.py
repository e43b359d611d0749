"""Rewrite params.yaml and cohort descriptions of an earlier version: present names, comments kept."""

from pathlib import Path
from typing import Any

from dml.config.params import Params, parse
from dml.config.renamed_keys import RENAMED, RENAMED_VALUES
from dml.config.rewrite_yaml import edit_yaml, to_flow, to_plain
from dml.core.errors import ConfigError


def migrate(path: Path) -> str:
    """Rename old keys and values of params.yaml, or of the `params` of a cohort description.

    Returns
    -------
    str
        A unified diff, empty if the file has no old name.

    Raises
    ------
    ConfigError
        If the file is missing, not YAML, has the old and the new name of a key, or would not be valid afterwards;
        nothing is written then.
    """

    def edit(content: Any) -> None:
        is_description = "name" in content and "tasks" not in content
        sections = content.get("params", {}) if is_description else content
        for old, new in RENAMED.items():
            _rename(sections, old, new, path)
        _rename_values(sections)
        for space in ("teacher", "student"):
            _rename_domains(sections.get("tuning", {}).get(space) or {}, path)
        required = {"cohort": "", "tasks": [""], "folds": [0, 1]} if is_description else {}
        parse(Params, {**required, **to_plain(sections)}, str(path))

    return edit_yaml(path, edit, "migrated")


def _rename(sections: Any, old: str, new: str, path: Path) -> None:
    """Move one key of a section to its new name, which may lie in a section of its own."""
    (section, key), (_, name, *inner) = old.split("."), new.split(".")
    values = sections.get(section)
    if not isinstance(values, dict) or key not in values:
        return
    if not inner:
        _rename_key(values, key, name, path)
        return
    target, value = values.get(name), values[key]
    if target is None:
        _rename_key(values, key, name, path)
        values[name] = to_flow({inner[0]: value})
    elif inner[0] in target:
        raise ConfigError(f"{path}: {section}: both {key} and {name}.{inner[0]}; delete one")
    else:
        target[inner[0]] = value
        del values[key]


def _rename_key(values: Any, old: str, new: str, path: Path) -> None:
    """Rename a key where it stands; the comment behind it stays behind it."""
    if new in values:
        raise ConfigError(f"{path}: both {old} and {new}; delete one")
    position, comment = list(values).index(old), values.ca.items.pop(old, None)
    values.insert(position, new, values.pop(old))
    if comment is not None:
        values.ca.items[new] = comment


def _rename_values(sections: Any) -> None:
    for name, values in RENAMED_VALUES.items():
        section, key = name.split(".")
        content = sections.get(section) or {}
        if content.get(key) in values:
            content[key] = values[content[key]]


def _rename_domains(space: Any, path: Path) -> None:
    """Rename the parameters of a search space, those of its conditions, and their values."""
    for name in list(space):
        domain = space[name]
        conditions = domain.get("when") or {}
        for values, key in [(conditions, other) for other in list(conditions)] + [(space, name)]:
            new = RENAMED.get(key, key)
            if new != key:
                _rename_key(values, key, new, path)
            choices = values[new].get("choices", []) if values is space else values[new]
            for index, choice in enumerate(choices):
                choices[index] = RENAMED_VALUES.get(new, {}).get(choice, choice)
