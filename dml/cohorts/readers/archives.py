"""What is inside a folder or a zip file, by name."""

import zipfile
from pathlib import Path

from dml.core.errors import InputError


def members(path: Path) -> list[str]:
    """List the files of a folder (recursively) or of a zip, sorted, hidden ones left out.

    Raises
    ------
    InputError
        If it is missing, or neither a folder nor a zip file.
    """
    if path.is_dir():
        names = [str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()]
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    else:
        found = "is neither a folder nor a zip file" if path.exists() else "does not exist"
        raise InputError(path, found, "Put it there (dml cohort import) or correct the description")
    return sorted(name for name in names if not any(part.startswith((".", "__MACOSX")) for part in Path(name).parts))
