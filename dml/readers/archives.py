"""Files as people download them: unpacked under limits, decoded, and the members of folders and archives."""

import bz2
import gzip
import lzma
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from dml.core.errors import InputError, listed, refuse_unreadable
from dml.core.limits import current

_CHUNK = 2**24
_PACKED: Mapping[bytes, Any] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open}


def existing(path: Path) -> Path:
    """Return the path of a file that is there.

    Raises
    ------
    InputError
        If it is not.
    """
    if not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "the file does not exist"
        raise InputError(path, problem, "Put it there (dml cohort import) or correct the description")
    return path


def read_text(path: Path) -> str:
    """Return the text of a file, unpacked where it is packed, with line feeds as line ends.

    Raises
    ------
    InputError
        If it is missing, damaged, too large or no text.
    """
    with existing(path).open("rb") as file:
        start = file.read(8)
    return decode(path, unpack(path, start))


def unpack(path: Path, start: bytes) -> bytes:
    """Return the content of a file that begins with `start`, unpacked where it is packed.

    Raises
    ------
    InputError
        If it is cut, damaged or too large, or a zip of several files.
    """
    opener: Any = next((opener for magic, opener in _PACKED.items() if start.startswith(magic)), Path.open)
    with refuse_unreadable(path, "It cannot be unpacked: it is cut or damaged; fetch it again"):
        if start.startswith(b"PK\x03\x04"):
            return _unzip(path)
        with opener(path, "rb") as file:
            return _read_bounded(path, file)


def _unzip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX")]
        if len(names) != 1:
            raise InputError(path, f"holds {len(names)} files ({listed(names)})", "A zipped table holds exactly one")
        with archive.open(names[0]) as file:
            return _read_bounded(path, file)


def _read_bounded(path: Path, file: IO[bytes]) -> bytes:
    """Read in chunks and stop at the limits: a header may lie about the size."""
    chunks, size, packed = [], 0, path.stat().st_size
    while chunk := file.read(_CHUNK):
        size += len(chunk)
        check_size(path, size, packed)
        chunks.append(chunk)
    return b"".join(chunks)


def check_size(path: Path, size: int, packed: int) -> None:
    """Refuse what expands beyond the limits.

    Raises
    ------
    InputError
        If `packed` bytes become too many.
    """
    limits = current()
    if limits.too_large(size, packed, limits.table_bytes):
        problem = f"{packed} bytes become {size} and more once unpacked"
        allowed = f"at most {limits.table_bytes} bytes, {limits.expansion} times its packed size"
        raise InputError(path, problem, f"A table has {allowed} (params.yaml: limits)")


def decode(path: Path, content: bytes) -> str:
    """Return the text with line feeds as line ends, whatever Windows, old Macs or Excel wrote.

    Raises
    ------
    InputError
        If it is neither UTF-8 nor UTF-16.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise InputError(path, f"not UTF-8 text (byte {error.start}, row {row})", "Save it as CSV UTF-8") from None
    if "\0" in text:
        raise InputError(path, "not text (it holds NUL bytes)", "Save it as CSV UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def members(path: Path) -> list[str]:
    """List the files of a folder (recursively, through links) or of a zip, sorted, hidden ones left out.

    Broken links are listed: what reads them names them.

    Raises
    ------
    InputError
        If it is missing, or neither a folder nor a zip file.
    """
    if path.is_dir():
        names = list(_walk(path))
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    else:
        problem = "is neither a folder nor a zip file" if path.exists() else "does not exist"
        raise InputError(path, problem, "Put it there (dml cohort import) or correct the description")
    return sorted(name for name in names if not any(part.startswith((".", "__MACOSX")) for part in Path(name).parts))


def _walk(folder: Path) -> Iterator[str]:
    """Yield the files of a folder, each real folder once, so that links cannot lead in a circle."""
    visited = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        real = os.path.realpath(root)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        yield from ((Path(root) / name).relative_to(folder).as_posix() for name in names)
