"""Ridge classifier of the hospital, by which embeddings and features are probed for batch effects.

Shape legend: n training patients, m other patients, c columns, k sites.
"""

import numpy as np
from jaxtyping import Float, Int

PENALTIES = np.logspace(0, 6, 13)
"""Ridge penalties; chosen by leave-one-out of the training patients."""


def score_sites(
    columns: Float[np.ndarray, "n c"], site: Int[np.ndarray, "n"], others: Float[np.ndarray, "m c"]
) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, "k"]]:
    """Fit to patients of known site; return the scores of others, and the sites of their columns."""
    from sklearn.linear_model import RidgeClassifierCV

    middle, scale = columns.mean(0), columns.std(0) + 1e-9
    model = RidgeClassifierCV(alphas=PENALTIES, class_weight="balanced").fit((columns - middle) / scale, site)
    scores = np.asarray(model.decision_function((others - middle) / scale)) if len(others) else np.zeros((0, 2))
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores, np.asarray(model.classes_)
