"""Pre-rendered nuclei: batches of small images of haematoxylin density that are copied onto the canvas.

Shape legend: k sprites, s pixels a side.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import uniform_filter

Images = Float[np.ndarray, "k s s"]
Each = Float[np.ndarray, "k"]
Which = Int[np.ndarray, "n"]
Points = Float[np.ndarray, "n 2"]
Layer = Float[np.ndarray, "h w"]


@dataclass(frozen=True, slots=True)
class Sprites:
    """Images of one kind of nucleus: haematoxylin density, and a ring around it (cytoplasm or halo)."""

    haematoxylin: Images
    ring: Images

    @property
    def side(self) -> int:
        """Pixels a side."""
        return int(self.haematoxylin.shape[-1])

    def __len__(self) -> int:
        return len(self.haematoxylin)


def render_tumor_nuclei(rng: np.random.Generator, k: int, atypia: float, um: float) -> Sprites:
    """Render nuclei of a tumor; `atypia` in [0, 1] makes them larger, more unequal, irregular, darker and coarser.

    `um` is the number of pixels in a micron; diameters run from about 7 to 11 microns on average.
    """
    unequal = 0.07 + 0.17 * atypia
    radius = um * (3.4 + 1.9 * atypia) * np.exp(rng.normal(0, unequal, k)).clip(0.6, 1.6)
    elongation = np.exp(np.abs(rng.normal(0, 0.12 + 0.2 * atypia, k))).clip(1, 2.2)
    inside = draw_contours(rng, radius, elongation, 0.03 + 0.07 * atypia, side=_side_px(radius, elongation, um))
    dark = (0.78 + 0.32 * atypia) * rng.normal(1, 0.08 + 0.1 * atypia, k).clip(0.6, 1.4)
    density = render_chromatin(rng, inside, dark, rim=0.1, coarse=0.1 + 0.12 * atypia)
    return Sprites(add_nucleoli(rng, density, inside, share=0.15 + 0.5 * atypia), render_ring(inside, 2.2 * um))


def render_lymphocytes(rng: np.random.Generator, k: int, um: float) -> Sprites:
    """Render lymphocytes: round, about 6 microns, almost black, with little cytoplasm."""
    radius = um * rng.normal(3.0, 0.22, k)
    inside = draw_contours(rng, radius, np.full(k, 1.06), 0.03, side=_side_px(radius, np.full(k, 1.1), um))
    return Sprites(
        render_chromatin(rng, inside, rng.normal(1.42, 0.1, k), rim=0.1, coarse=0.13), render_ring(inside, 0.8 * um)
    )


def render_rods(rng: np.random.Generator, k: int, um: float) -> Sprites:
    """Render rod-like nuclei of microglia and endothelium, sorted by angle from 0 to pi."""
    radius, elongation = um * rng.normal(2.7, 0.2, k), rng.uniform(2.2, 3.4, k)
    angle = (np.arange(k) + 0.5) * np.pi / k
    inside = draw_contours(rng, radius, elongation, 0.05, side=_side_px(radius, elongation, um), angle=angle)
    return Sprites(
        render_chromatin(rng, inside, rng.normal(1.05, 0.1, k), rim=0.15, coarse=0.12), render_ring(inside, 0.8 * um)
    )


def render_mitoses(rng: np.random.Generator, k: int, um: float) -> Sprites:
    """Render mitotic figures: dark ragged plates in a cleared cell."""
    radius, elongation = um * rng.normal(3.3, 0.35, k), rng.uniform(1.6, 3.2, k)
    inside = draw_contours(rng, radius, elongation, 0.3, side=_side_px(radius * 1.35, elongation, um))
    return Sprites(render_chromatin(rng, inside, np.full(k, 1.75), rim=0.0, coarse=0.15), render_ring(inside, 4.0 * um))


def render_debris(rng: np.random.Generator, k: int, um: float) -> Sprites:
    """Render nuclear debris in necrosis."""
    radius = um * rng.uniform(0.5, 1.5, k)
    inside = draw_contours(rng, radius, np.full(k, 1.2), 0.2, side=_side_px(radius * 1.2, np.full(k, 1.3), um))
    return Sprites(
        render_chromatin(rng, inside, rng.uniform(0.6, 1.3, k), rim=0.0, coarse=0.1), render_ring(inside, 0.5 * um)
    )


def _side_px(radius: Each, elongation: Each, um: float) -> int:
    return 2 * int(np.ceil((radius * np.sqrt(elongation)).max() * 1.1 + 2 * um)) + 1


def draw_contours(
    rng: np.random.Generator,
    radius: Each,
    elongation: Each,
    ragged: float,
    side: int,
    angle: Each | None = None,
) -> Images:
    """Return about how many pixels each point lies inside an irregular ellipse [k s s], negative outside."""
    k = len(radius)
    turn = rng.uniform(0, np.pi, k) if angle is None else angle
    steps = (np.arange(side) - side // 2).astype(np.float32)
    cos, sin = (f(turn).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    stretch = np.sqrt(elongation).astype(np.float32)[:, None, None]
    along = (steps * cos + steps[:, None] * sin) / stretch
    across = (steps[:, None] * cos - steps * sin) * stretch
    distance, theta = np.hypot(along, across), np.arctan2(across, along)
    irregularity = np.ones_like(distance)
    for wave in (2, 3, 4, 5):
        size, phase = (x.astype(np.float32)[:, None, None] for x in (rng.normal(0, ragged, k), rng.uniform(0, 6.3, k)))
        irregularity += size * np.cos(wave * theta + phase) * np.float32(1.5 / wave)
    result: Images = radius.astype(np.float32)[:, None, None] * irregularity.clip(0.35, None) - distance
    return result


def render_chromatin(rng: np.random.Generator, inside: Images, dark: Each, rim: float, coarse: float) -> Images:
    """Turn contours [k s s] into densities: chromatin noise inside, a darker membrane, a soft edge of about a pixel."""
    noise = rng.standard_normal(inside.shape, dtype=np.float32)
    for _ in range(2):
        noise = uniform_filter(noise, size=(1, 3, 3), mode="wrap")
    chromatin = noise / noise.std()
    membrane = np.exp(-((inside - 1.0) ** 2) / 2)
    density = dark.astype(np.float32)[:, None, None] * (1 - rim + rim * 2 * membrane + coarse * chromatin)
    result: Images = (density.clip(0.15, 2.3) * (inside * 0.6 + 0.5).clip(0, 1)).astype(np.float32)
    return result


def add_nucleoli(rng: np.random.Generator, density: Images, inside: Images, share: float) -> Images:
    """Add a dark spot near the middle of a share of the nuclei [k s s]."""
    k, side = len(density), density.shape[-1]
    steps = (np.arange(side) - side // 2).astype(np.float32)
    y, x = (rng.normal(0, 1.8, (k, 1, 1)).astype(np.float32) for _ in range(2))
    spot = np.exp(-((steps[:, None] - y) ** 2 + (steps - x) ** 2) / np.float32(2 * 1.3**2)) * (inside > 1)
    result: Images = (density + 0.7 * spot * (rng.random((k, 1, 1)) < share)).astype(np.float32)
    return result


def render_ring(inside: Images, width_px: float) -> Images:
    """Return a soft ring [k s s] of about `width_px` around each contour, 0 inside and far outside."""
    outside = np.maximum(-inside, 0)
    ring: Images = (np.exp(-((outside / width_px) ** 2)) * (inside < 0.5)).astype(np.float32)
    return ring


def stamp(canvas: Layer, images: Images, which: Which, points: Points) -> None:
    """Copy images [k s s] onto a canvas by pixelwise maximum; points [n 2] are centres and lie well inside."""
    half = images.shape[-1] // 2
    corners = (np.rint(points).astype(int) - half).tolist()
    for (y, x), index in zip(corners, which.tolist(), strict=True):
        image = images[index]
        view = canvas[y : y + image.shape[0], x : x + image.shape[1]]
        np.maximum(view, image, out=view)


def blend(canvas: Layer, images: Images, which: Which, points: Points) -> None:
    """Add images [k s s] to a canvas at points [n 2] (centres that lie well inside)."""
    half = images.shape[-1] // 2
    corners = (np.rint(points).astype(int) - half).tolist()
    for (y, x), index in zip(corners, which.tolist(), strict=True):
        image = images[index]
        view = canvas[y : y + image.shape[0], x : x + image.shape[1]]
        np.add(view, image, out=view)
