"""The card of a registered version: what it is, what it takes and gives, how good it was, what it is not for."""

from collections.abc import Mapping

from dml.ops.ensemble import Ensemble

_MAIN = ("c_index", "c_uno", "ibs", "auc", "balanced_accuracy", "ece")


def card(name: str, ensemble: Ensemble, metrics: Mapping[str, float]) -> str:
    """Write the card in Markdown.

    Parameters
    ----------
    metrics : mapping
        As `dml.ops.registry.metrics_of`: ``metric.<name>`` and the ends of its interval.
    """
    spec, prepared = ensemble.spec, ensemble.spec.preparation
    mpps = " and ".join(f"{mpp:g}" for mpp in prepared.mpps)
    aim = "Survival" if prepared.kind == "survival" else f"{prepared.task} ({', '.join(prepared.classes)})"
    genes = len(prepared.tumor_genes) + len(prepared.tme_genes)
    beside = f"; transcriptomes in {prepared.unit} ({genes} genes), optional" if spec.role == "teacher" else ""
    return "\n".join(
        [
            f"# {name}",
            f"{aim} from whole-slide images: the {spec.role}, {len(ensemble.folds)} folds averaged.",
            "## Takes",
            f"Rows of patient_id and path: slides, or features of {prepared.encoder} ({len(prepared.tokens.mean)} "
            f"dimensions) at {mpps} microns per pixel{beside}. Several rows of a patient are taken together.",
            f"Clinical columns used: {', '.join(prepared.covariate_names) or 'none'}.",
            "## Gives",
            "One row per patient: patient_id, status (ok or refused), reason, "
            f"{', '.join(ensemble.outputs)}, {ensemble.decision}.",
            _MEANING[prepared.kind],
            "## Evaluation (cross-validated, patients not seen in training)",
            *(_line(metric, metrics) for metric in _MAIN if f"metric.{metric}" in metrics),
            "## Limits",
            "Research use only, not a medical device. Other encoders and resolutions are refused; other stains or "
            "organs are out of scope as well but not noticed.",
        ]
    )


_MEANING = {
    "survival": "risk is in standard deviations above the median training patient; spread is its standard deviation "
    "over the folds; survival_<days> is the probability to be alive then.",
    "classification": "p_<class> are probabilities; spread is the standard deviation over the folds of that of the "
    "predicted class.",
}


def _line(metric: str, metrics: Mapping[str, float]) -> str:
    key = f"metric.{metric}"
    low, high = metrics.get(f"{key}_ci_low"), metrics.get(f"{key}_ci_high")
    interval = f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
    return f"- {metric} {metrics[key]:.3f}{interval}"
