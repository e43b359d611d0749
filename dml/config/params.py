"""params.yaml as frozen types, one class a section; an unknown key or a wrong type fails at load."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dml.config.base import Section as Section
from dml.config.base import parse as parse
from dml.core.errors import ConfigError

Share = float
Severity = Literal["error", "warning", "ignore"]


class Tiles(Section):
    """How slides are cut: at each resolution, square tiles whose grids nest."""

    mpps: tuple[PositiveFloat, ...] = Field((0.5, 1.0), min_length=1, description="microns per pixel; 0.5 = 20x")
    tile_px: PositiveInt = 256
    min_tissue: float = Field(0.5, ge=0, le=1, description="share of a tile that must be tissue")
    min_tissue_coarse: float | None = Field(
        None, ge=0, le=1, description="the same for coarser grids; default min_tissue; less keeps more small tissue"
    )
    max_tiles: PositiveInt = Field(5000, description="per slide and resolution; an evenly spread subset beyond it")
    workers: PositiveInt = 2
    max_failed: Share = Field(0.1, ge=0, le=1, description="share of slides that may fail before the stage does")

    @model_validator(mode="after")
    def _nested(self) -> "Tiles":
        ordered = sorted(self.mpps)
        for fine, coarse in pairwise(ordered):
            ratio = coarse / fine
            if abs(ratio - round(ratio)) > 1e-6 or round(ratio) < 2:
                raise ValueError(
                    f"mpps must be whole multiples of each other so that tiles nest; {fine} and {coarse} are not"
                )
        return self


class Embed(Section):
    """Which encoder turns tiles into tokens. `source` import = features were extracted elsewhere."""

    source: Literal["slides", "import"] = "slides"
    encoder: str = "efficientnet_lite0"
    batch_size: PositiveInt = 32
    workers: PositiveInt = 2
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"


class Scale(Section):
    """What does the work on slides. Results are the same bits, so no stage depends on this section."""

    engine: Literal["local", "ray"] = "local"
    address: str | None = Field(None, description="of a Ray cluster; default RAY_ADDRESS, else Ray on this machine")
    retries: int = Field(3, ge=0, description="how often a slide is begun again whose Ray process or machine died")


class Checks(Section):
    """Thresholds of the cohort checks."""

    min_gene_coverage: Share = Field(0.8, ge=0, le=1, description="share of each gene group that must be measured")
    min_patients: PositiveInt = 20
    max_failed_slides: Share = Field(0.1, ge=0, le=1)
    min_class_size: PositiveInt = 5
    min_site_patients: PositiveInt = Field(10, description="sites of fewer patients are not compared with the rest")
    max_drift: Share = Field(0.25, ge=0, le=1, description="share of genes or feature dimensions a site may be off in")
    severity: dict[str, Severity] = Field(
        default_factory=dict, description="<sheet>.<rule> as the summary names it: error, warning or ignore"
    )


Tested = Literal["paired", "slide"]


class Split(Section):
    """Patient-level folds; `stratify` names the columns that are balanced; `group_sites` keeps a site in one fold."""

    test_population: Tested = Field(
        "paired", description="patients with slide and transcriptome, or all with a slide; the others are learnt from"
    )
    validation_share: Share = Field(0.2, gt=0, lt=1)
    stratify: tuple[str, ...] = ("event",)
    group_sites: bool = False


class Inputs(Section):
    """What beside slide and transcriptome the models see."""

    covariates: tuple[str, ...] = Field((), description="clinical columns known wherever a slide is: age, sex")
    time_bins: PositiveInt = Field(4, ge=2, description="discrete-time bins, quantiles of the training events")
    auxiliary: tuple[str, ...] = Field((), description="labels of training patients learnt beside the task, see there")


class LinearOffset(Section):
    """The linear model whose prediction is added to the logits (an offset in the sense of a GLM)."""

    components: int = Field(0, ge=0, description="principal components of each source; 0 = no offset")
    tasks: Literal["survival", "all"] = Field("survival", description="tasks that get an offset")


class Model(Section):
    """Dimensions of teacher and student."""

    width: PositiveInt = 128
    heads: PositiveInt = 4
    n_queries: PositiveInt = Field(16, description="reference points per subspace and resolution")
    gene_width: PositiveInt = 128
    dropout: float = Field(0.25, ge=0, lt=1)
    linear_offset: LinearOffset = LinearOffset()
    token_dropout: float = Field(0.1, ge=0, lt=1, description="share of tokens hidden in training")

    @model_validator(mode="after")
    def _divisible(self) -> "Model":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Optimisation(Section):
    """The one training loop. Schedule in steps: linear warm-up, cosine to zero at the last step."""

    epochs: PositiveInt = 40
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 3e-4
    weight_decay: float = Field(1e-2, ge=0)
    warmup_fraction: Share = Field(0.1, ge=0, lt=1)
    patience: PositiveInt = Field(10, description="epochs without a better validation loss before stopping")
    grad_clip_norm: PositiveFloat = 1.0
    cox_loss_weight: Share = Field(
        0.0, ge=0, le=1, description="share of the Cox partial likelihood in the survival loss"
    )
    threads: PositiveInt = Field(1, description="CPU threads of a training step; small bags gain nothing from more")
    workers: PositiveInt = Field(1, description="processes that train the members of a model on a CPU; same results")
    ensemble_size: PositiveInt = Field(
        1, description="models per fold; they differ by seed and validation part, and their predictions are averaged"
    )
    max_tokens: PositiveInt | None = Field(
        None, description="padded tokens at a time: larger batches are learnt in passes whose gradients add up"
    )
    device: str = "auto"
    devices: PositiveInt = Field(
        1, description="GPUs, or on a CPU processes, that share every step's patients; needs Lightning Fabric"
    )
    compile: bool = Field(
        False, description="torch.compile of the token projection: 6 s at every member's start; no gain on a CPU"
    )
    precision: Literal["float32", "medium", "bfloat16"] = Field(
        "float32", description="medium: factors of matrix products are rounded to bfloat16; bfloat16: autocast"
    )


class Teacher(Section):
    """Switches and weights of the teacher's contributions (the ablation table turns each off)."""

    use_fusion: bool = Field(True, description="disentangled subspace fusion; off = one shared space")
    use_gradient_coordination: bool = Field(True, description="confidence-guided gradient coordination")
    consistency_weight: float = Field(0.1, ge=0, description="weight of the inter-magnification consistency; 0 = off")
    consistency_target: Literal["attention", "expression"] = Field(
        "attention", description="magnifications must look at the same tissue, or tell the same genes from it"
    )
    disentanglement_weight: float = Field(
        0.0, ge=0, description="weight of the distance correlation between the subspaces; 0 = off"
    )
    auxiliary_weight: float = Field(0.0, ge=0, description="weight of inputs.auxiliary in training; 0 = off")
    modality_dropout: Share = Field(0.2, ge=0, lt=1, description="share of transcriptomes hidden in training")
    use_unpaired: bool = Field(True, description="learn from labelled patients without transcriptome, too")


