from pathlib import Path

import pytest

from dml.cohorts.gene_groups import build_gene_groups, declare_gene_groups, read_resource, write_gene_groups
from dml.cohorts.store_files import read_gene_groups
from dml.core.errors import ConfigError, InputError
from dml.core.files import read_json
from dml.readers.raw_files import Groups

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
    write_gene_groups(tmp_path / "g.json", declared)
    assert read_gene_groups(tmp_path / "g.json") == declared
    assert read_json(tmp_path / "g.json")["declared"] == {"tumor": 12, "tme": 15}


def test_the_shipped_list_is_disjoint_and_large_enough(describe, tables) -> None:
    groups = build_gene_groups(describe(tables, gene_groups="default"))
    assert not set(groups.tumor) & set(groups.tme)
    assert min(len(groups.tumor), len(groups.tme)) >= 20
    assert groups.provenance


def test_a_list_that_is_not_shipped(describe, tables) -> None:
    with pytest.raises(ConfigError, match=r"no list 'mine' is shipped; there are .*default"):
        build_gene_groups(describe(tables, gene_groups="mine"))


HALLMARK = {name: read_resource("hallmark")[name] for name in ("tumor_sets", "tme_sets")}


def write_hallmark(raw: Path, leave_out: str = "") -> None:
    """A GMT as MSigDB publishes it: each set has a gene of its own, and all share one."""
    sets = [*HALLMARK["tumor_sets"], *HALLMARK["tme_sets"], "HALLMARK_MYOGENESIS"]
    lines = [f"{name}\thttp://x\tOF_{name[9:]}\tSHARED" for name in sets if name != leave_out]
    (raw / "h.all.v2024.1.Hs.symbols.gmt").write_text("\n".join(lines) + "\n")


def test_hallmark_sets_are_divided_as_shipped(describe, tables) -> None:
    description = describe(tables, gene_groups="hallmark")
    with pytest.raises(InputError, match=r"no file of Hallmark sets \(h\.all\*symbols\.gmt or .*Put it there"):
        build_gene_groups(description)
    write_hallmark(description.raw_folder)
    groups = build_gene_groups(description)
    assert "OF_E2F_TARGETS" in groups.tumor
    assert "OF_HYPOXIA" in groups.tme
    assert "SHARED" in groups.tme
    assert "SHARED" not in groups.tumor
    assert not any("MYOGENESIS" in gene for gene in groups.tumor + groups.tme)
    assert groups.provenance.endswith("Read from h.all.v2024.1.Hs.symbols.gmt.")
    write_hallmark(description.raw_folder, leave_out="HALLMARK_HYPOXIA")
    with pytest.raises(InputError, match="no set HALLMARK_HYPOXIA"):
        build_gene_groups(description)


def test_no_hallmark_set_is_on_both_sides() -> None:
    assert not set(HALLMARK["tumor_sets"]) & set(HALLMARK["tme_sets"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own.csv", "tumor,tme\nG1,G9\nG2,G8\n"),
        ("own.gmt", "tumor\t\tG1\tG2\ntme\t\tG9\tG8\n"),
        ("own.yaml", "tumor: [G1, G2]\ntme: [G9, G8]\nprovenance: mine\n"),
    ],
)
def test_a_file_of_ones_own(describe, tables, name: str, text: str) -> None:
    description = describe(tables, gene_groups=name)
    (description.raw_folder / name).write_text(text)
    groups = build_gene_groups(description)
    assert (groups.tumor, groups.tme) == (("G1", "G2"), ("G8", "G9"))
    assert groups.provenance == ("mine" if name.endswith("yaml") else name)


def test_a_file_without_both_groups(describe, tables) -> None:
    description = describe(tables, gene_groups="own.yaml")
    with pytest.raises(InputError, match=r"own\.yaml: the file does not exist"):
        build_gene_groups(description)
    (description.raw_folder / "own.yaml").write_text("tumor: [G1]\n")
    with pytest.raises(InputError, match="no lists `tumor` and `tme`"):
        build_gene_groups(description)
