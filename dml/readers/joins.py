"""How the ids of two tables match: how many do, examples of both spellings, and what would make more of them match."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dml.core.errors import listed

_LOOK_ALIKE = str.maketrans(
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0430\u0435\u043e\u0440\u0441\u0443\u0445"
    "\u2010\u2011\u2012\u2013\u2014\u2212",
    "ABEKMHOPCTXaeopcyx------",
)
"""Cyrillic letters and dashes of other kinds, and the plain characters that look like them."""


def _plain_characters(text: str) -> str:
    """Replace characters that look like plain ones, and remove invisible ones."""
    shown = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return shown.translate(_LOOK_ALIKE)


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "look-alike and invisible characters are plain": _plain_characters,
    "blanks are removed": lambda text: re.sub(r"\s+", "", text),
    "case is ignored": str.casefold,
    "dots, underscores and blanks are read as dashes": lambda text: re.sub(r"[._\s]", "-", text),
    "a dash before the number is removed": lambda text: re.sub(r"(?<=[^\W\d_])-(?=[0-9])", "", text),
    "slashes are read as dashes": lambda text: re.sub(r"[/\\]", "-", text),
    "leading zeros are dropped": lambda text: re.sub(r"(?<![0-9])0+(?=[0-9])", "", text),
    "decimals (.0) are dropped": lambda text: re.sub(r"\.0+$", "", text),
    "quotes are removed": lambda text: text.strip("\"'"),
    "the X that R puts before digits is removed": lambda text: re.sub(r"^X(?=[0-9])", "", text),
}
"""What undoes a change that programs make in ids, and the function that does it."""
_SEPARATORS = re.compile(r"[-._ ]")


@dataclass(frozen=True, slots=True)
class Join:
    """The ids of one table (left) matched with those of another (right)."""

    name: str
    left: int
    right: int
    matched: int
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    hint: str

    @property
    def share(self) -> float:
        """Matched ids as a share of the smaller side; 1 where a side is empty."""
        smaller = min(self.left, self.right)
        return self.matched / smaller if smaller else 1.0

    def format_examples(self) -> str:
        """Return unmatched ids of both sides."""
        return f"{listed(self.only_left, 3) or 'none'} | {listed(self.only_right, 3) or 'none'}"


def match_ids(name: str, left: Iterable[str], right: Iterable[str]) -> Join:
    """Match two sets of ids as they are, and say how others would match.

    Examples
    --------
    >>> match_ids("expression", ["P.1", "P.2"], ["P-1", "P-2", "P-3"]).hint
    '2 more match if dots, underscores and blanks are read as dashes: P.1 is P-1'
    """
    ours, theirs = set(left), set(right)
    only_left, only_right = sorted(ours - theirs), sorted(theirs - ours)
    hint = suggest_spelling(only_left, only_right)
    return Join(name, len(ours), len(theirs), len(ours & theirs), tuple(only_left[:5]), tuple(only_right[:5]), hint)


def suggest_spelling(left: Iterable[str], right: Iterable[str]) -> str:
    """Return which change of spelling makes ids of both sides match, '' if none does."""
    ours, theirs = list(left), list(right)
    best: tuple[int, str, str] = (0, "", "")
    for name, undo in [*SPELLINGS.items(), ("several changes are undone", _undo_all)]:
        best = max(best, _count(name, {undo(t): t for t in theirs}, ((o, undo(o)) for o in ours)), key=lambda b: b[0])
    if any(all(text[:1].isdigit() for text in side) for side in (ours, theirs)):  # one side has numbers alone
        numbered = {_without_word(_undo_all(text)): text for text in theirs}
        pairs = ((text, _without_word(_undo_all(text))) for text in ours)
        best = max(best, _count("words before the number are left out", numbered, pairs), key=lambda b: b[0])
    for name, longer, shorter in (
        ("a suffix (sample or aliquot) is cut", ours, theirs),
        ("a suffix (sample or aliquot) of the other side is cut", theirs, ours),
    ):
        ends = {_undo_all(text): text for text in shorter}
        pairs = ((text, stem) for text in longer for stem in _stems(_undo_all(text)) if stem in ends)
        best = max(best, _count(name, ends, pairs), key=lambda b: b[0])
    count, name, example = best
    return f"{count} more match if {name}: {example}" if count else ""


def _count(name: str, targets: Mapping[str, str], pairs: Iterable[tuple[str, str]]) -> tuple[int, str, str]:
    hits = {text: targets[changed] for text, changed in pairs if changed in targets}
    example = next((f"{text} is {other}" for text, other in hits.items()), "")
    return len(set(hits.values())), name, example


def _undo_all(text: str) -> str:
    for undo in SPELLINGS.values():
        text = undo(text)
    return re.sub(r"-+", "-", text)


def _without_word(text: str) -> str:
    """Return patient-7, P7 or sub7 as 7."""
    return re.sub(r"^[a-z]+-*(?=[0-9])", "", text)


def _stems(text: str) -> list[str]:
    """Return what remains when parts behind separators are cut off one by one: a-b-c gives a-b and a."""
    ends = [match.start() for match in _SEPARATORS.finditer(text)]
    return [text[:end] for end in reversed(ends)]
