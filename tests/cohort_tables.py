"""A small cohort in plain tables, to be broken by tests one piece at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dml.cohorts.description import CohortDescription
from dml.cohorts.stores import build_cohort, write_cohort
from dml.config.params import parse

GENES = [f"G{i}" for i in range(30)]


def plain(count: int = 24) -> dict[str, pd.DataFrame]:
    """Tables in which nothing is wrong: two slides for the first patient, no expression for the last two."""
    rng = np.random.default_rng(3)
    ids = [f"P{i:02d}" for i in range(count)]
    patients = pd.DataFrame(
        {
            "patient": ids,
            "hospital": [f"H{i % 3}" for i in range(count)],
            "months": np.round(rng.uniform(1, 60, count), 2),
            "dead": [i % 2 for i in range(count)],
            "age": rng.integers(20, 80, count),
            "sex": ["F" if i % 3 else "M" for i in range(count)],
            "grade": ["low" if i % 2 else "high" for i in range(count)],
        }
    )
    slides = pd.DataFrame({"slide": [f"{p}-S1" for p in ids] + ["P00-S2"], "patient": [*ids, "P00"]})
    slides["file"] = "slides/" + slides["slide"] + ".tif"
    measured = ids[:-2]
    expression = pd.DataFrame(rng.uniform(0, 10, (len(measured), len(GENES))).round(4), columns=GENES)
    expression.insert(0, "patient", measured)
    return {"patients": patients, "slides": slides, "expression": expression}


def content(raw: Path) -> dict[str, Any]:
    """The description of `plain` as a YAML would say it."""
    return {
        "name": "plain",
        "raw": str(raw),
        "patients": [
            {
                "file": "patients.csv",
                "id": "patient",
                "site": "hospital",
                "survival": {"time": "months", "unit": "months", "event": "dead", "dead": [1], "alive": [0]},
                "age": {"column": "age"},
                "sex": {"column": "sex", "female": "F", "male": "M"},
            }
        ],
        "labels": {"grade": {"classes": ["low", "high"], "sources": [{"table": "patients", "column": "grade"}]}},
        "slides": {"table": {"file": "slides.csv", "id": "slide", "patient": "patient", "path": "file"}},
        "expression": {
            "file": "expression.csv",
            "orientation": "patients_as_rows",
            "id": "patient",
            "unit": "log2_tpm",
        },
        "gene_groups": {
            "tumor": [{"file": "sets.csv", "kind": "columns", "select": ["tumor"]}],
            "tme": [{"file": "sets.csv", "kind": "columns", "select": ["tme"]}],
        },
    }


Describe = Callable[..., CohortDescription]


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    return plain()


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    """Write tables, return their description; keyword arguments replace top-level keys of it."""

    def written(tables: dict[str, pd.DataFrame], **changes: Any) -> CohortDescription:
        raw = tmp_path / "raw"
        (raw / "slides").mkdir(parents=True, exist_ok=True)
        for name, frame in tables.items():
            frame.to_csv(raw / f"{name}.csv", index=False)
        sets = {"tumor": GENES[:15], "tme": GENES[12:27]}
        pd.DataFrame(sets).to_csv(raw / "sets.csv", index=False)
        description: CohortDescription = parse(CohortDescription, {**content(raw), **changes}, "plain.yaml")
        return description

    return written


@pytest.fixture
def built(describe: Describe, tables: dict[str, pd.DataFrame], tmp_path: Path) -> CohortDescription:
    """Stores of a cohort in which nothing is wrong."""
    description = describe(tables)
    for name in tables["slides"]["file"]:
        (description.raw_folder / name).write_text("x")
    write_cohort(tmp_path / "data", description, build_cohort(description))
    return description
