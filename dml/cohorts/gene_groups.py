"""Gene groups of the tumor and of its microenvironment (TME): shipped lists, or unions of published gene sets."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression
from dml.cohorts.store_files import DeclaredGroups
from dml.core.errors import ConfigError, InputError
from dml.core.files import write_json
from dml.core.types import SUBSPACES, GeneGroups
from dml.core.yaml_files import read_yaml
from dml.genes.gene_symbols import rename
from dml.readers.gene_sets import read_gene_sets
from dml.readers.raw_files import GeneSets, Groups

RESOURCES = Path(__file__).parent / "resources"
HALLMARK = ("h.all*symbols.gmt", "hallmarks_signatures.csv")
"""Names under which the Hallmark sets are published."""

Composed = tuple[set[str], set[str], str]
"""Genes of the tumor, of the TME, and where they come from."""


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


def declare_gene_groups(description: CohortDescription, measured: Collection[str] | None = None) -> DeclaredGroups:
    """Compose the groups as `build_gene_groups` does, with the number of genes declared for each."""
    spec, expression = description.gene_groups, description.expression
    tumor, tme, provenance = _genes(description.raw_folder, spec)
    if expression is not None and expression.symbols == "approved":
        tumor, tme = set(rename(sorted(tumor)).names), set(rename(sorted(tme)).names)
    full = GeneGroups(tuple(sorted(tumor - tme)), tuple(sorted(tme)), spec.provenance or provenance)
    declared: dict[str, int] = {subspace: len(getattr(full, subspace)) for subspace in SUBSPACES}
    if spec.restrict_to_measured:
        genes = frozenset(build_expression(description).genes if measured is None else measured)
        full = GeneGroups(_intersect(full.tumor, genes), _intersect(full.tme, genes), full.provenance)
    return DeclaredGroups(full, declared, spec.restrict_to_measured, spec.min_genes)


def write_gene_groups(path: Path, groups: DeclaredGroups) -> None:
    """Write the groups, and what check_cohort needs to compute their coverage."""
    genes = {"tumor": groups.groups.tumor, "tme": groups.groups.tme, "provenance": groups.groups.provenance}
    numbers = {"declared": dict(groups.declared), "restricted": groups.restricted, "min_genes": groups.min_genes}
    write_json(path, {**genes, **numbers})


def _genes(raw: Path, spec: Groups) -> Composed:
    if spec.tumor:
        return _compose(raw, spec)
    if spec.resource is None:
        return _from_file(raw / str(spec.file))
    content = read_resource(spec.resource)
    provenance = str(content.get("provenance", "")).strip()
    if "tumor_sets" not in content:
        return set(content["tumor"]), set(content["tme"]), provenance
    file = spec.file or _hallmark_file(raw)
    tumor, tme = (_read_sets(raw / file, content[f"{subspace}_sets"]) for subspace in SUBSPACES)
    return tumor, tme, f"{provenance} Read from {file}."


def read_resource(name: str) -> dict[str, Any]:
    """Read a shipped list.

    Raises
    ------
    ConfigError
        If there is none of that name; the message lists those there are.
    """
    path = RESOURCES / f"{name}.yaml"
    if not path.exists():
        names = ", ".join(sorted(p.stem for p in RESOURCES.glob("*.yaml")))
        raise ConfigError(f"gene_groups.resource: no list {name!r} is shipped; there are {names}")
    content: dict[str, Any] = read_yaml(path)
    return content


def _hallmark_file(raw: Path) -> str:
    files = sorted(path.name for pattern in HALLMARK for path in raw.glob(pattern))
    if not files:
        remedy = "Put it there (dml cohort import), or name the file: gene_groups: {resource: hallmark, file: ...}"
        raise InputError(raw, f"no file of Hallmark sets ({' or '.join(HALLMARK)})", remedy)
    return files[-1]


def _read_sets(path: Path, sets: Sequence[str]) -> set[str]:
    kind: Literal["gmt", "columns"] = "gmt" if path.suffix == ".gmt" else "columns"
    selected = read_gene_sets(path, GeneSets(file=path.name, kind=kind, select=tuple(sets)))
    return {gene for genes in selected.values() for gene in genes}


def _from_file(path: Path) -> Composed:
    """Read a file with both groups: YAML like the shipped lists, or sets called tumor and tme."""
    if path.suffix not in (".yaml", ".yml"):
        tumor, tme = (_read_sets(path, [subspace]) for subspace in SUBSPACES)
        return tumor, tme, path.name
    if not path.exists():
        raise InputError(path, "the file does not exist", "Put it there (dml cohort import) or correct gene_groups")
    content = read_yaml(path)
    lists = [content.get(subspace) or [] for subspace in SUBSPACES] if isinstance(content, dict) else [[]]
    if not all(isinstance(genes, list) and genes for genes in lists):
        raise InputError(path, "no lists `tumor` and `tme`", "Write them as dml/cohorts/resources/default.yaml does")
    return {str(g) for g in lists[0]}, {str(g) for g in lists[1]}, str(content.get("provenance", path.name)).strip()


def _compose(raw: Path, spec: Groups) -> Composed:
    return (
        _union(raw, spec.tumor),
        _union(raw, spec.tme),
        f"tumor: {_format_sources(spec.tumor)}; tme: {_format_sources(spec.tme)}",
    )


def _union(raw: Path, sources: Sequence[GeneSets]) -> set[str]:
    return {gene for s in sources for genes in read_gene_sets(raw / s.file, s).values() for gene in genes}


def _format_sources(sources: Sequence[GeneSets]) -> str:
    return ", ".join(f"{s.file}{' (' + ', '.join(s.select) + ')' if s.select else ''}" for s in sources)


def _intersect(genes: Sequence[str], measured: frozenset[str]) -> tuple[str, ...]:
    return tuple(gene for gene in genes if gene in measured)
