import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from dml.evaluation.hazard import fit_hazard_ratios
from dml.evaluation.results import assign_risk_groups, read_results


@pytest.fixture
def teacher(tmp_path, invented):
    return read_results(invented.write(tmp_path, "survival", {"teacher": 0.8})).models["teacher"]


def test_alone_it_is_the_plain_cox_model(teacher, invented):
    found = fit_hazard_ratios(teacher, invented.patients, ["age", "sex", "grade"])
    table = pd.DataFrame(
        {"high": assign_risk_groups(teacher), "days": teacher.rows["days"], "event": teacher.rows["event"]}
    )
    plain = CoxPHFitter().fit(table, "days", "event").summary.loc["high"]
    assert found.unadjusted.ratio == pytest.approx(plain["exp(coef)"])
    assert (found.patients, found.deaths) == (120, int(teacher.rows["event"].sum()))


def test_what_explains_the_prognosis_takes_from_the_group(teacher, invented):
    known = invented.patients.assign(age=50 + 10 * invented.latent)
    found = fit_hazard_ratios(teacher, known, ["age", "sex"])
    assert [row.column for row in found.adjusted] == ["high_risk", "age, per 10 y", "female"]
    assert found.adjusted[0].ratio < found.unadjusted.ratio


def test_rare_values_and_mostly_unknown_labels_do_not_join(teacher, invented):
    labels = {"rare": ["x"] * 3 + ["y"] * 117, "unknown": [None] * 60 + ["a"] * 30 + ["b"] * 30}
    found = fit_hazard_ratios(teacher, invented.patients.assign(**labels), ["age", "sex", *labels])
    assert [row.column for row in found.adjusted] == ["high_risk", "age, per 10 y", "female"]


def test_patients_with_an_unknown_value_are_in_neither(teacher, invented):
    known = invented.patients.copy()
    known.loc[:9, "age"] = np.nan
    assert fit_hazard_ratios(teacher, known, ["age", "sex"]).patients == 110


def test_too_few_deaths_give_nothing(teacher, invented):
    few = teacher.rows.assign(event=np.arange(120) < 3)
    assert (
        fit_hazard_ratios(type(teacher)("teacher", few, teacher.training), invented.patients, ["age", "sex", "grade"])
        is None
    )
