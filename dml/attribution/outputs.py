"""The outputs that contributions add up to, as functions of a model's logits.

    survival        risk = -sum_j S_j,  S_j = prod_{i<=j} (1 - sigmoid(logit_i))
    classification  logit_k - mean_k logit_k: logits mean nothing beyond their differences
    regression      the point prediction: the first output, in training standard deviations

`output_scale` brings each to the scale of its predictions. Shape legend: s samples, k classes or time bins, o outputs.
"""

from jaxtyping import Float
from torch import Tensor, cumprod, sigmoid

from dml.data.preprocessing import Preprocessor
from dml.training.checkpoint import ModelSpec


def explained_outputs(logits: Float[Tensor, "s k"], kind: str) -> Float[Tensor, "s o"]:
    """Return the outputs that are explained; each is a smooth function of the logits."""
    if kind == "survival":
        return -cumprod(1 - sigmoid(logits), dim=1).sum(1, keepdim=True)
    return logits - logits.mean(1, keepdim=True) if kind == "classification" else logits[:, :1]


def output_scale(spec: ModelSpec) -> tuple[float, float]:
    """Return scale and centre of a fold: (output - centre) / scale is what predictions and other folds have.

    Risk is in standard deviations above the cut-off of the training risks, a number in its own unit.
    """
    task = spec.preprocessor.task
    if task.kind == "survival":
        return spec.train_risk_deviation, spec.train_cutoff
    if task.kind == "regression":
        target = spec.preprocessor.target_scale
        return 1 / target.deviation, -target.mean / target.deviation
    return 1.0, 0.0


def output_names(preprocessor: Preprocessor) -> tuple[str, ...]:
    """Return the names of the explained outputs: the classes, or ``risk``, or the name of the task."""
    task = preprocessor.task
    if task.kind == "classification":
        return tuple(task.classes)
    return ("risk",) if task.kind == "survival" else (task.name,)
