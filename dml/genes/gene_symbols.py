"""Gene names of any age and kind to approved symbols, by the table of the HGNC that is shipped.

``resources/hgnc.tsv.gz`` holds the protein-coding, immunoglobulin and T-cell receptor genes of the HGNC complete set
(genenames.org, CC0): approved symbol, Ensembl id, Entrez id, former symbols and aliases. A former symbol or alias is
in it only where it means one gene and is not the approved symbol of another.
"""

import gzip
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).parent / "resources" / "hgnc.tsv.gz"
_ENSEMBL = re.compile(r"^(ENSG\d{11})(?:\.\d+)?$")
_PAR_Y = re.compile(r"^ENSGR\d{10}(?:\.\d+)?$|_PAR_Y(?:\.\d+)?$", re.IGNORECASE)
_MONTH = r"(?:jan|feb|m[aäe]r|mrz|apr|ma[iy]|jun|jul|aug|sept?|o[ck]t|nov|de[cz])"
_DATE = re.compile(
    rf"^(?:\d{{1,2}}[-. /]+{_MONTH}(?:[-. /]+\d{{2,4}})?|{_MONTH}[-. /]+\d{{1,4}}|\d{{4}}-\d\d-\d\d(?:[ T][\d:.]+)?"
    r"|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d(?:\.\d+)?E\+\d+)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SymbolTable:
    """The shipped table: every mapping goes to approved symbols."""

    approved: frozenset[str]
    ensembl: Mapping[str, str]
    entrez: Mapping[str, str]
    former: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Renaming:
    """Names in their order after renaming, and how many were approved, renamed or unknown."""

    names: list[str]
    approved: int
    renamed: int
    unknown: int

    def format_line(self) -> str:
        """Return one line."""
        return f"{self.approved} approved as written, {self.renamed} renamed, {self.unknown} unknown to HGNC"


@cache
def symbol_table() -> SymbolTable:
    """Read the shipped table, once."""
    with gzip.open(TABLE, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")][1:]
    ensembl = {row[1]: row[0] for row in rows if row[1]}
    entrez = {row[2]: row[0] for row in rows if row[2]}
    former = {name: row[0] for row in rows for field in (4, 3) for name in row[field].split("|") if name}
    return SymbolTable(frozenset(row[0] for row in rows), ensembl, entrez, former)


def is_par_y(name: str) -> bool:
    """Whether a name is that of a pseudo-autosomal gene's copy on Y (GENCODE: ..._PAR_Y, before v25 ENSGR...).

    Examples
    --------
    >>> is_par_y("ENSG00000002586.20_PAR_Y"), is_par_y("ENSGR0000002586.13"), is_par_y("CD99")
    (True, True, False)
    """
    return _PAR_Y.search(name) is not None


def strip_par_y(name: str) -> str:
    """Return the name of the gene whose copy on Y this is; other names as they are.

    Examples
    --------
    >>> strip_par_y("ENSG00000002586.20_PAR_Y"), strip_par_y("ENSGR0000002586.13"), strip_par_y("CD99_PAR_Y")
    ('ENSG00000002586.20', 'ENSG00000002586.13', 'CD99')
    """
    if not is_par_y(name):
        return name
    return re.sub(r"_PAR_Y", "", re.sub(r"^ENSGR", "ENSG0", name), flags=re.IGNORECASE)


def find_dates(names: Sequence[str]) -> list[str]:
    """Return the names that Excel made dates or numbers of (MARCHF1 and MTARC1: 1-Mar; 2310009E13: 2.31E+19), sorted.

    Examples
    --------
    >>> find_dates(["1-Mar", "Sep-02", "2021-09-02 00:00:00", "1. Mrz", "NKX2-1", "MT-ND1", "DEC1"])
    ['1-Mar', '1. Mrz', '2021-09-02 00:00:00', 'Sep-02']
    """
    return sorted({name for name in names if _DATE.match(name.strip())})


def rename(written: Sequence[str]) -> Renaming:
    """Turn names into approved symbols.

    Ensembl ids (any version) and Entrez ids become the symbol of their gene, ``SYMBOL|ENTREZ`` (as TCGA wrote it) the
    symbol of the number. A former symbol or alias is replaced only if its approved symbol is not itself among the
    names and no other former symbol leads there. Names that lead nowhere stay, Ensembl ids without their version.

    Parameters
    ----------
    written : sequence of str
        Names of the genes of one matrix or one list.
    """
    table = symbol_table()
    by_id = [_by_id(name, table) for name in written]
    present = set(by_id)
    wanted = Counter(table.former[name] for name in present if name in table.former and name not in table.approved)
    free = {symbol for symbol, count in wanted.items() if count == 1 and symbol not in present}
    names = [table.former[name] if table.former.get(name) in free else name for name in by_id]
    approved = sum(new == old and new in table.approved for new, old in zip(names, written, strict=True))
    unknown = sum(new not in table.approved for new in names)
    return Renaming(names, approved, len(names) - approved - unknown, unknown)


def _by_id(name: str, table: SymbolTable) -> str:
    """Resolve an id; a symbol stays as it is."""
    name = strip_par_y(name)
    if ensembl := _ENSEMBL.match(name):
        return table.ensembl.get(ensembl[1], ensembl[1])
    symbol, bar, number = name.rpartition("|")
    if bar and number.isdigit():
        return table.entrez.get(number, symbol if symbol not in ("", "?") else number)
    return table.entrez.get(name, name) if name.isdigit() else name
