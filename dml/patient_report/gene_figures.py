"""Genes and gene sets of a patient's page: which raised and which lowered the output most."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dml.attribution.attribute import OTHER, Attribution, GeneContributions
from dml.core.types import Cohort
from dml.patient_report.figures import bar_figure
from dml.readers.gene_sets import read_gene_sets
from dml.readers.raw_files import GeneSets
from dml.teachability.gene_targets import measured_sets, read_hallmark_sets

GENES, SETS = 6, 4
"""Genes, and gene sets of a group, at either end."""
MIN_SET_GENES = 2
"""Genes of a group below which a set is not shown for it: one gene stands among the genes."""
GROUP_NAMES = {"tumor": "tumor", "tme": "microenvironment"}
Row = tuple[str, float, float, str]
"""Name, contribution, deviation over the members, group."""


def read_sets(file: Path | None, raw: Path | None) -> dict[str, list[str]]:
    """Read gene sets: of a file (.gmt, or a table with a column a set), else the Hallmark sets of a raw folder.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    if file is not None:
        return read_gene_sets(file, GeneSets(file=file.name, kind="gmt" if file.suffix == ".gmt" else "columns"))
    return {} if raw is None or not raw.is_dir() else read_hallmark_sets(raw)


def gene_figure(attribution: Attribution, output: int, unit: str) -> str:
    """Return the genes that raise and lower an output most, over both groups; empty without genes."""
    every = [
        (gene, float(group.contribution[i, output]), float(group.deviation[i, output]), str(group.group))
        for group in attribution.genes
        for i, gene in enumerate(group.genes)
    ]
    return bar_figure(_ends(every, GENES), unit, 2.4) if every else ""


def set_figures(
    attribution: Attribution, output: int, unit: str, cohort: Cohort, sets: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Return, by group ("tumor", "microenvironment"), the sets that raise and lower an output most.

    The last bar is of the group's genes that are in no set. Groups of which no set has genes enough are left out.
    """
    rows = {GROUP_NAMES[group.group]: set_rows(group, output, cohort, sets) for group in attribution.genes}
    return {name: bar_figure(each, unit, 0.75 + 0.17 * len(each)) for name, each in rows.items() if len(each) > 1}


def set_rows(group: GeneContributions, output: int, cohort: Cohort, sets: Mapping[str, Sequence[str]]) -> list[Row]:
    """Return the rows of one group's figure: sets by contribution, then the genes of no set."""
    of_group = set(group.genes)
    measured = {name: of_group & set(genes) for name, genes in measured_sets(cohort, sets, 1).items() if name in sets}
    shown = {name: sorted(genes) for name, genes in measured.items() if len(genes) >= MIN_SET_GENES}
    sums, deviations = group.of_sets(shown), group.deviation_of_sets(shown)

    def row(name: str, label: str, colour: str) -> Row:
        return label, float(sums[name][output]), float(deviations[name][output]), colour

    return [
        *_ends([row(name, set_label(name), group.group) for name in shown], SETS),
        row(OTHER, "genes of none", ""),
    ]


def set_label(name: str) -> str:
    """Return the name of a set for people.

    Examples
    --------
    >>> set_label("HALLMARK_IL6_JAK_STAT3_SIGNALING"), set_label("Wnt pathway")
    ('IL6 JAK STAT3 signaling', 'Wnt pathway')
    """
    if not name.startswith("HALLMARK_"):
        return name
    words = name.removeprefix("HALLMARK_").split("_")
    text = " ".join(word if _is_symbol(word) else word.lower() for word in words)
    return text[0].upper() + text[1:]


_ABBREVIATIONS = {"DNA", "UV", "MYC", "JAK", "STAT", "TNFA", "TGF", "WNT", "KRAS", "PI", "AKT", "MTOR", "ROS", "UPR"}


def _is_symbol(word: str) -> bool:
    return word in _ABBREVIATIONS or any(letter.isdigit() for letter in word)


def _ends(rows: Sequence[Row], count: int) -> list[Row]:
    ordered = sorted(rows, key=lambda row: -row[1])
    return ordered if len(ordered) <= 2 * count else [*ordered[:count], *ordered[-count:]]


def gene_reason(reads_genes: bool, cohort: Cohort) -> str:
    """Return why there are no genes on the page."""
    if not reads_genes:
        return "this model reads slides only"
    return "" if cohort.cases[0].has_expression else "no transcriptome was given"
