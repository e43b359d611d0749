"""Pack the fold models of one model into an MLflow pyfunc: weights, code, requirements, signature, example."""

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, PackageNotFoundError, requires, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from packaging.requirements import Requirement

import dml
from dml.case_bank import bank as case_bank
from dml.core.files import read_parquet, write_parquet
from dml.data.cohort_store import CohortStore
from dml.encoders import registry as encoders
from dml.inference.ensemble import FILES, Ensemble, fold_folders
from dml.inference.input_summary import summarise_cohort
from dml.inference.prediction_log import INPUTS
from dml.inference.predictor import ATTENTION, SAME_SITE, SIMILAR
from dml.tracking import store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

PREDICTIONS, CARD, REFERENCE = "predictions.parquet", "model_card.md", "inputs.parquet"
ALWAYS = (
    *("filelock", "h5py", "jaxtyping", "mlflow", "numpy", "openslide-bin", "openslide-python", "pandas", "pyarrow"),
    *("pydantic", "pyyaml", "rich", "safetensors", "scikit-image", "scipy", "tifffile", "torch"),
)
"""Packages that the packed code imports whatever the encoder."""
IF_INSTALLED = ("imagecodecs",)
"""Packages without which the packed code refuses some slides: compressions of OME-TIFF."""


def log_model(
    folder: Path, name: str, run_id: str, evaluation: Path | None = None, data: CohortStore | None = None
) -> str:
    """Log the folds under a folder as one model of a run.

    Parameters
    ----------
    folder : Path
        ``models/<cohort>/<task>/<model>``, with ``fold-*`` inside.
    name : str
        Name of the logged model.
    run_id : str
        Run it belongs to.
    evaluation : Path, optional
        ``reports/<cohort>/<task>``: the model's card goes along, and its rows of predictions.parquet, so that a later
        challenger can be compared with it patient by patient.
    data : CohortStore, optional
        The cohort it was trained on: summaries of its inputs go along, with which those of new patients are compared.

    Returns
    -------
    str
        Address of the logged model.

    Raises
    ------
    InputError
        If there is no fold, or one cannot be loaded.
    """
    pyfunc = store.pyfunc()
    import mlflow

    ensemble = Ensemble.load(folder)
    with (
        _collect_files(folder, evaluation, _reference(ensemble, data)) as files,
        mlflow.start_run(run_id=run_id),
        warnings.catch_warnings(),
    ):
        # MLflow asks for integer columns that may be missing to be declared as float; ours are declared
        warnings.filterwarnings("ignore", message=".*integer column.*")
        logged = pyfunc.log_model(
            name=name,
            python_model=str(Path(dml.__file__).parent / "inference" / "served_model.py"),
            artifacts=files,
            code_paths=[str(Path(dml.__file__).parent)],
            signature=signature(ensemble),
            input_example=example(ensemble),
            pip_requirements=requirements(ensemble.spec.preprocessor.encoder, ensemble.spec.embed.runtime),
            metadata={"task": ensemble.spec.preprocessor.task.name, "role": ensemble.spec.name},
        )
    return str(logged.model_uri)


@contextmanager
def _collect_files(folder: Path, evaluation: Path | None, reference: "pd.DataFrame | None") -> Iterator[dict[str, str]]:
    """Yield folders with nothing but the packed files: of the folds, and of the evaluation."""
    with TemporaryDirectory() as temporary:
        folds, evaluated, bank = (Path(temporary) / name for name in ("folds", "evaluation", case_bank.FOLDER))
        for fold in fold_folders(folder):
            (folds / fold.name).mkdir(parents=True)
            for name in FILES:
                shutil.copy2(fold / name, folds / fold.name / name)
        if evaluation is not None and (evaluation / PREDICTIONS).exists():
            table, metadata = read_parquet(evaluation / PREDICTIONS)
            write_parquet(evaluated / PREDICTIONS, table.filter(pc.field("model") == folder.name), metadata)
        if evaluation is not None and card_of(evaluation, folder.name).exists():
            evaluated.mkdir(exist_ok=True)
            shutil.copy2(card_of(evaluation, folder.name), evaluated / CARD)
        if evaluation is not None and (evaluation / case_bank.FOLDER / folder.name).exists():
            shutil.copytree(evaluation / case_bank.FOLDER / folder.name, bank)
        if reference is not None:
            table = pa.Table.from_pandas(reference, preserve_index=False).replace_schema_metadata(None)
            write_parquet(evaluated / REFERENCE, table)
        yield {path.name: str(path) for path in (folds, evaluated, bank) if path.exists()}


