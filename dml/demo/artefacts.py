"""Artefacts of real slides: pen marks, regions out of focus, dust. Independent of the factors."""

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

PENS = np.array([[25, 60, 150], [20, 110, 60], [35, 35, 40]], dtype=np.float32)


def add_artefacts(rng: np.random.Generator, image: np.ndarray, um: float) -> tuple[str, ...]:
    """Add random artefacts to an image [h w 3] in place; return their names (`pen`, `blur`, `dust`)."""
    added = []
    for name, chance, add in (("blur", 0.2, _add_blur), ("dust", 0.3, _add_dust), ("pen", 0.15, _add_pen)):
        if rng.random() < chance:
            add(rng, image, um)
            added.append(name)
    return tuple(added)


def _add_blur(rng: np.random.Generator, image: np.ndarray, um: float) -> None:
    h, w = image.shape[:2]
    side_y, side_x = (int(n * rng.uniform(0.2, 0.35)) for n in (h, w))
    y, x = (int(rng.integers(0, n - s)) for n, s in ((h, side_y), (w, side_x)))
    view = image[y : y + side_y, x : x + side_x]
    soft = view.astype(np.float32)
    for _ in range(2):
        soft = uniform_filter(soft, size=(2 * round(um) + 1, 2 * round(um) + 1, 1))
    ramp = [np.minimum(np.arange(s), np.arange(s)[::-1]).astype(np.float32) for s in (side_y, side_x)]
    weight = np.minimum(ramp[0][:, None], ramp[1]).clip(0, 60)[..., None] / 60
    view[...] = np.rint(view + (soft - view) * weight).astype(np.uint8)


def _add_dust(rng: np.random.Generator, image: np.ndarray, um: float) -> None:
    size = max(5, round(8 * um))
    steps = np.arange(-size, size + 1)
    for _ in range(int(rng.integers(2, 7))):
        y, x = (int(rng.integers(size, n - size - 1)) for n in image.shape[:2])
        speck = np.hypot(steps[:, None] * rng.uniform(0.7, 1.6), steps) < size * rng.uniform(0.2, 0.9)
        through = 1 - 0.75 * gaussian_filter(speck.astype(np.float32), 1.0)[..., None]
        view = image[y - size : y + size + 1, x - size : x + size + 1]
        view[...] = np.rint(view * through).astype(np.uint8)


def _add_pen(rng: np.random.Generator, image: np.ndarray, um: float) -> None:
    """Draw a thick arc near one edge of the slide."""
    h, w = image.shape[:2]
    colour = PENS[rng.integers(len(PENS))]
    edge, width = int(rng.integers(4)), 22 * um
    along = np.linspace(-1, 1, 160)
    bend = rng.uniform(0.02, 0.09) * (1 - along**2) + 0.012 * np.sin(along * rng.uniform(4, 9) + rng.uniform(0, 6))
    reach = rng.uniform(0.18, 0.4) * along + rng.uniform(0.35, 0.65)
    inward = 0.03 + bend
    y, x = ((inward, reach), (1 - inward, reach), (reach, inward), (reach, 1 - inward))[edge]
    _draw_stroke(image, np.stack([y * h, x * w], axis=1), width, colour)


def _draw_stroke(image: np.ndarray, path: np.ndarray, width: float, colour: np.ndarray) -> None:
    h, w = image.shape[:2]
    low = np.maximum(path.min(axis=0) - width, 0).astype(int)
    high = np.minimum(path.max(axis=0) + width + 1, (h, w)).astype(int)
    y, x = np.arange(low[0], high[0], dtype=np.float32), np.arange(low[1], high[1], dtype=np.float32)
    nearest = np.full((len(y), len(x)), np.inf, dtype=np.float32)
    for py, px in path[::2].astype(np.float32):
        np.minimum(nearest, (y[:, None] - py) ** 2 + (x - px) ** 2, out=nearest)
    cover = ((width / 2 - np.sqrt(nearest)) / 3).clip(0, 0.88)[..., None]
    view = image[low[0] : high[0], low[1] : high[1]]
    view[...] = np.rint(view * (1 - cover) + colour * cover * (0.25 + 0.75 * view / 255)).astype(np.uint8)
