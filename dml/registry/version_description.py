"""The description of a registered version in MLflow: what the model takes and returns.

Its model card (`dml.report.model_card`: intended use, metrics, subgroups, limitations) is packed beside it.
"""

from dml.data.preprocessing import Preprocessor
from dml.inference.ensemble import Ensemble

SECTIONS = ("## Input", "## Output")
"""What a description must have before its version may be promoted."""


def headline(ensemble: Ensemble, cohort: str) -> str:
    """Return one sentence on a registered model, all that MLflow's lists show.

    Parameters
    ----------
    cohort : str
        Name of the cohort trained on.
    """
    spec, task = ensemble.spec, ensemble.spec.preprocessor.task
    aim = "Survival" if task.kind == "survival" else f"{task.name} ({', '.join(task.classes) or 'a number'})"
    genes = "genes" in spec.entry.inputs
    inputs = "slides and, where there is one, the transcriptome" if genes else "slides alone"
    return f"{aim} from {inputs}: the {spec.name} of cohort {cohort}, {len(ensemble.folds)} folds averaged."


def version_description(ensemble: Ensemble, cohort: str, result: str) -> str:
    """Return the description in Markdown.

    Parameters
    ----------
    cohort : str
        Name of the cohort trained on.
    result : str
        The main metric of the evaluation in one line.
    """
    spec, prepared = ensemble.spec, ensemble.spec.preprocessor
    mpps = " and ".join(f"{mpp:g}" for mpp in prepared.mpps)
    genes = len(prepared.tumor_genes) + len(prepared.tme_genes)
    expression = (
        f"; transcriptomes in {prepared.unit} ({genes} genes), optional" if "genes" in spec.entry.inputs else ""
    )
    columns = ", ".join(f"`{name}`" for name in (*ensemble.outputs, *ensemble.decisions))
    return "\n".join(
        [
            headline(ensemble, cohort),
            "",
            f"{result} Research use only, not a medical device; the model card is artifacts/evaluation/model_card.md.",
            "## Input",
            f"Rows of patient_id and path: slides, or features of {prepared.encoder} ({len(prepared.tokens.mean)} "
            f"dimensions) at {mpps} microns per pixel{expression}. Several rows of a patient are taken together. Other "
            "encoders and resolutions are refused; other stains or organs are out of scope but not noticed.",
            "",
            f"Clinical columns used: {', '.join(prepared.covariate_names) or 'none'}.{_optional(prepared)}",
            "## Output",
            f"One row per patient: `patient_id`, `status` (ok or refused), `reason`, {columns}.",
            "",
            _MEANING[prepared.task.kind],
        ]
    )


def _optional(prepared: Preprocessor) -> str:
    """Describe the optional clinical inputs."""
    if prepared.clinical is None:
        return ""
    values = [f"`{each.name}` ({', '.join(each.classes) or 'number'})" for each in prepared.clinical.inputs]
    return f" Optional, each may be empty: {', '.join(values)}."


_MEANING = {
    "survival": "`risk` is in standard deviations above the median training patient, `risk_group` is high above 0; "
    "`spread` is its standard deviation over the folds; `survival_365` is the probability to be alive after 365 days.",
    "classification": "The columns `p_` are probabilities of the classes; `spread` is the standard deviation over the "
    "folds of that of the predicted class.",
    "regression": "`value` is the predicted number in the unit of the label; 80 % of patients should be between "
    "`value_lower` and `value_upper`; `spread` is the standard deviation of `value` over the folds.",
}
