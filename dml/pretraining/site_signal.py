"""How well the tokens of the own cohort tell the hospital, before and after pretraining: it should not rise.

A ridge classifier is cross-fitted on patients of the larger sites; the AUC is the mean over sites of one against the
rest, 0.5 by chance. The probe of a trained model on test patients is `dml.probes.site`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from dml.linear_models.site_classifier import score_sites

PARTS = 5


def site_auc(columns: Float[np.ndarray, "n c"], sites: Sequence[str]) -> float:
    """Return the cross-fitted AUC of the sites; patient i is predicted by a model of those not in part i mod 5."""
    from sklearn.metrics import roc_auc_score

    names = sorted(set(sites))
    label, part = np.array([names.index(site) for site in sites]), np.arange(len(sites)) % PARTS
    scores = np.zeros((len(sites), len(names)))
    for held_out in range(PARTS):
        train, test = part != held_out, part == held_out
        each, classes = score_sites(columns[train], label[train], columns[test])
        scores[np.ix_(test, classes)] = each
    return float(np.mean([roc_auc_score(label == k, scores[:, k]) for k in range(len(names))]))


def compare_site_signal(
    sources: Mapping[str, Float[np.ndarray, "n _"]], sites: Sequence[str], min_patients: int
) -> dict[str, float]:
    """Return the AUC of each source on the patients of sites that are large enough; nothing for fewer than two.

    Parameters
    ----------
    sources : mapping
        Name to one row a patient.
    sites : sequence of str
        Of the patients.
    min_patients : int
        Patients that a site must have, at least two a part.
    """
    counts = Counter(sites)
    chosen = np.array([counts[site] >= max(min_patients, 2 * PARTS) for site in sites], bool)
    inside = [site for site, keep in zip(sites, chosen, strict=True) if keep]
    if len(set(inside)) < 2:
        return {}
    aucs = {name: round(site_auc(columns[chosen], inside), 4) for name, columns in sources.items()}
    return {"sites": float(len(set(inside))), "patients": float(len(inside)), **aucs}
