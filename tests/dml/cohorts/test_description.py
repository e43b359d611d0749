"""A description is closed: what is misspelt or contradictory is said with file, key and what is allowed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dml.cohorts.description import CohortDescription
from dml.core.errors import ConfigError
from dml.readers.columns import TimeColumns

SMALL = """
name: mine
patients:
  - {file: patients.csv, id: patient_id, site: site,
     survival: {time: days, unit: days, event: dead, dead: [1], alive: [0]}}
slides:
  table: {file: slides.csv, id: slide_id, patient: patient_id, path: path}
expression: {file: expression.csv, orientation: patients_as_rows, id: patient_id, unit: log2_tpm}
gene_groups: default
"""


def load(folder: Path, text: str, name: str = "mine") -> CohortDescription:
    (folder / f"{name}.yaml").write_text(text)
    return CohortDescription.load(name, folder)


def changed(**changes: Any) -> str:
    return yaml.safe_dump({**yaml.safe_load(SMALL), **changes})


def test_the_smallest_description_loads_with_defaults(tmp_path: Path) -> None:
    description = load(tmp_path, SMALL)
    assert description.raw_folder == Path("data/raw/mine")
    assert description.patients[0].key == "patients"
    assert description.gene_groups.resource == "default"
    assert description.labels == {}
    assert description.keep == "all"


def test_numbers_in_yaml_match_cells_of_text(tmp_path: Path) -> None:
    survival = load(tmp_path, SMALL).patients[0].survival
    assert survival is not None
    assert (survival.dead, survival.alive, survival.time) == (
        ("1",),
        ("0",),
        TimeColumns(dead=("days",), alive=("days",)),
    )


def test_imports_keep_their_base_name_unless_told_otherwise(tmp_path: Path) -> None:
    description = load(tmp_path, changed(**{"import": ["a/b.csv", {"from": "c.csv", "to": "sub/d.csv"}]}))
    assert [(i.source, i.target) for i in description.imports] == [("a/b.csv", "b.csv"), ("c.csv", "sub/d.csv")]


LABEL = {"classes": ["low", "high"], "sources": [{"table": "patients", "column": "g"}]}
PATIENTS = yaml.safe_load(SMALL)["patients"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slide": {}}, r"slide: unknown key; allowed here: .*slides"),
        ({"patients": [{**PATIENTS[0], "sitee": 1}]}, r"patients\.0\.sitee: unknown key; allowed here: age, file, id"),
        ({"patients": []}, r"the list is empty; describe at least one"),
        (
            {"patients": [PATIENTS[0], {"file": "patients.csv", "id": "b"}]},
            r"two tables are called the same \(patients, patients\)",
        ),
        ({"labels": {"g": {**LABEL, "sources": []}}}, r"`sources` is empty"),
        ({"labels": {"g": {**LABEL, "classes": ["a", "a"]}}}, r"classes are repeated: a, a"),
        ({"labels": {"age": LABEL}}, r"age is the name of another column"),
        ({"labels": {"G/2": LABEL}}, r"labels: 'G/2': a name is a letter, then letters, digits or _"),
        ({"labels": {"..": LABEL}}, r"labels: '\.\.': a name is a letter"),
        ({"labels": {"a b": {**LABEL}}}, r"labels: 'a b': a name is a letter"),
        ({"labels": {"g": {**LABEL, "classes": ["a", "G3+"]}}}, r"unlike G3\+; .* values: \{'G3\+': G3\}"),
        ({"labels": {"g": {**LABEL, "classes": ["a", "b, 100%"]}}}, r"letters, digits, blanks, _ \. and - only"),
        ({"labels": {"g": {**LABEL, "classes": ["low", "Low"]}}}, r"differ in upper and lower case only"),
        (
            {"labels": {"g": {**LABEL, "sources": [{"table": "nope", "column": "g"}]}}},
            r"labels\.g: no table 'nope'; there are patients",
        ),
        (
            {"labels": {"g": {**LABEL, "sources": [{"table": "patients", "column": "g", "values": {"x": "lo"}}]}}},
            r"values lead to lo, but the classes are low, high",
        ),
        (
            {"labels": {"g": {**LABEL, "sources": [{"table": "patients", "column": "g", "values": {True: "low"}}]}}},
            r"YAML reads this as true or false; write the cell's text in quotes",
        ),
        ({"slides": {}}, r"give either `table` or `folder`"),
        ({"slides": {"folder": {"folder": "s", "patient": "P[0-9]"}}}, r"must have exactly one group"),
        ({"slides": {"folder": {"folder": "s", "patient": "("}}}, r"not a regular expression"),
        (
            {"slides": None, "features": [{"path": "f", "encoder": "e", "width": 2, "mpp": 1, "tile_um": 2}]},
            r"`patient` \(slide id -> patient id\) is needed",
        ),
        (
            {"expression": {"file": "e", "orientation": "genes_as_rows", "id": "p", "unit": "tpm"}},
            r"genes_as_rows: `gene` must name a column, `id` only a pattern",
        ),
        ({"expression": {"file": "e", "orientation": "patients_as_rows", "id": "p", "unit": "log"}}, r"found 'log'"),
        ({"gene_groups": {"tumor": [{"file": "x"}]}}, r"give either `resource` or `file`, or both `tumor` and `tme`"),
        ({"import": [{"from": "a", "to": "../b"}]}, r"must stay inside the raw folder"),
        ({"name": "other"}, r"name: is 'other'; it must be 'mine', like the file"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load(tmp_path, changed(**changes))
    assert str(error.value).startswith(str(tmp_path / "mine.yaml"))


def test_an_unknown_cohort_lists_those_described(tmp_path: Path) -> None:
    load(tmp_path, SMALL)
    with pytest.raises(ConfigError, match=r"there is no such cohort; described are: mine"):
        CohortDescription.load("yours", tmp_path)


def test_what_is_no_yaml_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not YAML"):
        load(tmp_path, "name: [")


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).resolve().parents[3] / "cohorts").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_description_loads(path: Path) -> None:
    assert CohortDescription.load(path.stem, path.parent).name == path.stem
