"""Deletion and insertion curves of one patient: the output without, and with, the first tiles of an order.

    deletion  D(q) = output without the share q of tiles that stand first in an order; should fall
    insertion I(q) = output with that share alone; should rise

Tiles are removed, not replaced, so every input is a bag that the network could have had; the linear offset is of the
tiles that are left. The same share is removed at each resolution. The output is the risk, or the centred logit of the
predicted class. Orders: contribution (the largest first), attention, random. Sources: Samek et al. 2017
(arXiv 1509.06321), Petsiuk et al. 2018 (arXiv 1806.07421).

Shape legend: n tiles, q shares.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from dml.attribution.attribute import LINEAR, Attribution, attribute
from dml.attribution.outputs import explained_outputs, output_scale
from dml.core.device import torch_threads
from dml.core.types import Case, Cohort, Mpp
from dml.data.batches import collate
from dml.training.checkpoint import FoldModel

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the tiles that are deleted or inserted."""


def patient_curves(
    model: FoldModel, patient: Cohort, repeats: int, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return per order the curves [2 q]: output without, and with, the first tiles, less the output with all."""
    result = attribute([model], patient)
    output = 0 if len(result.outputs) == 1 else int(result.output.argmax())
    scores = {name: _scores(result, name, output) for name in ("contribution", "attention")}
    orders = [scores["contribution"], scores["attention"]]
    orders += [{mpp: random.random(len(values)) for mpp, values in orders[0].items()} for _ in range(repeats)]
    (case,) = patient.cases
    bags = [case] + [
        _keep(case, order, share, first) for order in orders for first in (False, True) for share in SHARES
    ]
    outputs = _outputs(model, replace(patient, cases=tuple(bags)), output)
    curves = (outputs[1:] - outputs[0]).reshape(len(orders), 2, len(SHARES))
    return {"contribution": curves[0], "attention": curves[1], "random": curves[2:].mean(0)}


def _scores(result: Attribution, name: str, output: int) -> dict[float, np.ndarray]:
    """Return a score per tile at each resolution: summed over the branches."""
    scores: dict[float, np.ndarray] = {}
    for part in result.tiles:
        if name == "attention" and part.branch == LINEAR:
            continue
        values = part.attention if name == "attention" else part.contribution[:, output]
        scores[part.mpp] = scores[part.mpp] + values if part.mpp in scores else values
    return scores


def _keep(case: Case, scores: Mapping[float, np.ndarray], share: float, first: bool) -> Case:
    """Return the case with the first share of tiles alone, or without them; at least one tile stays."""
    bags = {}
    for mpp, values in scores.items():
        order = np.argsort(-values, kind="stable")
        cut = min(max(round(share * len(order)), 1), len(order) - 1) if len(order) > 1 else 0
        left = torch.from_numpy(np.sort(order[:cut] if first and cut else order[cut:]))
        bag = case.bags[Mpp(mpp)]
        coords = None if bag.coords_um is None else bag.coords_um[left]
        bags[Mpp(mpp)] = replace(bag, tokens=bag.tokens[left], coords_um=coords, slide=bag.slide[left])
    return replace(case, bags=bags)


def _outputs(model: FoldModel, changed: Cohort, output: int) -> np.ndarray:
    """Return one output of each changed case, mean over the members, on the scale of the ensemble."""
    spec, read = model.spec, model.reader(changed)
    kind = spec.preprocessor.task.kind
    with torch_threads(1), torch.inference_mode():
        batch = collate([read(case) for case in changed.cases], spec.preprocessor)
        each = [explained_outputs(member(batch).logits, kind)[:, output].double() for member in model.members]
        mean: np.ndarray = torch.stack(each).mean(0).numpy()
    return mean / output_scale(spec)[0]
