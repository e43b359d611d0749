"""Tables of the generated cohort: patients, slides and expression as a hospital would provide them, and the truth."""

import gzip
from pathlib import Path

import pandas as pd

from dml.core.files import atomic, write_json
from dml.demo.expression import draw_expression
from dml.demo.factors import DemoConfig
from dml.demo.oracle import score_planted_factors
from dml.demo.survival import draw_labels, draw_survival, planted_risk

TABLES = ("patients.csv", "slides.csv", "expression.csv.gz", "oracle.csv", "oracle.json")
"""Files that `write_tables` writes."""


def write_tables(folder: Path, config: DemoConfig, planted: pd.DataFrame, slides: pd.DataFrame) -> None:
    """Write all tables. The oracle files hold the planted truth, for comparison only: no cohort reads them."""
    patients = build_patient_table(config, planted)
    missing = draw_missing(config, planted, "expression", config.without_expression)
    _write_csv(folder / "patients.csv", patients)
    _write_csv(folder / "slides.csv", build_slide_table(slides))
    _write_csv(folder / "expression.csv.gz", draw_expression(config, planted)[~missing.to_numpy()].reset_index())
    truth = planted[["patient_id", "tumor", "tme"]].assign(
        risk=planted_risk(planted), risk_with_age=planted_risk(planted, with_age=True)
    )
    _write_csv(folder / "oracle.csv", truth.round(6))
    write_json(folder / "oracle.json", {**score_planted_factors(planted, patients), "recipe": config.as_dict()})


def build_patient_table(config: DemoConfig, planted: pd.DataFrame) -> pd.DataFrame:
    """Return the patient table [p] with missing entries: follow-up and each label are missing in different patients."""
    tables = [
        planted[["patient_id", "site", "age", "sex"]],
        draw_survival(config, planted),
        draw_labels(config, planted),
    ]
    table = pd.concat(tables, axis=1).astype({"survival_days": "Int64", "event": "Int64"})
    for k, columns in enumerate((["survival_days", "event"], ["grade"], ["diagnosis"])):
        table.loc[draw_missing(config, planted, "entries", config.missing, block=k), columns] = None
    return table


def draw_missing(config: DemoConfig, planted: pd.DataFrame, stream: str, share: float, block: int = 0) -> pd.Series:
    """Return a mask [p] of exactly a share of the patients; different blocks of one stream are disjoint."""
    count = round(share * config.patients)
    order = config.stream("missing", len(stream)).permutation(config.patients)
    return pd.Series((order >= block * count) & (order < (block + 1) * count), index=planted.index)


def build_slide_table(slides: pd.DataFrame) -> pd.DataFrame:
    """Return slide_id, patient_id and path (relative to the raw folder)."""
    return slides[["slide_id", "patient_id"]].assign(path="slides/" + slides["slide_id"] + ".tif")


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    content = table.to_csv(index=False, lineterminator="\n").encode()
    with atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