class Distillation(Section):
    """Switches and weights of the student."""

    feature_weight: float = Field(1.0, ge=0, description="weight of the feature distillation; 0 = off")
    prediction_weight: float = Field(1.0, ge=0, description="weight of the prediction distillation; 0 = off")
    temperature: PositiveFloat = 2.0
    auxiliary_weight: float = Field(0.0, ge=0, description="weight of inputs.auxiliary in training; 0 = off")
    architecture: Literal["subspace_tokens", "gene_imputation"] = Field(
        "subspace_tokens", description="its own network, or the teacher with gene embeddings imputed from the slide"
    )
    aggregation: Literal["subspace_queries", "density_peaks", "none"] = "subspace_queries"
    use_unpaired: bool = Field(True, description="learn from patients without transcriptome or without label, too")
    use_linear_offset: bool = Field(
        True, description="add the slide's linear offset, where model.linear_offset has one"
    )


class Evaluation(Section):
    """Resampling and time points of the evaluation."""

    resamples: PositiveInt = 2000
    confidence: Share = Field(0.95, gt=0, lt=1)
    years: tuple[PositiveFloat, ...] = (1.0, 2.0, 3.0, 5.0)
    subgroups: dict[str, dict[str, tuple[str, ...]]] = Field(
        default_factory=dict, description="name: {column: allowed values}; metrics are repeated inside each"
    )
    min_patients: PositiveInt = Field(20, description="a row of the subgroup table has as many test patients")
    min_events: PositiveInt = Field(10, description="... and deaths, or patients outside its commonest class")
    adjust_for: tuple[str, ...] = Field(
        ("age", "sex", "grade", "idh"), description="columns beside the risk group in the Cox model, where known"
    )


