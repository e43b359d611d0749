"""Sections of params.yaml about models: architecture, optimisation, the teacher, the student, baselines."""

from typing import Literal, NamedTuple

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from dml.config.base import Fraction, Section

SMALL_COHORT, SMALL_BATCH = 200, 16
"""Patients below which batches are small, and their size; twice as large otherwise."""
STEPS, MIN_EPOCHS, MAX_EPOCHS, MIN_PATIENCE = 128, 5, 30, 4
"""Steps of a training, within these limits of epochs; least patience."""
DEFAULT_TEMPERATURE = 2.0
"""Of the prediction distillation."""


class Schedule(NamedTuple):
    """Length of a training: passes over the patients, patients in a batch, epochs without gain before it stops."""

    epochs: int
    batch_size: int
    patience: int


class LinearOffset(Section):
    """Ridge-penalised linear model whose prediction is added to the logits (the offset of a GLM)."""

    components: NonNegativeInt | None = Field(
        None, description="principal components of each source; null: one for three patients, at most 15; 0 = no offset"
    )
    tasks: Literal["survival", "all"] = Field("survival", description="tasks in whose training it is added")


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
    """Optimiser, schedule (linear warm-up, cosine to zero at the last step) and hardware of a training."""

    epochs: PositiveInt | None = Field(None, description="null: about 128 steps by the number of patients, 5 to 30")
    batch_size: PositiveInt | None = Field(None, description="null: 16 for fewer than 200 patients, else 32")
    learning_rate: PositiveFloat = 5e-4
    weight_decay: float = Field(1e-2, ge=0)
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    shrinkage: PositiveFloat | None = Field(
        0.2, description="prior deviation of the weights of network and linear model after training; null: as trained"
    )
    patience: PositiveInt | None = Field(
        None, description="epochs without a better validation loss before stopping; null: a quarter of them, at least 4"
    )
    grad_clip_norm: PositiveFloat = 1.0
    cox_loss_weight: Fraction = Field(0.0, description="share of the Cox partial likelihood in the survival loss")
    regression_loss: Literal["quantile", "gaussian"] = Field(
        "quantile", description="of numbers: pinball loss of the quantiles 10, 50 and 90 %, or Gaussian likelihood"
    )
    threads: PositiveInt = Field(1, description="CPU threads of a training step; small bags gain nothing from more")
    workers: PositiveInt = Field(1, description="processes that train the members of a model on a CPU; same results")
    ensemble_size: PositiveInt = Field(
        1, description="models per fold; they differ by seed and validation part, and their predictions are averaged"
    )
    max_tokens: PositiveInt | None = Field(
        None, description="padded tokens of a micro-batch: gradients of larger batches are accumulated"
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

    def schedule(self, patients: int) -> "Schedule":
        """Return epochs, batch size and patience of a training; what is null follows from the number of patients.

        Examples
        --------
        >>> Optimisation().schedule(52), Optimisation(epochs=3).schedule(531)
        (Schedule(epochs=30, batch_size=16, patience=7), Schedule(epochs=3, batch_size=32, patience=4))
        """
        batch_size = self.batch_size or (SMALL_BATCH if patients < SMALL_COHORT else 2 * SMALL_BATCH)
        epochs = self.epochs or min(max(round(STEPS * batch_size / max(patients, 1)), MIN_EPOCHS), MAX_EPOCHS)
        return Schedule(epochs, batch_size, self.patience or max(MIN_PATIENCE, epochs // 4))


class Teacher(Section):
    """Switches and loss weights of the teacher; the ablation turns each off."""

    use_fusion: bool = Field(True, description="disentangled subspace fusion; off = one shared space")
    use_gradient_coordination: bool = Field(True, description="confidence-guided gradient coordination")
    consistency_weight: float = Field(0.1, ge=0, description="weight of the inter-magnification consistency; 0 = off")
    consistency_target: Literal["attention", "expression"] = Field(
        "attention",
        description="what must agree between magnifications: attention on shared tissue, or predicted genes",
    )
    disentanglement_weight: float = Field(
        0.0, ge=0, description="weight of the distance correlation between the subspaces; 0 = off"
    )
    auxiliary_weight: float = Field(0.0, ge=0, description="weight of inputs.auxiliary in training; 0 = off")
    loss_weights: dict[str, NonNegativeFloat] = Field(
        default_factory=dict, description="weights of further registered loss terms, by name"
    )
    modality_dropout: float = Field(0.2, ge=0, lt=1, description="share of transcriptomes hidden in training")
    use_unpaired: bool = Field(True, description="train on labelled patients without transcriptome, too")


class Distillation(Section):
    """Architecture, switches and loss weights of the student."""

    feature_weight: float = Field(1.0, ge=0, description="weight of the feature distillation; 0 = off")
    prediction_weight: float = Field(1.0, ge=0, description="weight of the prediction distillation; 0 = off")
    temperature: PositiveFloat | dict[str, PositiveFloat] = Field(
        DEFAULT_TEMPERATURE, description="of the prediction distillation; or {task: temperature}"
    )
    targets: Literal["fused", "genes", "residual"] = Field(
        "fused", description="the teacher's answer, that with the slide hidden, or what the slide's linear model lacks"
    )
    teacher_members: Literal["matched", "mean"] = Field(
        "matched", description="predictions of the member of the same number, or of those not trained on the patient"
    )
    patient_weights: Literal["none", "predictability"] = Field(
        "none", description="of the distillation terms; by the share of each patient's genes that the slide predicts"
    )
    auxiliary_weight: float = Field(0.0, ge=0, description="weight of inputs.auxiliary in training; 0 = off")
    program_weight: float = Field(
        0.0, ge=0, description="weight of the gene programs predicted from the tokens of their subspace; 0 = off"
    )
    loss_weights: dict[str, NonNegativeFloat] = Field(
        default_factory=dict, description="weights of further registered loss terms, by name"
    )
    architecture: Literal["subspace_tokens", "gene_imputation", "completed_genes"] = Field(
        "subspace_tokens",
        description="its own network, or the teacher with gene embeddings imputed or sampled by the slide",
    )
    aggregation: Literal["subspace_queries", "density_peaks", "none"] = "subspace_queries"
    use_unpaired: bool = Field(True, description="train on patients without transcriptome or without label, too")
    use_linear_offset: bool = Field(
        False, description="add the slide's linear offset in training, where model.linear_offset has one"
    )
    zoom: float | None = Field(
        None, gt=0, le=1, description="share of coarse tiles inside of which finer ones are read; null: all are read"
    )

    @model_validator(mode="after")
    def _attends(self) -> "Distillation":
        if self.zoom is not None and (self.architecture, self.aggregation) != ("subspace_tokens", "subspace_queries"):
            raise ValueError("zoom follows attention: it needs subspace_tokens and subspace_queries")
        if self.targets == "residual" and self.architecture != "subspace_tokens":
            raise ValueError("targets: residual is what a network adds to the linear model: it needs subspace_tokens")
        return self

    @property
    def is_cross_fitted(self) -> bool:
        """Whether a patient's target is of teacher members that were not trained on the patient."""
        return self.targets == "residual" or self.teacher_members == "mean"

    def temperature_of(self, task: str) -> float:
        """Return the temperature of a task; one that a mapping does not name has the default.

        Examples
        --------
        >>> Distillation(temperature={"grade": 4}).temperature_of("grade"), Distillation().temperature_of("survival")
        (4.0, 2.0)
        """
        if isinstance(self.temperature, dict):
            return self.temperature.get(task, DEFAULT_TEMPERATURE)
        return self.temperature


class Pretraining(Section):
    """Pairs of slide and expression of other cohorts from which networks start, and the arms they learn; no outcome."""

    cohorts: tuple[str, ...] = Field((), description="imported cohorts; the current one is passed over; none: off")
    start: tuple[Literal["teacher", "student"], ...] = Field(("student",), description="networks that start from it")
    expression_weight: float = Field(1.0, ge=0, description="weight of the gene components predicted from the tokens")
    contrast_weight: float = Field(0.5, ge=0, description="weight of matching tokens and gene embeddings of a patient")
    clustering_weight: float = Field(0.0, ge=0, description="weight of clusters shared by slides and genes; 0 = off")
    clusters: int = Field(16, ge=2, description="prototypes of each subspace")
    components: PositiveInt = Field(16, description="principal components of each gene group, beside its mean")
    queue: NonNegativeInt = Field(512, description="past pairs among which a patient's own is told apart")
    epochs: PositiveInt = 15
    batch_size: int = Field(64, ge=2)
    learning_rate: PositiveFloat = 1e-3

    @model_validator(mode="after")
    def _learns(self) -> "Pretraining":
        if not self.expression_weight and not self.contrast_weight and not self.clustering_weight:
            raise ValueError("the weights of all arms are 0: nothing is learned")
        if repeated := sorted({name for name in self.cohorts if self.cohorts.count(name) > 1}):
            raise ValueError(f"cohorts: {', '.join(repeated)} is there twice")
        return self


class Baselines(Section):
    """Baselines on the same folds: every linear one, and the deep ones that are named."""

    components: PositiveInt = Field(15, description="principal components before the penalised model")
    penalty: PositiveFloat = 0.1
    deep: tuple[str, ...] = Field(("abmil", "genes_snn"), description="names of modules in dml/baselines/deep")

    @model_validator(mode="after")
    def _unique(self) -> "Baselines":
        if repeated := sorted({name for name in self.deep if self.deep.count(name) > 1}):
            raise ValueError(f"deep: {', '.join(repeated)} is there twice")
        return self
