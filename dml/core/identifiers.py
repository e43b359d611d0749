"""Identifiers of patients and slides: a type of their own, made where they enter; they become names of files."""

import re
import unicodedata
from typing import NewType

from dml.core.errors import InputError

Identifier = NewType("Identifier", str)

MAX_LENGTH = 200
"""Characters of an identifier; file systems allow 255 bytes for a name with its suffix."""
RULE = (
    'Identifiers name files: 1 to 200 characters, no / \\ : * ? " < > | or control characters, no blank or dot at '
    "either end, no device name of Windows (CON, NUL, COM1, ...); a pattern can cut the part that counts"
)
_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
_DEVICE = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$", re.IGNORECASE)


def find_problem(text: str) -> str:
    """Return why a text is no identifier, '' if it is one.

    Examples
    --------
    >>> find_problem("TCGA-02-0001")
    ''
    >>> find_problem("../x")
    'holds /'
    >>> find_problem("nul.txt")
    'is a device name of Windows'
    """
    if not 0 < len(text) <= MAX_LENGTH:
        return f"has {len(text)} characters"
    if match := _FORBIDDEN.search(text):
        return f"holds {match[0]}"
    control = [c for c in text if unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp")]
    if control:
        return f"holds the control character U+{ord(control[0]):04X}"
    if text.strip(" .\u00a0") != text:
        return "begins or ends with a blank or a dot"
    return "is a device name of Windows" if _DEVICE.match(text) else ""


def parse_identifier(text: str, where: str) -> Identifier:
    """Return a text as identifier of a patient or slide.

    Raises
    ------
    InputError
        If it could not name a file on every system.
    """
    if problem := find_problem(text):
        raise InputError(where, f"{text!r} {problem}", RULE)
    return Identifier(text)
