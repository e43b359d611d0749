"""Recovery of the planted maps of the demo: by contribution, and by attention.

Run after `dvc repro distill_student` on the demo: `python -m benchmarks.planted_maps --task survival --out FILE`.
The planted structures of each slide are read off while the slide is painted again: points of tumor nuclei and of
lymphocytes, and the raster of necrosis. Truth per tile at the finest resolution: number of tumor nuclei (tumor); mean
of the z-scores of lymphocytes and necrosis (tme). Correlation of each map with its truth within a slide (Spearman),
by the models of the fold in which the patient is tested; intervals: bootstrap over slides, paired.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from dml.config import params as config
from dml.data.cohort_store import CohortStore
from dml.demo import paint as painter
from dml.demo import sprites
from dml.demo.factors import DemoConfig, draw_patients, draw_slide_factors
from dml.demo.fields import CELL, Cells
from dml.demo.generate import plan_slides
from dml.demo.paint import SlidePlan
from dml.demo.vessels import SIDE_UM
from dml.inference.maps.slide_map import make_slide_map
from dml.training.model_store import ModelStore

RESAMPLES, MIN_TILES = 2000, 20


@contextmanager
def recorded() -> Iterator[dict[str, list[np.ndarray]]]:
    """Record the points of nuclei and the raster of necrosis while a slide is painted."""
    seen: dict[str, list[np.ndarray]] = {"tumor": [], "lymphocytes": [], "necrosis": []}
    kinds: dict[int, str] = {}
    blend, stamp, lymphocytes, raster = sprites.blend, sprites.stamp, sprites.render_lymphocytes, painter.draw_raster

    def blended(layer: np.ndarray, images: np.ndarray, which: np.ndarray, points: np.ndarray) -> None:
        seen["tumor"].append(points)
        blend(layer, images, which, points)

    def rendered(*arguments: object) -> sprites.Sprites:
        made = lymphocytes(*arguments)  # type: ignore[arg-type]
        kinds[id(made.haematoxylin)] = "lymphocytes"
        return made

    def stamped(layer: np.ndarray, images: np.ndarray, which: np.ndarray, points: np.ndarray) -> None:
        if id(images) in kinds:
            seen[kinds[id(images)]].append(points)
        stamp(layer, images, which, points)

    def drawn(*arguments: object) -> object:
        made = raster(*arguments)  # type: ignore[arg-type]
        seen["necrosis"].append(made.necrosis)
        return made

    changes = {"blend": blended, "stamp": stamped, "render_lymphocytes": rendered}
    with patch.multiple(sprites, **changes), patch.object(painter, "draw_raster", drawn):
        yield seen


def planted_truth(plan: SlidePlan, tiles: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the truth of each tile of one slide."""
    with recorded() as seen:
        painter.paint(plan)
    margin = CELL * int(np.ceil((SIDE_UM / 2 + 12) / plan.mpp / CELL))
    side = tiles["tile_um"].to_numpy()[0] / plan.mpp
    corners = tiles[["y_um", "x_um"]].to_numpy() / plan.mpp - side / 2 + margin  # y, x on the canvas

    def count(points: np.ndarray) -> np.ndarray:
        inside = [((points >= corner) & (points < corner + side)).all(1).sum() for corner in corners]
        return np.array(inside, float)

    (necrosis,) = seen["necrosis"]
    dead = np.array([_mean(necrosis, corner, side) for corner in corners])
    lymphocytes = count(np.concatenate(seen["lymphocytes"]))
    return {"tumor": count(np.concatenate(seen["tumor"])), "tme": (_z(lymphocytes) + _z(dead)) / 2}


def _mean(cells: Cells, corner: np.ndarray, side: float) -> float:
    (top, left), (bottom, right) = np.round(corner / CELL).astype(int), np.round((corner + side) / CELL).astype(int)
    return float(cells[top:bottom, left:right].mean())


def _z(values: np.ndarray) -> np.ndarray:
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 0 else np.zeros_like(values)


def correlations(task: str, model: str, most: int) -> pd.DataFrame:
    """Return a row per slide and subspace: Spearman's rho of contribution and of attention with the truth.

    Of at most `most` slides, drawn with the seed of params.yaml.
    """
    params = config.load()
    store, models = CohortStore.of(params.cohort), ModelStore.of(params.cohort, task)
    cohort, slides = store.cohort(params.embed.encoder, params.tiles.mpps), store.slides()
    splits = store.splits()
    tested = set(splits.loc[splits["role"] == "test", "patient_id"])
    planted = DemoConfig(patients=len(store.patients()))
    factors = draw_slide_factors(planted, draw_patients(planted))
    plans = {row["slide_id"]: plan for row, plan in plan_slides(planted, factors)}
    rows = []
    able = slides.loc[slides["patient_id"].isin(tested), "slide_id"].tolist()
    for slide_id in sorted(np.random.default_rng(params.seed).permutation(able)[:most].tolist()):
        made = make_slide_map(store, models, cohort, model, slide_id)
        finest = min(made.tiles["mpp"])
        first = made.layer(made.branches[0], finest)
        if len(first) < MIN_TILES:
            continue
        truth = planted_truth(plans[slide_id], first)
        for subspace, values in truth.items():
            layer = made.layer(subspace, finest)
            total = made.layer("total", finest)
            linear = made.layer("linear", finest)
            scores = {
                "contribution": layer["contribution"],
                "attention": layer["attention"],
                "contribution, all branches": total["contribution"],
                "contribution, linear": linear["contribution"] if len(linear) else None,
            }
            rho = {n: float(spearmanr(v, values).statistic) for n, v in scores.items() if v is not None}
            if all(np.isfinite(v) for v in rho.values()):
                rows.append({"slide_id": slide_id, "subspace": subspace, "tiles": len(layer), **rho})
    return pd.DataFrame(rows)


def summarise(rows: pd.DataFrame, seed: int = 7) -> list[dict[str, object]]:
    """Return mean correlation with interval per subspace and map, and contribution less attention, paired."""
    summary: list[dict[str, object]] = []
    for subspace, part in rows.groupby("subspace"):
        draws = np.random.default_rng(seed).integers(0, len(part), (RESAMPLES, len(part)))
        names = [name for name in part.columns if name not in ("slide_id", "subspace", "tiles")]
        values = {name: part[name].to_numpy() for name in names}
        values["contribution less attention"] = values["contribution"] - values["attention"]
        values["|contribution| less |attention|"] = np.abs(values["contribution"]) - np.abs(values["attention"])
        for name, each in values.items():
            low, high = np.quantile(each[draws].mean(1), [0.025, 0.975])
            row = {"subspace": subspace, "map": name, "slides": len(part), "rho": float(each.mean())}
            summary.append({**row, "ci_low": float(low), "ci_high": float(high)})
    return summary


def main() -> None:
    """Write the summary as JSON and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="survival")
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    result = {
        model: summarise(correlations(arguments.task, model, arguments.slides)) for model in ("teacher", "student")
    }
    arguments.out.write_text(json.dumps(result, indent=2))
    for model, rows in result.items():
        for row in rows:
            print(model, *(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()))


if __name__ == "__main__":
    main()
