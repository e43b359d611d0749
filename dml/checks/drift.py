"""How two groups of patients differ: gene by gene, label by label, and in what their slides look like.

A difference of means is given in pooled standard deviations (d, Cohen 1988): 0.2 is small, 0.8 large.
`classifier_auc` is the cross-validated AUC of a classifier of the groups: 0.5 = it cannot tell them apart, 1 = always.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from dml.checks.gene_drift import LIMITS, compare_groups_of_rows, standardise
from dml.cohorts.store_files import ExpressionMatrix

LARGE_D = 0.8
"""|d| from which a gene or dimension counts as drifted."""
GENE_COLUMNS = ["gene", "mean_a", "mean_b", "d", "ks"]
N_COMPONENTS = 10
N_FOLDS = 5
FEW = 4
"""Times that rows and columns must exceed the components for these to be computed alone, in a sixth of the time."""

Values = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Drift:
    """Differences of two groups; each table has one row a gene, class or quantity, the largest difference first."""

    genes: pd.DataFrame
    labels: pd.DataFrame
    numbers: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def drifted(self) -> float:
        """Share of genes with a large difference."""
        return share_drifted(self.genes["d"].to_numpy())


def share_drifted(d: Values) -> float:
    """Share of differences whose size is `LARGE_D` or more; 0 if there are none."""
    return float((np.abs(d) >= LARGE_D).mean()) if len(d) else 0.0


def difference(a: Float[np.ndarray, "n g"], b: Float[np.ndarray, "m g"]) -> Float[np.ndarray, "g"]:
    """Return the difference of the columns' means (b - a) in pooled standard deviations; 0 where nothing varies."""
    degrees = max(len(a) + len(b) - 2, 1)
    squares = ((a - a.mean(axis=0)) ** 2).sum(axis=0) + ((b - b.mean(axis=0)) ** 2).sum(axis=0)
    pooled = np.sqrt(squares / degrees)
    gap = b.mean(axis=0) - a.mean(axis=0)
    return standardise(gap, pooled)


