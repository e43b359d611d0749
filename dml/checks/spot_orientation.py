"""Whether spots lie on the tissue as they are given, or fit better mirrored, rotated or shifted.

Spots were chosen where tissue is, so a right table has spots on tissue and array places without spots off it. The
score of a table is the share of its spots on tissue minus the share of its empty places on tissue (Youden's J). Where
the array is full there is no empty place; then the score is the rank correlation of the spots' library size with the
density of stain, which follows that of nuclei.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

TRANSFORMS: Mapping[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "as given": ((1, 0), (0, 1)),
    "mirrored left to right": ((-1, 0), (0, 1)),
    "mirrored top to bottom": ((1, 0), (0, -1)),
    "rotated by 180 degrees": ((-1, 0), (0, -1)),
    "with x and y exchanged": ((0, 1), (1, 0)),
    "rotated by 90 degrees clockwise": ((0, -1), (1, 0)),
    "rotated by 90 degrees counterclockwise": ((0, 1), (-1, 0)),
    "with x and y exchanged and rotated by 180 degrees": ((0, -1), (-1, 0)),
}
"""The eight symmetries of a square in pixel coordinates (y points down), by what is done to the table."""
GIVEN = "as given"
MIN_EMPTY = 10
"""Empty array places from which they tell where tissue is."""
MARGIN, MARGIN_RANK = 0.1, 0.2
"""How much better another orientation must fit: in Youden's J, and in the rank correlation."""
MIN_RANK = 0.3
"""Rank correlation from which library sizes tell an orientation at all."""
_SHIFTS = 10  # steps of the array that a transformed table is shifted at most
_GAP = 0.75  # steps from the nearest spot beyond which a place is empty
_TIE = 0.02  # a table mirrored in the frame of the image is preferred to one that fits better by less


