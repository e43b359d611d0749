"""params.yaml as one frozen type; an unknown key or a wrong value is refused at load."""

from pathlib import Path

from pydantic import Field, model_validator

from dml.config.base import Section as Section
from dml.config.base import parse as parse
from dml.config.data_sections import Checks as Checks
from dml.config.data_sections import Embed as Embed
from dml.config.data_sections import Inputs as Inputs
from dml.config.data_sections import Scale as Scale
from dml.config.data_sections import Severity as Severity
from dml.config.data_sections import Split as Split
from dml.config.data_sections import TestPopulation as TestPopulation
from dml.config.data_sections import Tiles as Tiles
from dml.config.evaluation_sections import CaseBank as CaseBank
from dml.config.evaluation_sections import Evaluation as Evaluation
from dml.config.evaluation_sections import Probes as Probes
from dml.config.evaluation_sections import Promotion as Promotion
from dml.config.evaluation_sections import SpatialComparison as SpatialComparison
from dml.config.evaluation_sections import Teachability as Teachability
from dml.config.model_sections import Baselines as Baselines
from dml.config.model_sections import Distillation as Distillation
from dml.config.model_sections import LinearOffset as LinearOffset
from dml.config.model_sections import Model as Model
from dml.config.model_sections import Optimisation as Optimisation
from dml.config.model_sections import Pretraining as Pretraining
from dml.config.model_sections import Teacher as Teacher
from dml.config.tuning_section import Choices as Choices
from dml.config.tuning_section import Domain as Domain
from dml.config.tuning_section import Range as Range
from dml.config.tuning_section import Scalar as Scalar
from dml.config.tuning_section import Tuning as Tuning
from dml.core import limits
from dml.core.errors import ConfigError
from dml.core.limits import Limits as Limits
from dml.core.yaml_files import read_yaml


class Params(Section):
    """The whole of params.yaml.

    Examples
    --------
    >>> params = Params(cohort="demo", tasks=["survival"], folds=[0, 1], optimisation=Optimisation(epochs=10))
    >>> params.optimisation.epochs, params.model.width
    (10, 128)
    """

    cohort: str
    tasks: tuple[str, ...] = Field(min_length=1, description="survival, or the name of a label of the cohort")
    folds: tuple[int, ...] = Field(min_length=2)
    seed: int = 0
    tiles: Tiles = Tiles()
    embed: Embed = Embed()
    scale: Scale = Scale()
    checks: Checks = Checks()
    split: Split = Split()
    inputs: Inputs = Inputs()
    model: Model = Model()
    optimisation: Optimisation = Optimisation()
    pretraining: Pretraining = Pretraining()
    teacher: Teacher = Teacher()
    distillation: Distillation = Distillation()
    baselines: Baselines = Baselines()
    evaluation: Evaluation = Evaluation()
    teachability: Teachability = Teachability()
    probes: Probes = Probes()
    case_bank: CaseBank = CaseBank()
    spatial_validation: SpatialComparison = SpatialComparison()
    promotion: Promotion = Promotion()
    tuning: Tuning = Tuning()
    limits: Limits = Limits()

    @property
    def other_cohorts(self) -> tuple[str, ...]:
        """Cohorts whose pairs networks are pretrained on: those of `pretraining.cohorts` but the current one."""
        return tuple(name for name in self.pretraining.cohorts if name != self.cohort)

    @model_validator(mode="after")
    def _folds_in_order(self) -> "Params":
        if self.folds != tuple(range(len(self.folds))):
            raise ValueError(f"folds must be 0, 1, ... without a gap, found {list(self.folds)}")
        return self

    @model_validator(mode="after")
    def _distillation_is_possible(self) -> "Params":
        temperature, targets = self.distillation.temperature, self.distillation.targets
        if isinstance(temperature, dict) and (unknown := sorted(set(temperature) - set(self.tasks))):
            tasks = ", ".join(self.tasks)
            raise ValueError(f"distillation.temperature: no task {unknown[0]!r}; tasks are {tasks}")
        if self.inputs.clinical and self.distillation.architecture == "gene_imputation":
            raise ValueError("inputs.clinical: a student of distillation.architecture: gene_imputation has none")
        if targets == "genes" and not self.teacher.use_unpaired:
            raise ValueError("distillation.targets: genes needs a teacher that answers without slide: use_unpaired")
        if targets == "residual" and self.model.linear_offset.components == 0:
            raise ValueError("distillation.targets: residual needs the linear model: model.linear_offset.components")
        if targets == "residual" and self.optimisation.shrinkage is None and not self.distillation.use_linear_offset:
            needed = "optimisation.shrinkage or distillation.use_linear_offset"
            raise ValueError(f"distillation.targets: residual needs the linear model in predictions: {needed}")
        return self


def load(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml; its limits on foreign files hold from then on, in this process and those it starts.

    Raises
    ------
    ConfigError
        If it is missing, not YAML, or has an unknown key or a wrong value.
    """
    if not path.exists():
        raise ConfigError(f"{path}: the file does not exist. Run from the root of the repository")
    params: Params = parse(Params, read_yaml(path), str(path))
    limits.apply(params.limits)
    return params