def classifier_auc(a: Float[np.ndarray, "n g"], b: Float[np.ndarray, "m g"]) -> float | None:
    """Return how well a classifier tells the rows of two groups apart; None if one has fewer than `N_FOLDS` rows.

    Principal components and a logistic regression, fitted on four fifths and scored (AUC) on the rest, five times.
    """
    from scipy.sparse.linalg import ArpackError
    from sklearn.metrics import roc_auc_score

    if min(len(a), len(b)) < N_FOLDS:
        return None
    if not np.ptp(a, axis=0).any() and not np.ptp(b, axis=0).any() and (a[0] == b[0]).all():
        return 0.5
    rows, truth = np.vstack([a, b]).astype(np.float64), np.repeat([0, 1], [len(a), len(b)])
    smallest_fold = len(rows) - -(-len(rows) // N_FOLDS)
    components = min(N_COMPONENTS, rows.shape[1], smallest_fold - 1)
    few = components < min(rows.shape[1], smallest_fold) / FEW
    try:
        scores = _cross_validated_scores(rows, truth, components, "arpack" if few else "full")
    except ArpackError:  # no row differs from another in some four fifths
        scores = _cross_validated_scores(rows, truth, components, "full")
    return float(roc_auc_score(truth, scores))


def _cross_validated_scores(
    rows: Float[np.ndarray, "n g"], truth: Int[np.ndarray, "n"], components: int, solver: Literal["arpack", "full"]
) -> Float[np.ndarray, "n"]:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reduce = PCA(components, svd_solver=solver, random_state=0)
    model = make_pipeline(StandardScaler(), reduce, LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    scores: np.ndarray = cross_val_predict(model, rows, truth, cv=folds, method="decision_function")
    return scores


def compare_genes(a: ExpressionMatrix, b: ExpressionMatrix) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Compare the genes that both have, each held within its 1st and 99th percentile (published z-scores reach 3,515).

    Returns
    -------
    DataFrame
        gene, mean_a, mean_b, d (`difference`), ks (Kolmogorov-Smirnov statistic), sorted by size of d.
    tuple of str
        Caveats: genes of one only, different units.
    """
    genes = sorted(set(a.genes) & set(b.genes))
    notes = []
    if a.unit != b.unit:
        notes.append(f"units differ ({a.unit} and {b.unit}): differences of means say nothing")
    if len(genes) < max(len(a.genes), len(b.genes)):
        notes.append(f"{len(genes)} genes in both, {len(a.genes)} and {len(b.genes)} in each")
    if not genes or not a.patient_ids or not b.patient_ids:
        return pd.DataFrame(columns=GENE_COLUMNS), tuple(notes)
    first, second = shared_genes(a, b)
    table = pd.DataFrame(
        {
            "gene": genes,
            "mean_a": first.mean(axis=0),
            "mean_b": second.mean(axis=0),
            "d": difference(first, second),
            "ks": [_ks(x, y) for x, y in zip(first.T, second.T, strict=True)],
        }
    )
    return _largest_first(table), tuple(notes)


def shared_genes(a: ExpressionMatrix, b: ExpressionMatrix) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "m g"]]:
    """Return the genes of both, in alphabetical order, held within the 1st and 99th percentile of all patients."""
    genes = sorted(set(a.genes) & set(b.genes))
    first, second = (_columns(m, genes).astype(np.float64) for m in (a, b))
    low, high = np.percentile(np.vstack([first, second]), LIMITS, axis=0)
    return first.clip(low, high), second.clip(low, high)


def compare_labels(a: pd.DataFrame, b: pd.DataFrame, classes: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Compare how often classes occur among patients with a known label.

    Returns
    -------
    DataFrame
        label, class, share_a, share_b, known_a, known_b (patients), distance (total variation of the label, 0 to 1).
    """
    rows = []
    for label, names in classes.items():
        if label not in a or label not in b or not len(names):
            continue
        observed = [frame[label].dropna() for frame in (a, b)]
        shares = [cells.value_counts(normalize=True).reindex(list(names), fill_value=0.0) for cells in observed]
        distance = float((shares[0] - shares[1]).abs().sum() / 2) if all(len(cells) for cells in observed) else None
        for name in names:
            counts = {"known_a": len(observed[0]), "known_b": len(observed[1]), "distance": distance}
            rows.append(
                {"label": label, "class": name, "share_a": shares[0][name], "share_b": shares[1][name], **counts}
            )
    return pd.DataFrame(rows, columns=["label", "class", "share_a", "share_b", "known_a", "known_b", "distance"])


def compare_numbers(a: pd.DataFrame, b: pd.DataFrame, labels: Sequence[str] = ()) -> pd.DataFrame:
    """Compare age, sex, follow-up, share of deaths and numeric labels.

    Returns
    -------
    DataFrame
        quantity, a, b (means; medians of days), d, known_a, known_b.
    """
    rows = []
    summary: dict[str, Callable[[pd.Series], float]] = {
        "age": pd.Series.mean,
        "sex": pd.Series.mean,
        "survival_days": pd.Series.median,
        "event": pd.Series.mean,
        **dict.fromkeys((name for name in labels if name in a and name in b), pd.Series.mean),
    }
    names = {"sex": "share of women", "survival_days": "days of follow-up (median)", "event": "share of deaths"}
    for column, measure in summary.items():
        observed = [frame[column].dropna().astype(np.float64) for frame in (a, b)]
        if not all(len(cells) for cells in observed):
            continue
        d = difference(observed[0].to_numpy()[:, None], observed[1].to_numpy()[:, None])[0]
        counts = {"known_a": len(observed[0]), "known_b": len(observed[1])}
        values = {"a": float(measure(observed[0])), "b": float(measure(observed[1]))}
        rows.append({"quantity": names.get(column, column), **values, "d": float(d), **counts})
    return pd.DataFrame(rows, columns=["quantity", "a", "b", "d", "known_a", "known_b"])


def compare(
    a: pd.DataFrame, b: pd.DataFrame, expression: tuple[ExpressionMatrix, ExpressionMatrix],
    classes: Mapping[str, Sequence[str]],
) -> Drift:  # fmt: skip
    """Compare two groups of patients (tables as `read_patients` returns) and their expression."""
    genes, notes = compare_genes(*expression)
    numeric = [name for name, names in classes.items() if not len(names)]
    return Drift(genes, compare_labels(a, b, classes), compare_numbers(a, b, numeric), notes)


def compare_groups(
    axis: str,
    patients: pd.DataFrame,
    expression: ExpressionMatrix,
    classes: Mapping[str, Sequence[str]],
    min_patients: int,
) -> dict[str, Drift]:
    """Compare each site (or cohort: the column `axis`) that is large enough with all others; b is the site."""
    genes = compare_genes_of_groups(expression, dict(zip(patients["patient_id"], patients[axis], strict=True)))
    numeric = [label for label, each in classes.items() if not len(each)]
    drifts = {}
    for site, rows in patients.groupby(axis, sort=True):
        others = patients[patients[axis] != site]
        if min(len(rows), len(others)) >= min_patients:
            table = genes.get(str(site), pd.DataFrame(columns=GENE_COLUMNS))
            labels, numbers = compare_labels(others, rows, classes), compare_numbers(others, rows, numeric)
            drifts[str(site)] = Drift(table, labels, numbers)
    return drifts


def compare_genes_of_groups(expression: ExpressionMatrix, groups: Mapping[str, object]) -> dict[str, pd.DataFrame]:
    """Compare each group with the other patients as `compare_genes` does, sorting each gene once for all groups.

    Parameters
    ----------
    expression : ExpressionMatrix
        Of all patients.
    groups : mapping
        patient_id -> group; patients without one (missing) count among the others of every group.

    Returns
    -------
    dict
        Group (as text) -> table of `compare_genes`; empty if fewer than two groups have expression.
    """
    rows = [i for i, patient in enumerate(expression.patient_ids) if patient in groups]
    codes, names = pd.factorize(pd.Series([groups[expression.patient_ids[i]] for i in rows]), sort=True)
    codes = np.where(codes < 0, len(names), codes)
    number = len(np.unique(codes))
    genes = sorted(expression.genes)
    if number < 2 or not genes:
        return {}
    values = _columns(expression, genes)[rows]
    result = compare_groups_of_rows(values, codes, number)
    tables = {}
    for i, group in enumerate(names):
        columns = (genes, result.mean_others[i], result.mean[i], result.d[i], result.ks[i])
        tables[str(group)] = _largest_first(pd.DataFrame(dict(zip(GENE_COLUMNS, columns, strict=True))))
    return tables


def _largest_first(genes: pd.DataFrame) -> pd.DataFrame:
    order = np.lexsort((genes["gene"], -genes["d"].abs()))
    return genes.iloc[order].reset_index(drop=True)


def _columns(matrix: ExpressionMatrix, genes: Sequence[str]) -> Values:
    index = {gene: i for i, gene in enumerate(matrix.genes)}
    return np.asarray(matrix.values[:, [index[gene] for gene in genes]])


def _ks(x: Values, y: Values) -> float:
    """Largest distance between two empirical distribution functions."""
    points = np.concatenate([x, y])
    below = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (x, y)]
    return float(np.abs(below[0] - below[1]).max())