class Probes(Section):
    """What the models rely on: genes hidden or exchanged, site, subspaces, shuffled outcomes."""

    missing_fractions: tuple[Share, ...] = Field(
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), description="shares of test patients whose transcriptome is hidden"
    )
    repeats: PositiveInt = Field(5, description="random orders of hiding, and exchanges between patients")
    components: PositiveInt = Field(3, description="principal components of each gene group to be predicted")
    min_site_patients: PositiveInt = Field(5, description="training patients of a site that is to be recognised")
    permutations: int = Field(0, ge=0, description="trainings per fold on shuffled outcomes; 0 = none")


class Baselines(Section):
    """References under the same folds: classical ones, always, and the deep ones that are named."""

    components: PositiveInt = Field(15, description="principal components before the penalised model")
    penalty: PositiveFloat = 0.1
    deep: tuple[str, ...] = Field(("abmil", "genes_snn"), description="names in dml/models/baselines/deep")


class Promotion(Section):
    """Gates between a registered challenger and the alias champion."""

    floors: dict[str, float] = Field({"c_index": 0.6, "auc": 0.6}, description="lowest value of a metric")
    calibration: dict[str, tuple[float, float]] = Field(
        {"calibration_slope": (0.4, 2.5), "ece": (0.0, 0.25)}, description="lowest and highest value of a measure"
    )
    subgroup_floor: float = Field(0.5, description="lowest main metric inside each subgroup of evaluation.subgroups")
    max_teacher_gap: float = Field(0.1, ge=0, description="how far below its teacher's main metric a student may be")
    non_inferiority_margin: float = Field(
        0.05, ge=0, description="how far below the champion's main metric the challenger may be"
    )
    confidence: Share = Field(0.9, gt=0, lt=1, description="of the interval of the paired difference")


Scalar = bool | int | float | str


class Domain(Section):
    """Where a study looks for one value; with `when`, only where other parameters have one of some values."""

    when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict, description="dotted name: values")


class Range(Domain):
    """Numbers, or whole numbers, between two bounds; both are included."""

    type: Literal["float", "int"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}, and above 0 if log")
        if self.type == "int" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"bounds {self.low:g} and {self.high:g} of an int must be whole")
        return self


class Choices(Domain):
    """One of some values."""

    type: Literal["categorical"]
    choices: tuple[Scalar, ...] = Field(min_length=1)


SearchSpace = dict[str, Annotated[Range | Choices, Field(discriminator="type")]]


class Tuning(Section):
    """Studies of Optuna: how trials are judged (inner validation only) and where each kind of study looks."""

    objective: Literal["validation_loss", "c_index", "auc"] = "validation_loss"
    second_objective: Literal["none", "gflops"] = Field(
        "none", description="a second objective; then nothing is pruned"
    )
    sampler: Literal["tpe", "gp", "nsga2", "random"] = "tpe"
    n_startup_trials: PositiveInt = Field(5, description="complete trials before one may be pruned")
    min_epochs_before_pruning: int = Field(
        5, ge=0, description="epochs of a fold before a trial may be pruned inside it"
    )
    folds: tuple[int, ...] = Field((), description="averaged over; empty = all")
    ensemble_size: int = Field(0, ge=0, description="models per fold of a trial; 0 = optimisation.ensemble_size")
    teacher: SearchSpace = Field(default_factory=dict, description="dotted name of a parameter: where to look")
    student: SearchSpace = Field(default_factory=dict, description="dotted name of a parameter: where to look")


class Params(Section):
    """The whole of params.yaml."""

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
    teacher: Teacher = Teacher()
    distillation: Distillation = Distillation()
    baselines: Baselines = Baselines()
    evaluation: Evaluation = Evaluation()
    probes: Probes = Probes()
    promotion: Promotion = Promotion()
    tuning: Tuning = Tuning()

    @model_validator(mode="after")
    def _folds_in_order(self) -> "Params":
        if self.folds != tuple(range(len(self.folds))):
            raise ValueError(f"folds must be 0, 1, ... without a gap, found {list(self.folds)}")
        return self


def load(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml.

    Raises
    ------
    ConfigError
        If it is missing, not YAML, or has an unknown key or a wrong value.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: the file does not exist. Run from the root of the repository") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    params: Params = parse(Params, content, str(path))
    return params