def _reference(ensemble: Ensemble, data: CohortStore | None) -> "pd.DataFrame | None":
    """Summarise the inputs of the cohort; None where its features are not here."""
    if data is None or not data.manifest_path.exists():
        return None
    summaries = summarise_cohort(data, ensemble.spec)
    return summaries if len(summaries) else None


def card_of(evaluation: Path, model: str) -> Path:
    """Where the evaluation of a task wrote the card of a model."""
    return evaluation / "cards" / f"{model}.md"


def packed_predictions(source: str) -> "tuple[pd.DataFrame, dict[str, Any]] | None":
    """Read the test predictions that were packed with a model, with their metadata; None if there are none.

    Parameters
    ----------
    source : str
        Address of the logged model or version.
    """
    folder = store.download(source)
    path = folder / "artifacts" / "evaluation" / PREDICTIONS
    if not path.exists():
        return None
    table, metadata = read_parquet(path)
    return table.to_pandas(), metadata


def packed_reference(source: str) -> "pd.DataFrame | None":
    """Read the summaries of inputs that were packed with a model; None if there are none."""
    path = store.download(source) / "artifacts" / "evaluation" / REFERENCE
    return read_parquet(path)[0].to_pandas() if path.exists() else None


def requirements(encoder: str, runtime: str = "torch") -> list[str]:
    """List the packages that the packed code needs, at the versions installed here: always, and for its encoder.

    A package that is not installed, because the features were made elsewhere, is listed as in the extra of dml.
    """
    of_encoder: tuple[str, ...] = ()  # features of others are only imported
    if encoder in encoders.names():
        card = encoders.get(encoder)
        of_encoder = (*card.requirements, *card.runtime_requirements(runtime))
    optional = (name for name in IF_INSTALLED if list(Distribution.discover(name=name)))
    return [_pinned(name) for name in dict.fromkeys((*ALWAYS, *of_encoder, *optional))]


def _pinned(name: str) -> str:
    try:
        return f"{name}=={version(name).split('+')[0]}"
    except PackageNotFoundError:
        declared = [Requirement(text) for text in requires("dml") or ()]
        return next((f"{name}{need.specifier}" for need in declared if need.name == name), name)


def signature(ensemble: Ensemble) -> "ModelSignature":
    """Columns that the model takes and returns, and the parameters that ask for attention and similar patients."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    inputs: list[Any] = [ColSpec("string", name) for name in ("patient_id", "path")]
    optional = {"expression": "string", "age": "double", "sex": "double", "site": "string", "mpp": "double"}
    optional |= {"upsample": "boolean"}
    if (clinical := ensemble.spec.preprocessor.clinical) is not None:
        optional |= {each.name: "string" if each.classes else "double" for each in clinical.inputs}
    inputs += [ColSpec(kind, name, required=False) for name, kind in optional.items()]
    text: list[Any] = [ColSpec("string", name) for name in ("patient_id", "status", "reason")]
    # a refused patient has neither numbers nor a decision
    outputs = [ColSpec("double", name, required=False) for name in ensemble.outputs]
    outputs += [ColSpec("string", name, required=False) for name in (*ensemble.decisions, ATTENTION, SIMILAR, INPUTS)]
    switches = [ParamSpec(name, "boolean", default=False) for name in (ATTENTION, SAME_SITE, INPUTS)]
    params = ParamSchema([*switches, ParamSpec(SIMILAR, "long", default=0)])
    return ModelSignature(Schema(inputs), Schema([*text, *outputs]), params)


def example(ensemble: Ensemble) -> "pd.DataFrame":
    """Make a request as a user would send it: two slides of one patient."""
    import pandas as pd

    slides = ["slides/patient-1_a.svs", "slides/patient-1_b.svs"]
    request = pd.DataFrame({"patient_id": "patient-1", "path": slides})
    return request if "genes" not in ensemble.spec.entry.inputs else request.assign(expression="expression.csv")
