"""External validation: a registered model on all patients of another cohort whose outcome is known."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.errors import InputError
from dml.core.files import digest, write_json
from dml.core.model_name import ModelName
from dml.core.predictions import write_predictions
from dml.core.types import Cohort
from dml.data.cohort_store import CohortStore
from dml.evaluation.intervals import bootstrap_weights, estimate
from dml.evaluation.metric_sets import PRIMARY, leading_metric
from dml.evaluation.recalibration import recalibrate
from dml.inference.compatibility import check_cohort, check_features, coverage_report, has_all_magnifications
from dml.inference.ensemble import Ensemble
from dml.inference.expression_inputs import in_unit
from dml.registry import packaging
from dml.registry.packaged_code import download
from dml.registry.versions import RegisteredVersion, resolve
from dml.report.build import evaluate
from dml.report.context import ReportContext, count_finer_tiles, read_cohort_description, read_unit
from dml.report.patient_flow import ExternalFlow
from dml.training.checkpoint import ModelSpec

PRESENT, ABSENT = "present", "absent"
"""Values of the column transcriptome, a subgroup of the report on a teacher."""


@dataclass(frozen=True, slots=True)
class ValidationInputs:
    """A registered version and the cohort it is validated on.

    Attributes
    ----------
    cohort : Cohort
        All patients, expression in the unit of the model.
    developed_with : frozenset of str
        Those of them that the model was trained or tested on in its development cohort.
    internal : (DataFrame, dict) or None
        Test predictions in the development cohort and their metadata, if they were packed.
    """

    version: RegisteredVersion
    ensemble: Ensemble
    store: CohortStore
    cohort: Cohort
    developed_with: frozenset[str]
    internal: tuple[pd.DataFrame, dict[str, Any]] | None

    @property
    def spec(self) -> ModelSpec:
        """How the model reads a patient."""
        return self.ensemble.spec


def validate_external(
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
        size, its labels or unit are others, too few of the model's genes are measured, or no patient remains.
    """
    version = resolve(reference)
    if version.tags.get("cohort") == cohort:
        remedy = f"Its cross-validated metrics are in {reports / cohort / version.tags.get('task', '')}"
        raise InputError(reference, f"was trained on {cohort}", remedy)
    inputs = load_inputs(version, CohortStore.of(cohort, data))
    out = reports / cohort / "external" / version.name
    score(inputs, select_patients(inputs), settings, seed, out)
    return out


def load_inputs(version: RegisteredVersion, store: CohortStore) -> ValidationInputs:
    """Load the fold models of a version, and the cohort of a store if it is compatible with them."""
    ensemble = Ensemble.load(download(version) / "artifacts" / "folds")
    spec = ensemble.spec
    check_features(store.features_folder, spec)
    cohort = store.cohort(spec.preprocessor.encoder, spec.preprocessor.mpps)
    check_cohort(cohort, store.folder, spec)
    if "genes" in spec.entry.inputs:
        cohort = convert_expression(cohort, store.expression_path, spec)
    internal = packaging.packed_predictions(f"models:/{version.name}/{version.version}")
    tested = set() if internal is None else set(internal[0]["patient_id"])
    trained = {patient for fold in ensemble.folds for patient in fold.spec.training_patient_hashes}
    patients = (case.patient_id for case in cohort.cases)
    developed_with = frozenset(id_ for id_ in patients if id_ in tested or digest(id_) in trained)
    return ValidationInputs(version, ensemble, store, cohort, developed_with, internal)


def select_patients(inputs: ValidationInputs) -> Cohort:
    """Return the patients with features and a known outcome that were not used to develop the model."""
    task, cases = inputs.spec.preprocessor.task.name, inputs.cohort.cases
    usable = {c.patient_id for c in cases if c.has_target(task) and has_all_magnifications(c, inputs.spec)}
    if not usable:
        raise InputError(inputs.store.folder, "no patient has both features and an outcome", "See dml cohort show")
    if usable <= inputs.developed_with:
        raise InputError(inputs.store.folder, "every patient was used to develop the model", "Use another cohort")
    return inputs.cohort.subset(usable - inputs.developed_with)


