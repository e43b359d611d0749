"""``dml spatial``: the maps of a model against what was measured at the spots of a cohort."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dml.cli.output import Json, note, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dml.core.types import Cohort
    from dml.data.cohort_store import CohortStore
    from dml.training.checkpoint import FoldModel


def spatial(
    model: Annotated[str, typer.Option(help="<name>@<alias>, <name>/<version>, or models/<cohort>/<task>/<model>.")],
    cohort: Annotated[str, typer.Option(help="A spatial cohort whose stores are in data/<cohort>.")],
    draws: Annotated[int | None, typer.Option(min=99, help="Moves under the null; default in params.yaml.")] = None,
    output: Annotated[
        str | None, typer.Option(help="Output that is mapped; default risk, value or last class.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default reports/<cohort>/spatial/<model>.")] = None,
    as_json: Json = False,
) -> None:
    """Compare what a model's tiles contribute, per subspace, with spots: signatures, genes, cell types, regions.

    Each section is mapped by the folds that were trained on none of its units. Writes spatial.html, spatial.json,
    spots.parquet and figures.
    """
    from dml.config import params as config
    from dml.data.cohort_store import CohortStore
    from dml.spatial.cohort_validation import read_spatial_cohort, settings_of, validate_and_report

    params, store = config.load(), CohortStore.of(cohort)
    spots = read_spatial_cohort(store)
    name, result, folds, units = _load(model, store)
    settings = settings_of(params, spots.spacing_um, draws)
    folder = out or Path("reports") / cohort / "spatial" / result
    (validation,) = validate_and_report({name: folds}, store, spots, units, settings, folder, model, output)
    rows = [row.to_json() for row in validation.claims]
    columns = ("map", "less", "measurement", "statistic", "value", "ci_low", "ci_high", "p", "p_table", "shown")
    show([{key: row[key] for key in columns} for row in rows], as_json, f"{model} on {cohort}")
    hidden = sum(not row.shown for row in validation.claims)
    note(f"{hidden} of {len(rows)} are not shown; written: {folder}/spatial.html, spatial.json, spots.parquet, figures")


def _load(model: str, store: "CohortStore") -> "tuple[str, str, Sequence[FoldModel], Cohort]":
    """Load the folds of a folder or of a registered version, and the units that they can read.

    Also returns the name of the model among teacher, student and the baselines, and the name of its folder of results.
    """
    from dml.experiments.external_validation import convert_expression
    from dml.inference.compatibility import check_features
    from dml.inference.ensemble import Ensemble
    from dml.registry.packaged_code import download
    from dml.registry.versions import resolve

    if Path(model).is_dir():
        folder, result = Path(model), Path(model).resolve().name
    else:
        version = resolve(model)
        folder, result = download(version) / "artifacts" / "folds", version.name
    ensemble = Ensemble.load(folder)
    spec = ensemble.spec
    check_features(store.features_folder, spec)
    units = store.cohort(spec.preprocessor.encoder, spec.preprocessor.mpps)
    if "genes" in spec.entry.inputs:
        units = convert_expression(units, store.expression_path, spec)
    return spec.name, result, ensemble.folds, units
