"""The card of a registered version: what it is, what it takes and gives, how good it was, what it is not for."""

from collections.abc import Mapping

from dml.inference.ensemble import Ensemble
from dml.report.tables import MAIN, title

SECTIONS = ("## Takes", "## Gives", "## Evaluation", "## Limits")
"""What a card must have before its version may be promoted."""


def headline(ensemble: Ensemble, cohort: str) -> str:
    """Say in one sentence what a registered model does; MLflow's lists show no more."""
    spec, prepared = ensemble.spec, ensemble.spec.preprocessor
    aim = "Survival" if prepared.kind == "survival" else f"{prepared.task} ({', '.join(prepared.classes)})"
    seen = "slides alone" if spec.role == "student" else "slides and, where there is one, the transcriptome"
    return f"{aim} from {seen}: the {spec.role} of cohort {cohort}, {len(ensemble.folds)} folds averaged."


def card(ensemble: Ensemble, cohort: str, metrics: Mapping[str, float], judged_on: str = "") -> str:
    """Write the card in Markdown.

    Parameters
    ----------
    cohort : str
        Name of the cohort trained on.
    metrics : mapping
        As `dml.registry.versions.metrics_of`: ``metric.<name>`` and the ends of its interval.
    judged_on : str
        Which patients the metrics are of.
    """
    spec, prepared = ensemble.spec, ensemble.spec.preprocessor
    mpps = " and ".join(f"{mpp:g}" for mpp in prepared.mpps)
    genes = len(prepared.tumor_genes) + len(prepared.tme_genes)
    beside = f"; transcriptomes in {prepared.unit} ({genes} genes), optional" if spec.role == "teacher" else ""
    return "\n".join(
        [
            headline(ensemble, cohort),
            "## Takes",
            f"Rows of patient_id and path: slides, or features of {prepared.encoder} ({len(prepared.tokens.mean)} "
            f"dimensions) at {mpps} microns per pixel{beside}. Several rows of a patient are taken together.",
            "",
            f"Clinical columns used: {', '.join(prepared.covariate_names) or 'none'}.",
            "## Gives",
            "One row per patient: `patient_id`, `status` (ok or refused), `reason`, "
            f"{', '.join(f'`{name}`' for name in (*ensemble.outputs, ensemble.decision))}.",
            "",
            _MEANING[prepared.kind],
            "## Evaluation: cross-validation inside the cohort",
            *([f"{judged_on}.", ""] if judged_on else []),
            *(_line(metric, metrics) for metric in MAIN[prepared.kind] if f"metric.{metric}" in metrics),
            "## Limits",
            "Research use only, not a medical device. No patient of another cohort was predicted for these numbers. "
            "Other encoders and resolutions are refused; other stains or organs are out of scope as well but not "
            "noticed. The whole card is packed with the model: artifacts/evaluation/model_card.md.",
        ]
    )


_MEANING = {
    "survival": "`risk` is in standard deviations above the median training patient, `risk_group` is high above 0; "
    "`spread` is its standard deviation over the folds; `survival_365` is the probability to be alive after 365 days.",
    "classification": "The columns `p_` are probabilities of the classes; `spread` is the standard deviation over the "
    "folds of that of the predicted class.",
}


def _line(metric: str, metrics: Mapping[str, float]) -> str:
    key = f"metric.{metric}"
    low, high = metrics.get(f"{key}_ci_low"), metrics.get(f"{key}_ci_high")
    interval = f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
    return f"- {title(metric)} {metrics[key]:.3f}{interval}"
