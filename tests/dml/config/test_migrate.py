"""Old names: refused with the present one, and rewritten in a user's files with comments kept."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dml.config.migrate import migrate
from dml.config.params import Params, load, parse
from dml.config.renamed_keys import RENAMED, RENAMED_VALUES
from dml.core.errors import ConfigError

SMALL: dict[str, Any] = {"cohort": "demo", "tasks": ["survival"], "folds": [0, 1]}
OLD = """\
cohort: demo
tasks: [survival]   # or grade
folds: [0, 1]
model:
  references: 8    # per subspace
  linear: 5        # components
  linear_tasks: all
  width: 64
distillation: {student: tokens, linear: false}
tuning:
  warmup: 3
  teacher:
    model.linear: {type: int, low: 1, high: 9}
    teacher.disentangling: {type: float, low: 0, high: 1, when: {teacher.fusion: [true]}}
  distil:             # the student
    distillation.student: {type: categorical, choices: [tokens, generated_genes]}
"""


@pytest.mark.parametrize("old", RENAMED)
def test_every_old_key_is_refused_with_its_present_name(old: str) -> None:
    section, key = old.split(".")
    with pytest.raises(ConfigError) as error:
        parse(Params, {**SMALL, section: {key: 1}}, "params.yaml")
    assert f"{old}: renamed to {RENAMED[old]}" in str(error.value)
    assert "dml migrate" in str(error.value)


def test_every_present_name_exists() -> None:
    content = Params.model_validate(SMALL).model_dump()
    for name in RENAMED.values():
        value: Any = content
        for part in name.split("."):
            assert part in value, name
            value = value[part]
    assert set(RENAMED_VALUES) <= set(RENAMED.values())


def test_an_old_name_in_a_search_space_is_refused_with_its_present_name() -> None:
    domain = {"type": "float", "low": 0, "high": 1}
    for space in (
        {"teacher.disentangling": domain},
        {"teacher.disentanglement_weight": {**domain, "when": {"teacher.fusion": [True]}}},
    ):
        with pytest.raises(ConfigError, match=r"teacher\.\w+ was renamed to teacher\.\w+"):
            parse(Params, {**SMALL, "tuning": {"teacher": space}}, "params.yaml")


def test_params_yaml_is_rewritten_with_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(OLD)
    diff = migrate(path)
    params, text = load(path), path.read_text()
    assert (params.model.n_queries, params.model.width) == (8, 64)
    assert (params.model.linear_offset.components, params.model.linear_offset.tasks) == (5, "all")
    assert (params.distillation.architecture, params.distillation.use_linear_offset) == ("subspace_tokens", False)
    assert params.tuning.n_startup_trials == 3
    assert set(params.tuning.teacher) == {"model.linear_offset.components", "teacher.disentanglement_weight"}
    assert params.tuning.teacher["teacher.disentanglement_weight"].when == {"teacher.use_fusion": (True,)}
    (choices,) = yaml.safe_load(text)["tuning"]["student"].values()
    assert choices["choices"] == ["subspace_tokens", "gene_imputation"]
    for comment in ("# or grade", "# per subspace", "# components", "# the student"):
        assert comment in text
    assert "-  references: 8" in diff
    assert "tasks: [survival]" not in diff, "what is not renamed stays as it is"
    assert migrate(path) == "", "a second run does nothing"


def test_the_params_of_a_cohort_description_are_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    line = "description: " + "a long line stays one line, " * 8
    path.write_text(f"name: mine\n{line}\nparams:\n  optimisation: {{members: 5}}   # five\n")
    migrate(path)
    assert path.read_text().splitlines()[1] == line.rstrip()
    assert yaml.safe_load(path.read_text())["params"] == {"optimisation": {"ensemble_size": 5}}
    assert "# five" in path.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {references: 8, n_queries: 4}", "both references and n_queries"),
        ("model: {linear: 8, linear_offset: {components: 4}}", r"both linear and linear_offset\.components"),
        ("model: {references: many}", r"model\.n_queries"),
        ("model: [", "not YAML"),
        ("- a", "expected a mapping"),
    ],
)
def test_a_file_that_would_not_be_valid_is_left_alone(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    head = "" if text.startswith("-") else "cohort: demo\ntasks: [survival]\nfolds: [0, 1]\n"
    path.write_text(head + text + "\n")
    with pytest.raises(ConfigError, match=message):
        migrate(path)
    assert path.read_text() == head + text + "\n"
