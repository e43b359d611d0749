"""Search spaces: what is drawn, what is refused and by which name, what `dml apply` writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from dml.config.params import Params, load
from dml.config.rewrite_yaml import rewrite
from dml.core.errors import ConfigError
from dml.experiments.tuning.search_space import Space, nest, override

ROOT = Path(__file__).resolve().parents[4]
RATE = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}


def params(space: Mapping[str, Any], kind: str = "teacher", **changes: Any) -> Params:
    tuning = {kind: space, **changes.pop("tuning", {})}
    return Params.model_validate({"cohort": "c", "tasks": ["survival"], "folds": [0, 1], "tuning": tuning, **changes})


def drawn(found: Params, number: int = 50) -> list[dict[str, Any]]:
    study, space = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)), Space.of(found, "teacher")
    return [space.suggest(study.ask(), found) for _ in range(number)]


def test_values_are_drawn_with_their_type_and_as_params_yaml_will_print_them() -> None:
    found = params(
        {
            "optimisation.learning_rate": RATE,
            "model.heads": {"type": "int", "low": 1, "high": 2},
            "teacher.use_gradient_coordination": {"type": "categorical", "choices": [True, False]},
        }
    )
    trials = drawn(found)
    rates = [trial["optimisation.learning_rate"] for trial in trials]
    assert all(1e-4 <= rate <= 1e-2 and rate == float(f"{rate:.4g}") for rate in rates)
    assert sum(rate < 1e-3 for rate in rates) > 15  # log: a decade is half of the range
    assert {trial["model.heads"] for trial in trials} == {1, 2}
    assert {trial["teacher.use_gradient_coordination"] for trial in trials} == {True, False}
    assert override(found, trials[0]).optimisation.learning_rate == rates[0]


def test_a_conditional_value_is_drawn_only_under_its_condition() -> None:
    when = {"teacher.use_fusion": [True]}
    space = {
        "teacher.disentanglement_weight": {"type": "float", "low": 0, "high": 1, "when": when},
        "teacher.use_fusion": {"type": "categorical", "choices": [True, False]},
    }
    for trial in drawn(params(space)):
        assert ("teacher.disentanglement_weight" in trial) == trial["teacher.use_fusion"]


def test_the_first_trial_is_params_yaml_as_it_is() -> None:
    found = load(ROOT / "params.yaml")
    assert Space.of(found, "teacher").current(found)["optimisation.learning_rate"] == found.optimisation.learning_rate
    assert Space.of(found, "student").current(found)["distillation.aggregation"] == found.distillation.aggregation


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (
            {"optimisation.speed": RATE},
            r"tuning\.teacher\.optimisation\.speed: no parameter .*learning_rate",
        ),
        (
            {"split.validation_share": RATE},
            r"teacher\.split\.validation_share: a teacher study tunes model\.\*",
        ),
        ({"model.dropout": {**RATE, "high": 2.0}}, r"tuning\.teacher\.model\.dropout: 2\.0 is no value"),
        ({"model.width": {"type": "categorical", "choices": [64, "wide"]}}, r"tuning\.teacher\.model\.width: 'wide'"),
        (
            {"inputs.time_bins": {"type": "int", "low": 2, "high": 8}},
            r"inputs\.time_bins: losses of different",
        ),
        (
            {"model.dropout": {**RATE, "when": {"model.mood": ["good"]}}},
            r"model\.dropout\.when: no parameter",
        ),
        ({}, r"tuning\.teacher: empty"),
    ],
)
def test_a_wrong_space_is_refused_by_the_name_of_its_key(space: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Space.of(params(space), "teacher")


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        ({"type": "float", "low": 2, "high": 1}, "low 2 must be below high 1"),
        ({"type": "float", "low": 0, "high": 1, "log": True}, "above 0 if log"),
        ({"type": "int", "low": 0.5, "high": 3}, "must be whole"),
        ({"type": "float", "lo": 0, "high": 1}, "unknown key; allowed here: high, log, low"),
        ({"type": "fload", "low": 0, "high": 1}, "fload"),
    ],
)
def test_a_wrong_domain_is_refused_when_params_yaml_is_loaded(tmp_path: Path, domain: object, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"cohort: c\ntasks: [survival]\nfolds: [0, 1]\ntuning: {{teacher: {{model.dropout: {domain}}}}}\n")
    with pytest.raises(ConfigError, match=r"tuning\.teacher\.model\.dropout") as error:
        load(path)
    assert said in str(error.value)


def test_a_distillation_study_does_not_tune_what_is_the_teachers() -> None:
    with pytest.raises(ConfigError, match=r"student\.optimisation\.learning_rate: a student study tunes distill"):
        Space.of(params({"optimisation.learning_rate": RATE}, "student"), "student")


def test_values_outside_the_space_are_no_first_trial() -> None:
    found = params({"optimisation.learning_rate": RATE}, optimisation={"learning_rate": 0.5})
    with pytest.raises(ConfigError, match=r"learning_rate: 0\.5 of params\.yaml is outside 0\.0001 to 0\.01"):
        Space.of(found, "teacher").current(found)


def test_values_are_written_with_comments_kept_and_the_change_shown(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text()
    path.write_text(before)
    values = {
        "optimisation.learning_rate": 1e-5,
        "teacher.use_gradient_coordination": False,
        "distillation.temperature": 3.5,
        "model.linear_offset.components": 7,
    }
    diff = rewrite(path, lambda content: [nest(values)], "trial 3", "values")
    after = load(path)
    assert after == override(load(ROOT / "params.yaml"), values)
    assert [line[1:].strip() for line in diff.splitlines() if line.startswith("+ ")] == [
        "components: 7             # principal components of each source; "
        "null: one for three patients, at most 15; 0 = off",
        "learning_rate: 1.0e-05",
        "use_gradient_coordination: false # confidence-guided gradient coordination",
        "temperature: 3.5              # or by task: {survival: 2.0, grade: 4.0}",
    ]
    changed = [line for line in path.read_text().splitlines() if line not in before.splitlines()]
    assert len(changed) == 4
    assert rewrite(path, lambda content: [nest(values)], "trial 3", "values") == ""


def test_nothing_is_written_if_params_yaml_would_not_be_valid(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("cohort: c\ntasks: [survival]\nfolds: [0, 1]\n# mine\nmodel: {width: 128, heads: 4}\n")
    before = path.read_text()
    with pytest.raises(ConfigError, match="width 128 is not a multiple of heads 3"):
        rewrite(path, lambda content: [{"model": {"heads": 3}}], "x", "y")
    assert path.read_text() == before


def test_a_parameter_that_does_not_exist_is_not_set() -> None:
    found = load(ROOT / "params.yaml")
    assert override(found, {"distillation.temperature": {"grade": 4}}).distillation.temperature_of("grade") == 4
    for name in ("distilation.targets", "distillation.target", "distillation"):
        with pytest.raises(ConfigError, match=rf"params\.yaml: no parameter '{name}'; there are "):
            override(found, {name: "genes"})


def test_a_temperature_for_each_task_is_not_tuned_as_one_number() -> None:
    space = {"distillation.temperature": {"type": "float", "low": 1, "high": 8}}
    found = params(space, "student", distillation={"temperature": {"survival": 4}})
    message = r"tuning\.student\.distillation\.temperature: params\.yaml has a value for each"
    with pytest.raises(ConfigError, match=message):
        Space.of(found, "student").current(found)
