"""Similar patients by a registered model or a folder of fold models, with the model's prediction beside them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dml.core.errors import CheckFailed
from dml.registry.predict import SAME_SITE, SIMILAR, add_sites, predict, request_table

if TYPE_CHECKING:
    import pandas as pd


class SimilarAnswer(NamedTuple):
    """One patient: the row of the prediction, and the similar cases (None for a refused patient)."""

    prediction: Mapping[str, Any]
    similar: Mapping[str, Any] | None


def find_similar(
    model: str,
    slides: Path,
    expression: Path | None = None,
    slide_table: Path | None = None,
    k: int = 20,
    same_site: bool = False,
    site: str | None = None,
    mpp: float | None = None,
) -> list[SimilarAnswer]:
    """Return the most similar learning patients of every patient of some slides.

    Parameters
    ----------
    model : str
        ``<name>@<alias>``, ``<name>/<version>``, or a folder of fold models, ``models/<cohort>/<task>/<model>``.
    slides, expression, slide_table, mpp
        As `dml.registry.predict.request_table` takes them.
    k : int
        Neighbours in each space.
    same_site : bool
        Allow patients of the same hospital.
    site : str, optional
        Hospital of all patients of the request, where a table of slides does not say it.

    Raises
    ------
    InputError
        If the model has no case bank, or the model or the slides do not exist.
    CheckFailed
        If no patient could be predicted.
    """
    params = {SIMILAR: k, SAME_SITE: same_site}
    if Path(model).is_dir():
        requested = add_sites(request_table(slides, expression, slide_table, mpp), site)
        table = _predict_here(Path(model), requested, params)
    else:
        table = predict(model, slides, expression, slide_table, mpp=mpp, params=params, site=site)
    answers = [_answer(row) for row in table.to_dict("records")]
    if all(answer.similar is None for answer in answers):
        raise CheckFailed(f"{slides}: no patient could be compared; {answers[0].prediction['reason']}")
    return answers


def _predict_here(folder: Path, table: "pd.DataFrame", params: Mapping[str, Any]) -> "pd.DataFrame":
    from dml.inference.ensemble import Ensemble
    from dml.inference.predictor import Predictor
    from dml.inference.similar_patients import read_bank, require_bank

    ensemble = Ensemble.load(folder)
    bank = require_bank(read_bank(folder), ensemble.spec)
    return Predictor(ensemble, bank=bank)(table, **params)


def _answer(row: Mapping[Any, Any]) -> SimilarAnswer:
    text = row.get(SIMILAR)
    prediction = {str(name): value for name, value in row.items() if name != SIMILAR}
    return SimilarAnswer(prediction, json.loads(text) if isinstance(text, str) else None)
