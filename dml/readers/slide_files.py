"""Files of slides and of features in a folder or zip: which belong to a slide, and which are left out, by name."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dml.core.errors import InputError, listed
from dml.core.identifiers import parse_identifier
from dml.readers.archives import members

logger = logging.getLogger(__name__)

SLIDE_SUFFIXES = (
    ".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".svslide", ".bif", ".qptiff", ".dcm"
)  # fmt: skip
"""Of files that OpenSlide or tifffile read. A DICOM series is one slide: its files lie in a folder of their own."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
"""Of plain images: slides in a folder of them, but pictures of slides beside files of the formats above."""
UNREAD_SUFFIXES = (
    ".czi",
    ".isyntax",
    ".i2syntax",
    ".vsi",
    ".lif",
    ".nd2",
    ".jp2",
    ".zvi",
    ".kfb",
    ".sdpc",
    ".tmap",
    ".mds",
)
"""Of slides that are read after conversion only."""
FEATURE_SUFFIXES = (".h5", ".hdf5", ".pt", ".pth", ".npy", ".npz", ".safetensors")
SLIDE_PATTERN = r"(?i)(.+)\.(?:" + "|".join(suffix[1:] for suffix in (*SLIDE_SUFFIXES, *IMAGE_SUFFIXES)) + ")$"
_DICOM = ".dcm"


def slide_files(folder: Path, pattern: str) -> dict[str, str]:
    """Return slide id -> file of a folder, relative to it; links are followed, broken ones are slides that fail later.

    Parameters
    ----------
    folder : Path
        Searched recursively.
    pattern : str
        Regular expression on the file name (of a DICOM series: its folder's name and .dcm); its group is the slide id.
        With the default, JPEG and PNG are slides only where nothing else is: they are mostly pictures of slides.

    Raises
    ------
    InputError
        If no file matches, two files belong to one slide, or DICOM files lie beside other slides.
    """
    names = members(folder)
    dicom = [name for name in names if PurePosixPath(name).suffix.lower() == _DICOM]
    labelled = [(name, PurePosixPath(name).name) for name in names if name not in set(dicom)]
    labelled += _series(folder, dicom)
    matching = [(name, label) for name, label in labelled if re.search(pattern, label)]
    if pattern == SLIDE_PATTERN and any(label.lower().endswith(SLIDE_SUFFIXES) for _, label in matching):
        matching = [(name, label) for name, label in matching if not label.lower().endswith(IMAGE_SUFFIXES)]
    looks = SLIDE_SUFFIXES + IMAGE_SUFFIXES + UNREAD_SUFFIXES
    alike = {name for name, label in labelled if label.lower().endswith(looks)}
    left_out = sorted(alike - {name for name, _ in matching})
    if left_out:
        logger.warning("%s: look like slides, and do not match %s: %s", folder, pattern, listed(left_out))
    if not matching:
        problem = f"no file matches {pattern!r}"
        raise InputError(folder, problem, "Correct `slides.folder.slide` or add slides")
    return _by_slide(folder, matching, pattern, "slides.folder.slide")


def feature_files(path: Path, pattern: str) -> dict[str, str]:
    """Return slide id -> file of a folder or zip, relative to it; what is no file of features is left out by name.

    Raises
    ------
    InputError
        If the folder or zip is missing, a name does not match the pattern, or two files belong to one slide.
    """
    names = members(path)
    features = [name for name in names if name.lower().endswith(FEATURE_SUFFIXES)]
    left_out = sorted(set(names) - set(features))
    if left_out:
        logger.warning("%s: left out, not files of features: %s", path, listed(left_out))
    return _by_slide(path, [(name, PurePosixPath(name).name) for name in features], pattern, "features.slide")


def _series(folder: Path, dicom: Iterable[str]) -> list[tuple[str, str]]:
    """Return the first file of each folder of DICOM files, and the folder's name as the label of the series."""
    first: dict[str, str] = {}
    for name in sorted(dicom):
        parent = str(PurePosixPath(name).parent)
        if parent == ".":
            raise InputError(folder, f"{name} is part of a DICOM series", "Put each series into a folder of its own")
        first.setdefault(parent, name)
    return [(name, PurePosixPath(parent).name + _DICOM) for parent, name in first.items()]


def _by_slide(path: Path, labelled: Iterable[tuple[str, str]], pattern: str, field: str) -> dict[str, str]:
    files: dict[str, str] = {}
    for name, label in labelled:
        match = re.search(pattern, label)
        if match is None:
            raise InputError(path, f"{name} does not match {pattern!r}", f"Correct `{field}` or remove the file")
        slide_id = parse_identifier(match[1], f"{path}: {name}")
        if slide_id in files:
            problem = f"{files[slide_id]} and {name} are both of slide {slide_id}"
            raise InputError(path, problem, f"Remove one, or correct `{field}`")
        files[slide_id] = name
    return files
