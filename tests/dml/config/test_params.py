"""params.yaml fails at load, with the key, what was found and what is allowed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dml.config import params as config
from dml.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
SMALL: dict[str, Any] = {"cohort": "demo", "tasks": ["survival"], "folds": [0, 1]}


def load(folder: Path, content: Any) -> config.Params:
    (folder / "params.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return config.load(folder / "params.yaml")


def test_the_shipped_file_loads() -> None:
    assert config.load(ROOT / "params.yaml").folds == (0, 1, 2)


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    params = load(tmp_path, SMALL)
    assert (params.tiles.tile_px, params.split.test_population, params.evaluation.resamples) == (256, "paired", 2000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, r"epochs: unknown key; allowed here: .*optimisation"),
        ({"tiles": {"mpp": [0.5]}}, r"tiles\.mpp: unknown key; allowed here: max_failed, .*mpps"),
        ({"tiles": {"workers": "two"}}, r"tiles\.workers: .*integer.*, found 'two'"),
        ({"tiles": {"mpps": [0.5, 0.7]}}, r"mpps must be whole multiples of each other .* 0\.5 and 0\.7 are not"),
        ({"embed": {"source": "slide"}}, r"embed\.source: .*'slides' or 'import', found 'slide'"),
        (
            {"embed": {"source": "import", "stain_normalisation": "macenko"}},
            r"embed: .*stain_normalisation changes pixels, and source: import reads none",
        ),
        ({"split": {"validation_share": 1.5}}, r"split\.validation_share: .*less than 1, found 1\.5"),
        ({"folds": [0, 2]}, r"folds must be 0, 1, \.\.\. without a gap, found \[0, 2\]"),
        ({"tasks": []}, r"tasks: .*at least 1"),
        ({"model": {"width": 30, "heads": 4}}, r"width 30 is not a multiple of heads 4"),
        ({"inputs": {"clinical": ["age"], "covariates": ["age"]}}, r"covariates and clinical: age is there twice"),
        (
            {"inputs": {"clinical": ["age"]}, "distillation": {"architecture": "gene_imputation"}},
            r"inputs\.clinical: a student of distillation\.architecture: gene_imputation has none",
        ),
        ({"distillation": {"temperature": 0}}, r"distillation\.temperature\.\S+: .*greater than 0, found 0"),
        (
            {"distillation": {"temperature": {"survival": -1}}},
            r"distillation\.temperature\.\S+survival: .*than 0, found -1",
        ),
        (
            {"distillation": {"temperature": {"grade": 4}}},
            r"distillation\.temperature: no task 'grade'; tasks are survival",
        ),
        (
            {"distillation": {"targets": "slide"}},
            r"distillation\.targets: .*'fused', 'genes' or 'residual', found 'slide'",
        ),
        ({"distillation": {"teacher_members": "all"}}, r"distillation\.teacher_members: .*'matched' or 'mean', found"),
        (
            {"distillation": {"patient_weights": True}},
            r"distillation\.patient_weights: .*'none' or 'predictability', found",
        ),
        (
            {"distillation": {"targets": "residual", "architecture": "gene_imputation"}},
            r"distillation: .*targets: residual .* needs subspace_tokens",
        ),
        (
            {"distillation": {"targets": "residual"}, "model": {"linear_offset": {"components": 0}}},
            r"distillation\.targets: residual needs the linear model: model",
        ),
        (
            {"distillation": {"targets": "residual"}, "optimisation": {"shrinkage": None}},
            r"distillation\.targets: residual needs the linear model in predictions: optimisation\.shrinkage or",
        ),
        (
            {"distillation": {"targets": "genes"}, "teacher": {"use_unpaired": False}},
            r"distillation\.targets: genes needs a teacher that answers without slide",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load(tmp_path, {**SMALL, **changes})
    assert str(error.value).startswith(str(tmp_path / "params.yaml"))


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the file does not exist\. Run from the root of the repository"):
        config.load(tmp_path / "params.yaml")
    with pytest.raises(ConfigError, match="not YAML"):
        load(tmp_path, "cohort: [")


def test_pretraining_refuses_what_teaches_nothing_and_passes_over_the_current_cohort() -> None:
    for wrong in ({"expression_weight": 0, "contrast_weight": 0}, {"cohorts": ("a", "a")}, {"start": ("abmil",)}):
        with pytest.raises(ValidationError):
            config.Pretraining(**wrong)
    named = config.Pretraining(cohorts=("a", "b"))
    params = [config.Params(cohort=name, tasks=("grade",), folds=(0, 1), pretraining=named) for name in ("a", "c")]
    assert [each.other_cohorts for each in params] == [("b",), ("a", "b")]
    assert config.Params(cohort="a", tasks=("grade",), folds=(0, 1)).other_cohorts == ()
