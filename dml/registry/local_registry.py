"""Registered versions read from a local SQLite store without importing MLflow, which takes seconds.

Nothing is written here. A database of another schema than that of the pinned MLflow (see the test) is left to MLflow,
as is one that does not exist or cannot be read: it knows what to do, and what to say.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from dml.registry.registered_version import RegisteredVersion
from dml.tracking import store
from dml.tracking.relocation import relocate

SCHEMA = "dc11669786a5"
"""Revision of the tables of the pinned MLflow."""
_DELETED = "Deleted_Internal"
"""Stage of a version that was deleted, whose row MLflow keeps."""
_VERSIONS = """
    select version, run_id, coalesce(description, ''), coalesce(storage_location, source, '')
    from model_versions where name = ? and current_stage != ? order by version
"""


def local_versions(name: str) -> list[RegisteredVersion] | None:
    """All versions of a registered model, oldest first; None where only MLflow can tell."""
    database = _present_database()
    if database is None:
        return None
    try:
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            if _select(connection, "select version_num from alembic_version") != [(SCHEMA,)]:
                return None
            aliases = _select(connection, "select alias, version from registered_model_aliases where name = ?", name)
            tags = _select(connection, "select version, key, value from model_version_tags where name = ?", name)
            rows = _select(connection, _VERSIONS, name, _DELETED)
    except sqlite3.Error:
        return None
    return [
        RegisteredVersion(
            name,
            str(number),
            tuple(sorted(str(alias) for alias, target in aliases if target == number)),
            {str(key): str(value) for version, key, value in tags if version == number},
            str(run_id),
            str(description),
            _folder(str(location)),
        )
        for number, run_id, description, location in rows
    ]


def _present_database() -> Path | None:
    """Path of the SQLite file, whose artifacts are where it says; None if there is none that can be read."""
    database = store.database()
    if database is None or not database.is_file():
        return None
    try:
        relocate(database)
    except sqlite3.Error:
        return None
    return database


def _select(connection: sqlite3.Connection, query: str, *values: str) -> Sequence[tuple[object, ...]]:
    return connection.execute(query, values).fetchall()


def _folder(location: str) -> Path | None:
    path = Path(location.removeprefix("file://"))
    return path if path.is_absolute() and path.is_dir() else None
