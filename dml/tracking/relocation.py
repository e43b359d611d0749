"""Artifact paths of a moved local store, the only place that writes to MLflow's own tables.

MLflow stores the absolute path of every artifact folder and has no function to change it; a repository that was moved
or copied could not open its artifacts. Columns and layout are those of the pinned version (see the test).
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns in which MLflow stores absolute artifact paths."""
_log = logging.getLogger(__name__)


def relocate(database: Path) -> None:
    """Rewrite absolute artifact paths if the folder of a SQLite store was moved since they were written."""
    root = str(database.parent / "artifacts")
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for old in _former_roots(connection, root):
            _log.warning("tracking store was moved: artifacts are now under %s, not %s", root, old)
            for table, column in PATH_COLUMNS:
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                    (root, len(old) + 1, len(old) + 1, f"{old}/"),
                )


def _former_roots(connection: sqlite3.Connection, root: str) -> set[str]:
    """Artifact roots other than the present one of experiments made by `store.experiment`: ``<root>/<name>``."""
    present = connection.execute("select name from sqlite_master where name = 'experiments'").fetchone()
    rows = connection.execute("select name, artifact_location from experiments").fetchall() if present else []
    ours = {path.removesuffix(f"/{name}") for name, path in rows if path and path.endswith(f"/artifacts/{name}")}
    return ours - {root}
