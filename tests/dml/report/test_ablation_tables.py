"""What the page says of an ablation, and that the page is whole with and without one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from dml.core.files import write_json, write_parquet
from dml.report.ablation_tables import ablation_sentences, ablation_table, subgroups_of
from dml.report.build import evaluate
from dml.report.context import About, about_cohort
from dml.report.figures.ablation import draw_ablation
from tests.dml.report.test_build import QUICK


def row(variant, kind, value, gap=None, subgroup="", p=0.3):
    whole = {"variant": variant, "kind": kind, "metric": "c_index", "subgroup": subgroup, "value": value}
    whole |= {"ci_low": value - 0.05, "ci_high": value + 0.05}
    if gap is None:
        return whole
    whole |= {"difference": gap, "difference_low": gap - 0.02, "difference_high": gap + 0.02}
    return whole | {"p": p, "p_holm": 1.0}


ABLATION = {
    "seeds": [7],
    "members": 1,
    "rows": [
        row("teacher", "teacher", 0.80),
        row("no linear start", "teacher", 0.77, -0.03, p=0.01),
        row("no unpaired patients", "teacher", 0.79, -0.01),
        row("student", "student", 0.75),
        row("no distillation", "student", 0.74, -0.01),
        row("teacher", "teacher", 0.70, subgroup="lower_grade"),
        row("no linear start", "teacher", 0.70, 0.0, subgroup="lower_grade"),
    ],
}


def test_every_row_stands_beside_its_difference_and_the_full_models_have_none():
    table = ablation_table(ABLATION)
    assert table.columns[1] == "Harrell C"
    assert [line[0] for line in table.rows] == [r["variant"] for r in ABLATION["rows"][:5]]
    assert table.rows[0][2:] == ("", "", "")
    assert table.rows[1][2:] == ("-0.030 (-0.050 to -0.010)", "0.010", "1.000")
    assert subgroups_of(ABLATION) == ["lower_grade"]
    assert len(ablation_table(ABLATION, "lower_grade").rows) == 2
    assert ablation_table(ABLATION, "absent").rows == ()


def test_what_is_beyond_chance_is_said_and_that_nothing_is_too():
    how, *found = ablation_sentences(ABLATION)
    assert "(seed 7, 1 member a fold)" in how
    assert found == [
        "No linear start: the teacher changes by -0.030 (-0.050 to -0.010), p = 0.010, 1.000 after correction for the "
        "rows of the teacher."
    ]
    alike = {"seeds": [1, 2], "rows": [r for r in ABLATION["rows"] if r["variant"] != "no linear start"]}
    how, *found = ablation_sentences(alike)
    assert "(seeds 1, 2)" in how
    assert "do not show that any part matters" in found[0]


def test_without_a_compared_row_nothing_is_drawn(tmp_path):
    assert not draw_ablation(ABLATION["rows"][:1], tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()


def test_the_page_shows_it_where_there_is_one(tmp_path, invented):
    models = invented.write(tmp_path / "models", "survival", {"teacher": 0.8, "student": 0.6})
    for name, ablation in (("with", ABLATION), ("without", None)):
        evaluate(models, invented.patients, QUICK, 7, tmp_path / name, About("invented", ablation=ablation))
    page = (tmp_path / "with" / "report.html").read_text()
    assert "What each part is worth" in page
    assert "Inside lower grade" in page
    assert "see the ablation" in page
    assert (tmp_path / "with" / "figures" / "ablation.svg").exists()
    assert "What each part is worth" not in (tmp_path / "without" / "report.html").read_text()


def test_it_and_the_null_are_found_beside_the_report(tmp_path: Path, invented):
    folder = tmp_path / "data" / "x"
    ids = invented.patients["patient_id"]
    splits = pd.DataFrame({"patient_id": ids, "fold": 0, "role": np.where(np.arange(len(ids)) % 2, "test", "train")})
    tables = {"patients": invented.patients, "splits": splits, "expression": splits[["patient_id"]],
              "slides": splits[["patient_id"]]}  # fmt: skip
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", pa.Table.from_pandas(table, preserve_index=False), {})
    assert about_cohort("x", "survival", tmp_path).ablation is None
    null = {"value": 0.51, "ci_low": 0.4, "ci_high": 0.6, "passed": True}
    write_json(tmp_path / "reports/x/survival/ablation.json", ABLATION)
    write_json(tmp_path / "reports/x/nulls/survival.json", null)
    assert about_cohort("x", "survival", tmp_path).probes is None
    write_json(tmp_path / "reports/x/survival/probes.json", {"permutation_test": None})
    found = about_cohort("x", "survival", tmp_path)
    assert found.ablation == ABLATION
    assert found.probes == {"permutation_test": null}
    write_json(tmp_path / "reports/x/survival/probes.json", {"permutation_test": {"value": 0.49}})
    assert about_cohort("x", "survival", tmp_path).probes == {"permutation_test": {"value": 0.49}}