@dataclass(frozen=True, slots=True)
class TissueMap:
    """Tissue and stain of a slide, averaged over the disc of a spot.

    Attributes
    ----------
    share : float [h w]
        Share of the disc that is tissue.
    density : float [h w]
        Mean optical density of the disc.
    px : float
        Level-0 pixels per pixel of the map.
    size : (float, float)
        Width and height of the slide in level-0 pixels.
    """

    share: Float[np.ndarray, "h w"]
    density: Float[np.ndarray, "h w"]
    px: float
    size: tuple[float, float]

    def sample(self, values: Float[np.ndarray, "h w"], points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
        """Return the values of a map at points in level-0 pixels; 0 outside the slide."""
        index = np.floor(points / self.px).astype(int)
        inside = ((index >= 0) & (index < values.shape[::-1])).all(axis=1)
        result = np.zeros(len(points))
        result[inside] = values[index[inside, 1], index[inside, 0]]
        return result

    def on_tissue(self, points: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, "n"]:
        """Whether half of the disc around each point, or more, is tissue."""
        return np.asarray(self.sample(self.share, points) >= 0.5)


@dataclass(frozen=True, slots=True)
class Orientation:
    """How well a table of spots fits the tissue, and what would fit best.

    Attributes
    ----------
    on_tissue, empty_on_tissue : float
        Share of the spots, and of the empty places of the array, that are on tissue; as given.
    rank : float
        Spearman correlation of library size and stain density of the spots on tissue; NaN where it is undefined.
    score, best_score : float
        As given, and of the best other orientation: Youden's J, or the rank correlation where the array is full.
    better : str
        The orientation that fits, as an instruction; empty where the table fits as it is.
    shifted : bool
        Whether that is a shift alone.
    """

    on_tissue: float
    empty_on_tissue: float
    rank: float
    score: float
    best_score: float
    better: str
    shifted: bool = False


def find_orientation(
    spots: Float[np.ndarray, "n 2"],
    library_size: Float[np.ndarray, "n"],
    steps: Float[np.ndarray, "2 2"],
    tissue: TissueMap,
) -> Orientation:
    """Compare a table of spots with its mirrored, rotated and shifted versions on the tissue.

    Parameters
    ----------
    spots : float [n 2]
        Centres in level-0 pixels.
    library_size : float [n]
        Total counts.
    steps : float [2 2]
        The steps of the array along its two axes, in level-0 pixels.
    tissue : TissueMap
        Of the slide.
    """
    empty = empty_places(spots, steps, tissue.size)
    on_tissue, empty_on_tissue = _share(tissue, spots), _share(tissue, empty)
    rank = rank_correlation(library_size, spots, tissue)
    step = float(np.sqrt(abs(np.linalg.det(steps))))
    if has_gaps := len(empty) >= MIN_EMPTY:
        score = on_tissue - empty_on_tissue
        moves = [(_share(tissue, move(spots)) - _share(tissue, move(empty)), move)
                 for move in _moves(spots, steps, tissue.size, _SHIFTS)]  # fmt: skip
        margin = MARGIN
    else:
        score = float(np.nan_to_num(rank))
        moves = [(float(np.nan_to_num(rank_correlation(library_size, move(spots), tissue))), move)
                 for move in _moves(spots, steps, tissue.size, 0)]  # fmt: skip
        margin = max(MARGIN_RANK, MIN_RANK - score)
    highest = max(value for value, _ in moves)
    best_score, best = next((value, move) for value, move in moves if value >= highest - _TIE)
    fits = best_score >= score + margin
    if fits and has_gaps:  # tissue without spots can make a wrong place look right, and the library sizes know better
        moved = rank_correlation(library_size, best(spots), tissue)
        fits = not moved < rank - MARGIN
    better = best.describe(tissue.size, step) if fits else ""
    return Orientation(on_tissue, empty_on_tissue, rank, score, best_score, better, best.name == GIVEN and fits)


def empty_places(
    spots: Float[np.ndarray, "n 2"], steps: Float[np.ndarray, "2 2"], size: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the places of an array of these steps without a spot, around and between the spots, inside the slide."""
    origin = spots[0]
    indices = (spots - origin) @ np.linalg.inv(steps)
    low, high = np.floor(indices.min(axis=0)) - 1, np.ceil(indices.max(axis=0)) + 1
    axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    places = np.array(list(product(*axes)), np.float64)
    gap = cKDTree(indices).query(places)[0]
    pixels = places[gap > _GAP] @ steps + origin
    return np.asarray(pixels[((pixels >= 0) & (pixels < size)).all(axis=1)])


def rank_correlation(
    library_size: Float[np.ndarray, "n"], points: Float[np.ndarray, "n 2"], tissue: TissueMap
) -> float:
    """Return Spearman's correlation of library size and stain density of the spots on tissue; NaN if undefined."""
    inside = tissue.on_tissue(points)
    density = tissue.sample(tissue.density, points)[inside]
    sizes = library_size[inside]
    if inside.sum() < 3 or np.ptp(density) == 0 or np.ptp(sizes) == 0:
        return float("nan")
    return float(spearmanr(sizes, density)[0])


@dataclass(frozen=True, slots=True)
class _Move:
    """One of the eight symmetries about `centre`, which goes to `target`."""

    name: str
    centre: NDArray[np.float64]
    target: NDArray[np.float64]

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((points - self.centre) @ np.array(TRANSFORMS[self.name]).T + self.target)

    def describe(self, size: tuple[float, float], step: float) -> str:
        """Say what to do with the table, as formulas of the new pixel positions."""
        matrix = np.array(TRANSFORMS[self.name])
        offset = self.target - matrix @ self.centre
        formulas = []
        for axis, row, constant in zip("xy", matrix, offset, strict=True):
            term = "x" if row[0] else "y"
            sign = int(row.sum())
            near = next((side for side in size if sign < 0 and abs(constant - side) < step / 2), None)
            value = f"{constant if near is None else near:.0f}"
            if sign < 0:
                formulas.append(f"{axis} = {value} - {term}")
            else:
                formulas.append(f"{axis} = {term}" if abs(constant) < 1 else f"{axis} = {term} + {value}")
        name = "shifted" if self.name == GIVEN else self.name
        return f"{name} ({', '.join(formulas)})".replace("+ -", "- ")


def _moves(
    spots: NDArray[np.float64], steps: NDArray[np.float64], size: tuple[float, float], shifts: int
) -> Iterator[_Move]:
    """Yield the other orientations: in the frame of the image, then about the spots, shifted by whole steps."""
    middle = np.array(size) / 2
    for name, matrix in TRANSFORMS.items():
        if name != GIVEN:
            yield _Move(name, middle[::-1] if matrix[0][0] == 0 else middle, middle)
    centre = (spots.min(axis=0) + spots.max(axis=0)) / 2
    for name in TRANSFORMS:
        for shift in product(range(-shifts, shifts + 1), repeat=2):
            if name != GIVEN or any(shift):
                yield _Move(name, centre, centre + np.array(shift) @ steps)


def _share(tissue: TissueMap, points: NDArray[np.float64]) -> float:
    return float(tissue.on_tissue(points).mean()) if len(points) else 0.0
