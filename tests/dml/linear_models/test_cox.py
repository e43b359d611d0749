import numpy as np
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis

from dml.core.errors import InputError
from dml.linear_models.cox import Cox


def _data(patients=150, seed=0):
    random = np.random.default_rng(seed)
    columns = random.normal(size=(patients, 3))
    death = random.exponential(500 * np.exp(-columns[:, 0]))
    dropout = random.exponential(900, size=patients)
    return columns, np.minimum(death, dropout) + 1, death <= dropout


def test_with_hardly_a_penalty_it_is_the_textbook_model():
    columns, days, event = _data()
    y = np.array(list(zip(event, days, strict=True)), dtype=[("e", bool), ("d", float)])
    theirs = CoxPHSurvivalAnalysis(ties="efron", tol=1e-12).fit(columns, y)
    ours = Cox.fit(columns, days, event, 1e-9)
    centred = ours.risk(columns) - ours.risk(columns).mean()
    expected = theirs.predict(columns) - theirs.predict(columns).mean()
    np.testing.assert_allclose(centred, expected, atol=1e-3)


def test_survival_falls_with_time_and_risk():
    columns, days, event = _data()
    model = Cox.fit(columns, days, event, 0.1)
    survival = model.survival(columns, [100, 400, 10_000])
    assert survival.shape == (150, 3)
    assert (np.diff(survival, axis=1) <= 0).all()
    order = np.argsort(model.risk(columns))
    assert (np.diff(survival[order, 1]) <= 1e-12).all()
    assert model.survival(columns[:0], [100]).shape == (0, 1)


def test_without_convergence_the_penalty_is_raised_and_recorded(caplog):
    days = np.arange(1.0, 21.0)
    columns = np.c_[-days, (days <= 10) * 1.0]  # both predict the order of deaths perfectly
    model = Cox.fit(columns, days, np.ones(20, bool), 1e-5)
    assert model.penalty > 1e-5
    description = model.describe()
    assert description["penalty_requested"] == 1e-5
    assert description["penalty"] == model.penalty
    assert "did not converge, trying" in caplog.text
    assert np.isfinite(model.risk(columns)).all()


def test_without_a_death_it_says_so():
    columns, days, _ = _data(20)
    with pytest.raises(InputError, match="none of its training patients died"):
        Cox.fit(columns, days, np.zeros(20, bool), 0.1)