def score(inputs: ValidationInputs, selected: Cohort, settings: config.Evaluation, seed: int, out: Path) -> None:
    """Predict the selected patients and write the report, as of any model with one fold that is the whole cohort."""
    spec, version = inputs.spec, inputs.version
    patients, cohort = inputs.store.patients(), inputs.store.folder.name
    if "genes" in spec.entry.inputs:
        has_expression = {c.patient_id: PRESENT if c.has_expression else ABSENT for c in selected.cases}
        patients = patients.assign(transcriptome=patients["patient_id"].map(has_expression))
    coverage = {
        "model": f"{version.name} version {version.version}",
        "home": _internal_metric(inputs, settings, seed),
        **coverage_report(inputs.cohort, selected, spec, sorted(inputs.developed_with)),
    }
    root = inputs.store.folder.parent.parent
    description, licence = read_cohort_description(cohort, root)
    unit, flow = read_unit(cohort, spec.preprocessor.task.name, root), _flow(inputs, selected)
    context = ReportContext(
        cohort, description, licence, flow, coverage=coverage, external=True, unit=unit,
        finer_tiles=count_finer_tiles(cohort, root),
    )  # fmt: skip
    subgroups = {name: rule for name, rule in settings.subgroups.items() if set(rule) <= set(patients.columns)}
    settings = settings.model_copy(update={"subgroups": subgroups, "years": spec.years})
    with TemporaryDirectory() as temporary:
        _write_predictions(Path(temporary), inputs, selected, seed)
        evaluate(Path(temporary), patients, settings, seed, out, context)
    write_json(out / "coverage.json", coverage)


def _write_predictions(folder: Path, inputs: ValidationInputs, selected: Cohort, seed: int) -> None:
    """Write the predictions of the model as it is and recalibrated; censoring weights are of the selected patients."""
    task, name = inputs.spec.preprocessor.task, ModelName.parse(inputs.version.tags["model"])
    rows = inputs.ensemble.predict(selected)
    targets = {case.patient_id: {"site": case.site, **task.target_values(case)} for case in selected.cases}
    observed = pd.DataFrame([targets[patient] for patient in rows["patient_id"]])
    rows = pd.concat([rows, observed], axis=1).assign(fold=0, role="test")
    metadata: dict[str, Any] = {"task": task.name, "kind": task.kind, "classes": list(task.classes)}
    if task.kind == "survival":
        follow_up = {"train_days": rows["days"].tolist(), "train_event": rows["event"].tolist()}
        metadata |= {"train_cutoff": 0.0, **follow_up}
    refitted = recalibrate(rows, task, inputs.spec.years, seed)
    for model, predictions in ((str(name), rows), (str(name.with_recalibration()), refitted)):
        if predictions is not None:
            path = folder / model / "fold-0" / "predictions.parquet"
            write_predictions(path, predictions.assign(model=model), metadata)


def _internal_metric(inputs: ValidationInputs, settings: config.Evaluation, seed: int) -> dict[str, Any] | None:
    """Score the model on the test patients of its development cohort; None if they were not packed."""
    if inputs.internal is None or "fold" not in inputs.internal[0]:
        return None
    rows, metadata = inputs.internal[0].sort_values("patient_id", ignore_index=True), inputs.internal[1]
    weights = bootstrap_weights(rows["fold"].to_numpy(int), settings.resamples, seed)
    result = estimate(leading_metric(rows, metadata["kind"], metadata["classes"]), weights, settings.confidence)
    if result is None:
        return None
    source = {"cohort": inputs.version.tags.get("cohort"), "metric": PRIMARY[metadata["kind"]], "patients": len(rows)}
    return {**source, **result.to_json()}


def _flow(inputs: ValidationInputs, selected: Cohort) -> ExternalFlow:
    cases = inputs.cohort.cases
    readable = [case for case in cases if has_all_magnifications(case, inputs.spec)]
    return ExternalFlow(
        patients=len(cases),
        with_slide=len(readable),
        with_expression=sum(case.has_expression for case in cases),
        with_both=sum(case.has_expression for case in readable),
        with_outcome=sum(case.has_target(inputs.spec.preprocessor.task.name) for case in readable),
        tested=len(selected.cases),
        folds=(),
    )


def convert_expression(cohort: Cohort, path: Path, spec: ModelSpec) -> Cohort:
    """Convert the transcriptomes to the unit of the model."""
    with_values = [case for case in cohort.cases if case.has_expression]
    if not with_values:
        return cohort
    values = np.array([case.expression for case in with_values], dtype=float)
    converted = in_unit(values, cohort.unit, spec.preprocessor.unit, path).astype(np.float32)
    row = {case.patient_id: i for i, case in enumerate(with_values)}
    cases = [replace(c, expression=converted[row[c.patient_id]]) if c.patient_id in row else c for c in cohort.cases]
    return replace(cohort, cases=tuple(cases), unit=spec.preprocessor.unit)
