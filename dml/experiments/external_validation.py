"""Apply a registered model to a whole other cohort and judge it on that cohort's patients."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.errors import InputError
from dml.core.files import digest, read_parquet, write_json
from dml.core.model_name import ModelName
from dml.core.predictions import write_predictions
from dml.core.types import Cohort
from dml.data.load_cohort import read_cohort
from dml.evaluation.intervals import bootstrap_weights, estimate, rounded
from dml.evaluation.metric_sets import PRIMARY, leading_metric
from dml.evaluation.recalibration import recalibrate
from dml.inference.compatibility import check_cohort, check_features, covered, whole
from dml.inference.ensemble import Ensemble
from dml.inference.expression_inputs import in_unit
from dml.registry import packaging
from dml.registry import versions as registry
from dml.report.build import evaluate
from dml.report.context import About, said_of
from dml.report.patient_flow import ExternalFlow
from dml.training.checkpoint import ModelSpec

WITH, WITHOUT = "present", "absent"
"""Values of the column transcriptome, by which the patients of a teacher are judged apart."""


def external(
    reference: str,
    cohort: str,
    settings: config.Evaluation,
    seed: int = 0,
    data: Path = Path("data"),
    reports: Path = Path("reports"),
) -> Path:
    """Predict and score every patient of a cohort whose stores are in ``data/<cohort>``.

    Two rows are reported: the model as it is (zero-shot), and ``<model>-recalibrated``, whose level and spread of risk
    were refitted on the other patients of that cohort (cross-fitting), where there are enough of them.

    Parameters
    ----------
    reference : str
        ``<name>@<alias>`` or ``<name>/<version>``.
    settings : config.Evaluation
        Resamples, confidence, horizons, and subgroups (those whose columns the cohort has).

    Returns
    -------
    Path
        ``reports/<cohort>/external/<name>``: metrics.json as for any model, predictions.parquet, report.html,
        coverage.json (which patients, tokens and genes could be used, and how far they are from training).

    Raises
    ------
    InputError
        If the model was trained on this very cohort, its features are of another encoder, width, resolution or tile
        size, its labels or unit are others, too few of the model's genes are measured, or nobody is left to be judged.
    """
    entry = registry.resolve(reference)
    folder = data / cohort
    if entry.tags.get("cohort") == cohort:
        honest = f"Its honest numbers are in {reports / cohort / entry.tags.get('task', '')}"
        raise InputError(reference, f"was trained on {cohort}", honest)
    ensemble = ensemble_of(entry)
    spec = ensemble.spec
    check_features(folder / "features", spec)
    read = read_cohort(folder, spec.preprocessor.encoder, spec.preprocessor.mpps)
    check_cohort(read, folder, spec)
    if spec.role == "teacher":
        read = _converted(read, folder / "expression.parquet", spec)
    seen = _seen(entry, ensemble, read)
    usable = _usable(read, set(seen), spec, folder)
    out = reports / cohort / "external" / entry.name
    made = {"model": f"{entry.name} version {entry.version}", "home": _at_home(entry, settings, seed)}
    coverage = {**made, **covered(read, usable, spec, seen)}
    rows = _with_truth(ensemble.predict(usable), usable, spec).assign(model=entry.tags["model"])
    patients = read_parquet(folder / "patients.parquet")[0].to_pandas()
    if spec.role == "teacher":
        patients = _by_transcriptome(patients, usable)
    description, licence = said_of(cohort, data.parent)
    about = About(cohort, description, licence, _flow(read, usable, spec), coverage=coverage, external=True)
    _score(rows, spec, patients, settings, seed, out, about)
    write_json(out / "coverage.json", coverage)
    return out


def ensemble_of(entry: registry.Entry) -> Ensemble:
    """Load the fold models of a registered version."""
    served: Any = registry.load(entry.name, entry.version)
    ensemble: Ensemble = served.unwrap_python_model().answering.ensemble
    return ensemble


def _seen(entry: registry.Entry, ensemble: Ensemble, cohort: Cohort) -> list[str]:
    """Patients that any fold of the model was fitted on, or that it was tested on at home."""
    packed = packaging.packed_predictions(f"models:/{entry.name}/{entry.version}")
    tested = set() if packed is None else set(packed[0]["patient_id"])
    learnt = {known for fold in ensemble.folds for known in fold.spec.training_patient_hashes}
    patients = {case.patient_id for case in cohort.cases}
    return sorted(patient for patient in patients if patient in tested or digest(patient) in learnt)


def _at_home(entry: registry.Entry, settings: config.Evaluation, seed: int) -> dict[str, Any] | None:
    """Score the model on the test patients of its own cohort; None if they were not packed."""
    packed = packaging.packed_predictions(f"models:/{entry.name}/{entry.version}")
    if packed is None or "fold" not in packed[0]:
        return None
    rows, kind = packed[0].sort_values("patient_id", ignore_index=True), packed[1]["kind"]
    drawn = bootstrap_weights(rows["fold"].to_numpy(int), settings.resamples, seed)
    found = estimate(leading_metric(rows, kind, packed[1]["classes"]), drawn, settings.confidence)
    if found is None:
        return None
    ends = {"value": rounded(found.value), "ci_low": rounded(found.low), "ci_high": rounded(found.high)}
    return {"cohort": entry.tags.get("cohort"), "metric": PRIMARY[kind], "patients": len(rows), **ends}


def _by_transcriptome(patients: pd.DataFrame, usable: Cohort) -> pd.DataFrame:
    """Say of the patients who are judged whether they have a transcriptome, as a label of its own."""
    present = {case.patient_id: WITHOUT if case.expression is None else WITH for case in usable.cases}
    return patients.assign(transcriptome=patients["patient_id"].map(present))


def _usable(cohort: Cohort, seen: set[str], spec: ModelSpec, folder: Path) -> Cohort:
    judged = {c.patient_id for c in cohort.cases if c.has_target(spec.preprocessor.task) and whole(c, spec)}
    if not judged:
        raise InputError(folder, "no patient has both features and an outcome", "Check the stores: dml cohort show")
    if judged <= seen:
        raise InputError(folder, "every patient was among those the model was made with", "Use another cohort")
    return cohort.subset(judged - seen)


def _flow(cohort: Cohort, usable: Cohort, spec: ModelSpec) -> ExternalFlow:
    readable = [case for case in cohort.cases if whole(case, spec)]
    with_genes = [case for case in readable if case.has_expression]
    return ExternalFlow(
        patients=len(cohort.cases),
        with_slide=len(readable),
        with_expression=sum(case.has_expression for case in cohort.cases),
        with_both=len(with_genes),
        with_truth=sum(case.has_target(spec.preprocessor.task) for case in readable),
        tested=len(usable.cases),
        folds=(),
    )


def _converted(cohort: Cohort, path: Path, spec: ModelSpec) -> Cohort:
    """Convert the transcriptomes to the unit of the model."""
    with_values = [case for case in cohort.cases if case.has_expression]
    if not with_values:
        return cohort
    values = np.array([case.expression for case in with_values], dtype=float)
    wanted = in_unit(values, cohort.unit, spec.preprocessor.unit, path).astype(np.float32)
    row = {case.patient_id: i for i, case in enumerate(with_values)}
    cases = [replace(c, expression=wanted[row[c.patient_id]]) if c.patient_id in row else c for c in cohort.cases]
    return replace(cohort, cases=tuple(cases), unit=spec.preprocessor.unit)


def _with_truth(rows: pd.DataFrame, cohort: Cohort, spec: ModelSpec) -> pd.DataFrame:
    said = {case.patient_id: {"site": case.site, **case.target_values(spec.preprocessor.task)} for case in cohort.cases}
    truth = pd.DataFrame([said[patient] for patient in rows["patient_id"]])
    return pd.concat([rows, truth], axis=1).assign(fold=0, role="test")


def _score(
    rows: pd.DataFrame,
    spec: ModelSpec,
    patients: pd.DataFrame,
    settings: config.Evaluation,
    seed: int,
    out: Path,
    about: About,
) -> None:
    """Evaluate as any model is, on one fold that is the whole cohort; its own follow-up gives the censoring weights."""
    known = {name: rule for name, rule in settings.subgroups.items() if set(rule) <= set(patients.columns)}
    own = settings.model_copy(update={"subgroups": known, "years": spec.years})
    name, prepared = str(rows["model"].iloc[0]), spec.preprocessor
    refitted = recalibrate(rows, prepared.classes, spec.years, seed)
    with TemporaryDirectory() as temporary:
        for model, said in ((name, rows), (str(ModelName.parse(name).with_recalibration()), refitted)):
            if said is not None:
                place = Path(temporary) / model / "fold-0" / "predictions.parquet"
                write_predictions(place, said.assign(model=model), _metadata(rows, prepared.task, prepared.classes))
        evaluate(Path(temporary), patients, own, seed, out, about)


def _metadata(rows: pd.DataFrame, task: str, classes: Sequence[str]) -> dict[str, Any]:
    kind = "classification" if classes else "survival"
    metadata: dict[str, Any] = {"task": task, "kind": kind, "classes": list(classes)}
    if classes:
        return metadata
    followed = {"train_days": rows["days"].tolist(), "train_event": rows["event"].tolist()}
    return {**metadata, "train_cutoff": 0.0, **followed}
