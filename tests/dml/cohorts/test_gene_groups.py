from pathlib import Path

import pytest

from dml.cohorts.gene_groups import build_gene_groups, declare_gene_groups, read_gene_groups, write_gene_groups
from dml.cohorts.sources import Groups
from dml.errors import ConfigError
from dml.files import read_json

G = [f"G{i}" for i in range(30)]


def test_a_gene_in_both_groups_belongs_to_tme(describe, tables) -> None:
    groups = build_gene_groups(describe(tables))
    assert groups.tumor == tuple(sorted(G[:12]))
    assert groups.tme == tuple(sorted(G[12:27]))
    assert groups.provenance == "tumor: sets.csv (tumor); tme: sets.csv (tme)"


def test_all_declared_genes_are_kept_unless_restricted_to_the_measured(describe, tables) -> None:
    few = {"expression": tables["expression"].drop(columns=["G0", "G13"])}
    description = describe(tables | few)
    assert len(build_gene_groups(description).tumor) == 12
    spec = {**description.gene_groups.model_dump(), "restrict_to_measured": True, "min_genes": 5}
    restricted = declare_gene_groups(description.model_copy(update={"gene_groups": Groups.model_validate(spec)}))
    assert (len(restricted.groups.tumor), len(restricted.groups.tme)) == (11, 14)
    assert restricted.declared == {"tumor": 12, "tme": 15}
    assert (restricted.restricted, restricted.min_genes) == (True, 5)


def test_written_and_read_back(describe, tables, tmp_path: Path) -> None:
    declared = declare_gene_groups(describe(tables))
    write_gene_groups(tmp_path / "g.json", declared.groups, declared)
    assert read_gene_groups(tmp_path / "g.json") == declared.groups
    assert read_json(tmp_path / "g.json")["declared"] == {"tumor": 12, "tme": 15}
    write_gene_groups(tmp_path / "g.json", declared.groups)
    assert read_gene_groups(tmp_path / "g.json") == declared.groups


def test_the_shipped_list_is_disjoint_and_large_enough(describe, tables) -> None:
    groups = build_gene_groups(describe(tables, gene_groups="default"))
    assert not set(groups.tumor) & set(groups.tme)
    assert min(len(groups.tumor), len(groups.tme)) >= 20
    assert groups.provenance


def test_a_list_that_is_not_shipped(describe, tables) -> None:
    with pytest.raises(ConfigError, match=r"no list 'mine' is shipped; there are .*default"):
        build_gene_groups(describe(tables, gene_groups="mine"))
