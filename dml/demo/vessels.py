"""Vessels: an empty or blood-filled lumen, a wall that thickens with the TME factor, endothelial nuclei in the wall."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dml.demo.sprites import Layer, Points, Sprites, draw_contours, stamp

SIDE_UM = 80


@dataclass(frozen=True, slots=True)
class Canvas:
    """Densities of the painted slide [h w]: haematoxylin, eosin, and red blood cells."""

    haematoxylin: Layer
    eosin: Layer
    blood: Layer


def paint_vessels(
    rng: np.random.Generator, canvas: Canvas, points: Points, wall: float, endothelium: Sprites, um: float
) -> Float[np.ndarray, "n 3"]:
    """Paint a vessel at each point [n 2], `wall` in [0, 1]; return their centres and outer radii [n 3] in pixels."""
    n = len(points)
    radius = um * np.exp(rng.normal(np.log(5 + 2.5 * wall), 0.4, n)).clip(2.5, 15)
    elongation = np.exp(np.abs(rng.normal(0, 0.5, n))).clip(1, 3.2)
    thick = um * (1.2 + 4.2 * wall * rng.uniform(0.5, 1.3, n))
    angle, filled = rng.uniform(0, np.pi, n), rng.random(n) < 0.6
    halves = np.minimum(np.ceil(1.35 * radius * np.sqrt(elongation) + thick + 4), SIDE_UM * um / 2).astype(int)
    for i, (y, x) in enumerate(np.rint(points).astype(int).tolist()):
        half = int(halves[i])
        inside = draw_contours(rng, radius[i : i + 1], elongation[i : i + 1], 0.08, 2 * half + 1, angle[i : i + 1])[0]
        view = np.s_[y - half : y + half + 1, x - half : x + half + 1]
        _paint_vessel(canvas, view, inside, float(thick[i]), 0.9 if filled[i] else 0.0)
        _paint_endothelium(rng, canvas.haematoxylin, points[i], inside, float(thick[i]), endothelium, um)
    return np.column_stack([points, radius * np.sqrt(elongation) + thick])


def _paint_vessel(canvas: Canvas, view: tuple[slice, slice], inside: Layer, thick: float, blood: float) -> None:
    lumen = (inside + 0.5).clip(0, 1)
    outer = (inside + thick + 0.5).clip(0, 1)
    rim = ((inside + thick + 3) / 3).clip(0, 1)
    canvas.haematoxylin[view] *= 1 - outer
    canvas.eosin[view] *= 1 - np.maximum(0.35 * (rim - outer), lumen)
    canvas.eosin[view] += 0.22 * (outer - lumen)
    canvas.blood[view] = np.maximum(canvas.blood[view] * (1 - outer), blood * lumen)


def _paint_endothelium(
    rng: np.random.Generator,
    layer: Layer,
    centre: Float[np.ndarray, "2"],
    inside: Layer,
    thick: float,
    rods: Sprites,
    um: float,
) -> None:
    """Stamp rod nuclei along the wall, aligned with the contour."""
    ring_y, ring_x = np.nonzero(np.abs(inside + thick * 0.55) < 0.7)
    if len(ring_y) == 0:
        return
    layers = max(1, round(thick / (2.6 * um)))
    chosen = rng.choice(len(ring_y), size=max(3, round(len(ring_y) / (16 * um) * layers)))
    y, x = ring_y[chosen], ring_x[chosen]
    slope_y, slope_x = np.gradient(inside)
    tangent = np.mod(np.arctan2(slope_x[y, x], -slope_y[y, x]), np.pi)
    which = (tangent / np.pi * len(rods)).astype(int) % len(rods)
    away = np.stack([y, x], axis=1) - inside.shape[0] // 2 + rng.normal(0, 0.18 * thick, (len(chosen), 2))
    stamp(layer, rods.haematoxylin, which, centre + away)
