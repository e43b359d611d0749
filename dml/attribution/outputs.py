"""The outputs that contributions add up to, as functions of a model's logits.

    survival        risk = -sum_j S_j,  S_j = prod_{i<=j} (1 - sigmoid(logit_i))
    classification  logit_k - mean_k logit_k: logits mean nothing beyond their differences
    regression      the logit itself

Shape legend: s samples, k classes or time bins, o outputs.
"""

from jaxtyping import Float
from torch import Tensor, cumprod, sigmoid

from dml.data.preprocessing import Preprocessor


def explained_outputs(logits: Float[Tensor, "s k"], kind: str) -> Float[Tensor, "s o"]:
    """Return the outputs that are explained; each is a smooth function of the logits."""
    if kind == "survival":
        return -cumprod(1 - sigmoid(logits), dim=1).sum(1, keepdim=True)
    return logits - logits.mean(1, keepdim=True) if kind == "classification" else logits


def output_names(preprocessor: Preprocessor) -> tuple[str, ...]:
    """Return the names of the explained outputs: the classes, or ``risk``, or the name of the task."""
    task = preprocessor.task
    if task.kind == "classification":
        return tuple(task.classes)
    return ("risk",) if task.kind == "survival" else (task.name,)
