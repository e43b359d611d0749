"""The tables of the generated cohort as files: what a hospital would hand over, and beside it the planted truth."""

import gzip
from pathlib import Path

import pandas as pd

from dml.core.files import atomic, write_json
from dml.demo.expression import draw_expression
from dml.demo.factors import DemoConfig
from dml.demo.oracle import oracle
from dml.demo.survival import draw_labels, draw_survival, planted_risk

TABLES = ("patients.csv", "slides.csv", "expression.csv.gz", "oracle.csv", "oracle.json")
"""What `write_tables` writes."""


def write_tables(folder: Path, recipe: DemoConfig, planted: pd.DataFrame, slides: pd.DataFrame) -> None:
    """Write all tables. The oracle files hold the truth, for comparison only: no cohort description names them."""
    patients = patient_table(recipe, planted)
    known = without(recipe, planted, "expression", recipe.without_expression)
    _write_csv(folder / "patients.csv", patients)
    _write_csv(folder / "slides.csv", slide_table(slides))
    _write_csv(folder / "expression.csv.gz", draw_expression(recipe, planted)[~known.to_numpy()].reset_index())
    truth = planted[["patient_id", "tumor", "tme"]].assign(
        risk=planted_risk(planted), risk_with_age=planted_risk(planted, with_age=True)
    )
    _write_csv(folder / "oracle.csv", truth.round(6))
    write_json(folder / "oracle.json", {**oracle(planted, patients), "recipe": recipe.content()})


def patient_table(recipe: DemoConfig, planted: pd.DataFrame) -> pd.DataFrame:
    """Return the patient table with its missing entries [p]: follow-up and labels, each of other patients."""
    drawn = [
        planted[["patient_id", "site", "age", "sex"]],
        draw_survival(recipe, planted),
        draw_labels(recipe, planted),
    ]
    table = pd.concat(drawn, axis=1).astype({"survival_days": "Int64", "event": "Int64"})
    for k, columns in enumerate((["survival_days", "event"], ["grade"], ["diagnosis"])):
        table.loc[without(recipe, planted, "entries", recipe.missing, turn=k), columns] = None
    return table


def without(recipe: DemoConfig, planted: pd.DataFrame, what: str, share: float, turn: int = 0) -> pd.Series:
    """Return which patients [p] lack something: exactly a share of them; another `turn` is other patients."""
    count = round(share * recipe.patients)
    order = recipe.stream("missing", len(what)).permutation(recipe.patients)
    return pd.Series((order >= turn * count) & (order < (turn + 1) * count), index=planted.index)


def slide_table(slides: pd.DataFrame) -> pd.DataFrame:
    """Return slide_id, patient_id and path (relative to the raw folder)."""
    return slides[["slide_id", "patient_id"]].assign(path="slides/" + slides["slide_id"] + ".tif")


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    content = table.to_csv(index=False, lineterminator="\n").encode()
    with atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
