"""Which genes speak for the tumor and which for its microenvironment (TME): shipped, or composed of published sets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression
from dml.cohorts.gene_symbols import rename
from dml.cohorts.raw_files import GeneSets, Groups
from dml.cohorts.readers.gene_sets import read_gene_sets
from dml.core.errors import ConfigError, InputError
from dml.core.files import read_json, write_json
from dml.core.types import SUBSPACES, GeneGroups

RESOURCES = Path(__file__).parent / "resources"
HALLMARK = ("h.all*symbols.gmt", "hallmarks_signatures.csv")
"""Names under which the Hallmark sets are published."""

Sides = tuple[set[str], set[str], str]


@dataclass(frozen=True, slots=True)
class Declared:
    """Gene groups with the numbers of genes that were declared before any restriction to measured ones."""

    groups: GeneGroups
    declared: dict[str, int]
    restricted: bool
    min_genes: int


def build_gene_groups(description: CohortDescription, measured: Collection[str] | None = None) -> GeneGroups:
    """Compose the groups; both sorted, a gene in both belongs to tme.

    Parameters
    ----------
    description : CohortDescription
        Its `gene_groups`.
    measured : collection of str, optional
        Genes of the expression matrix, needed for `restrict_to_measured`; read from it if not given.

    Raises
    ------
    InputError, ConfigError
        If a file or resource is missing or wrong.
    """
    return declare_gene_groups(description, measured).groups


def declare_gene_groups(description: CohortDescription, measured: Collection[str] | None = None) -> Declared:
    """Compose the groups as `build_gene_groups` does, and remember how many genes were declared."""
    spec, expression = description.gene_groups, description.expression
    tumor, tme, provenance = _genes(description.raw_folder, spec)
    if expression is not None and expression.symbols == "approved":
        tumor, tme = set(rename(sorted(tumor)).names), set(rename(sorted(tme)).names)
    full = GeneGroups(tuple(sorted(tumor - tme)), tuple(sorted(tme)), spec.provenance or provenance)
    declared: dict[str, int] = {subspace: len(getattr(full, subspace)) for subspace in SUBSPACES}
    if spec.restrict_to_measured:
        genes = frozenset(build_expression(description).genes if measured is None else measured)
        full = GeneGroups(_within(full.tumor, genes), _within(full.tme, genes), full.provenance)
    return Declared(full, declared, spec.restrict_to_measured, spec.min_genes)


def write_gene_groups(path: Path, groups: GeneGroups, declared: Declared | None = None) -> None:
    """Write the groups, and with `declared` what check_cohort needs to judge their coverage."""
    content: dict[str, Any] = {"tumor": groups.tumor, "tme": groups.tme, "provenance": groups.provenance}
    if declared is not None:
        content |= {
            "declared": declared.declared,
            "restricted": declared.restricted,
            "min_genes": declared.min_genes,
        }
    write_json(path, content)


def read_gene_groups(path: Path) -> GeneGroups:
    """Read the groups."""
    content = read_json(path)
    return GeneGroups(tuple(content["tumor"]), tuple(content["tme"]), content.get("provenance", ""))


def _genes(raw: Path, spec: Groups) -> Sides:
    if spec.tumor:
        return _composed(raw, spec)
    if spec.resource is None:
        return _own(raw / str(spec.file))
    content = shipped(spec.resource)
    provenance = str(content.get("provenance", "")).strip()
    if "tumor_sets" not in content:
        return set(content["tumor"]), set(content["tme"]), provenance
    file = spec.file or _hallmark_file(raw)
    tumor, tme = (_selected(raw / file, content[f"{subspace}_sets"]) for subspace in SUBSPACES)
    return tumor, tme, f"{provenance} Read from {file}."


def shipped(name: str) -> dict[str, Any]:
    """Read a list that is shipped.

    Raises
    ------
    ConfigError
        If there is none of that name; the message lists those there are.
    """
    path = RESOURCES / f"{name}.yaml"
    if not path.exists():
        shipped = ", ".join(sorted(p.stem for p in RESOURCES.glob("*.yaml")))
        raise ConfigError(f"gene_groups.resource: no list {name!r} is shipped; there are {shipped}")
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def _hallmark_file(raw: Path) -> str:
    found = sorted(path.name for pattern in HALLMARK for path in raw.glob(pattern))
    if not found:
        remedy = "Put it there (dml cohort import), or name the file: gene_groups: {resource: hallmark, file: ...}"
        raise InputError(raw, f"no file of Hallmark sets ({' or '.join(HALLMARK)})", remedy)
    return found[-1]


def _selected(path: Path, sets: Sequence[str]) -> set[str]:
    kind: Literal["gmt", "columns"] = "gmt" if path.suffix == ".gmt" else "columns"
    found = read_gene_sets(path, GeneSets(file=path.name, kind=kind, select=tuple(sets)))
    return {gene for genes in found.values() for gene in genes}


def _own(path: Path) -> Sides:
    """Read a file with both groups: YAML like the shipped lists, or sets called tumor and tme."""
    if path.suffix not in (".yaml", ".yml"):
        tumor, tme = (_selected(path, [subspace]) for subspace in SUBSPACES)
        return tumor, tme, path.name
    if not path.exists():
        raise InputError(path, "the file does not exist", "Put it there (dml cohort import) or correct gene_groups")
    content = yaml.safe_load(path.read_text())
    lists = [content.get(subspace) or [] for subspace in SUBSPACES] if isinstance(content, dict) else [[]]
    if not all(isinstance(genes, list) and genes for genes in lists):
        raise InputError(path, "no lists `tumor` and `tme`", "Write them as dml/cohorts/resources/default.yaml does")
    return {str(g) for g in lists[0]}, {str(g) for g in lists[1]}, str(content.get("provenance", path.name)).strip()


def _composed(raw: Path, spec: Groups) -> Sides:
    return _union(raw, spec.tumor), _union(raw, spec.tme), f"tumor: {_told(spec.tumor)}; tme: {_told(spec.tme)}"


def _union(raw: Path, sources: Sequence[GeneSets]) -> set[str]:
    return {gene for s in sources for genes in read_gene_sets(raw / s.file, s).values() for gene in genes}


def _told(sources: Sequence[GeneSets]) -> str:
    return ", ".join(f"{s.file}{' (' + ', '.join(s.select) + ')' if s.select else ''}" for s in sources)


def _within(genes: Sequence[str], measured: frozenset[str]) -> tuple[str, ...]:
    return tuple(gene for gene in genes if gene in measured)
