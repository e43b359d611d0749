"""The six additions of docs/extend.md, each a throwaway of one file."""

from collections.abc import Mapping

FILES: Mapping[str, str] = {
    "dml/encoders/colour_moments.py": '''"""Mean and standard deviation of each colour channel."""

import numpy as np
from numpy.typing import NDArray

from dml.encoders.card import EncoderCard


def encode(tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Encode some tiles."""
    values = tiles.astype(np.float64) / 255
    return np.concatenate([values.mean((1, 2)), values.std((1, 2))], axis=1).astype(np.float16)


CARD = EncoderCard(
    name="colour_moments",
    width=6,
    mpp=0.5,
    input_px=None,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    licence="none",
    paper="none",
    load_with=lambda device, precision: encode,
    hash_with=lambda: "colour-moments-1",
)
''',
    "dml/baselines/deep/max_pool.py": '''"""Maximum over tokens."""

from collections.abc import Mapping

from torch import Tensor

from dml.config import params as config
from dml.core.types import MagnificationTokens
from dml.data.dims import ModelDims
from dml.models.entry import ModelEntry
from dml.models.multi_scale import LevelEncoding, MultiScaleModel


class MaxPool(MultiScaleModel):
    """Predicts from the largest value of each dimension."""

    branches = ("slide",)

    def __init__(self, dims: ModelDims, config: config.Model) -> None:
        super().__init__(dims, config)
        self.head = self.make_head(dims, config)

    def encode(self, tokens: Tensor, level: MagnificationTokens, genes: Mapping[str, Tensor]) -> LevelEncoding:
        """Take the maximum over the tokens of a patient."""
        weight = level.mask / level.mask.sum(1, keepdim=True).clamp_min(1)
        largest = tokens.masked_fill(~level.mask[..., None], -1e4).amax(1)
        return LevelEncoding({"slide": largest}, {"slide": weight})


MODEL = ModelEntry(
    "max_pool",
    label="max pooling",
    description="Slide only: maximum over tokens",
    family="deep",
    inputs=("slide",),
    requires=("slide",),
    build=MaxPool.build,
)
''',
    "dml/evaluation/metrics/risk_spread.py": '''"""Spread of the predicted risks."""

import numpy as np

from dml.evaluation.metrics.registry import metric


@metric("risk_spread", kind="survival", label="spread of risks", higher_is_better=None)
def risk_spread(weights: np.ndarray, *, risk: np.ndarray) -> np.ndarray:
    """Weighted standard deviation of the risks."""
    share = weights / weights.sum(1, keepdims=True)
    mean = share @ risk
    return np.sqrt(np.maximum(share @ risk**2 - mean**2, 0))
''',
    "dml/readers/expression/pairs.py": '''"""Tables of pairs: patient, gene, value."""

from pathlib import Path
from typing import Literal

from dml.readers.expression.expression_format import ExpressionFormat, RawMatrix
from dml.readers.table_files import read_table
from dml.readers.samples import Sample


class Pairs(ExpressionFormat):
    """One row a patient and gene."""

    format: Literal["pairs"]
    file: str

    def read(self, raw: Path) -> RawMatrix:
        """Read the pairs."""
        frame = read_table(raw / self.file, numeric=True)
        matrix = frame.pivot(index="patient", columns="gene", values="value")
        samples = [Sample(patient, patient, file=self.file) for patient in matrix.index]
        return RawMatrix(matrix, raw / self.file, samples)
''',
    "dml/training/loss_terms/small_logits.py": '''"""Small logits."""

from jaxtyping import Float
from torch import Tensor

from dml.training.loss_terms.registry import LossInputs, loss_term


@loss_term("small_logits", model="teacher")
def small_logits(inputs: LossInputs) -> Float[Tensor, ""]:
    """Return the mean square of the logits."""
    return inputs.output.logits.square().mean()
''',
    "pipelines/count_patients.py": '''"""Stage count_patients: how many patients the current cohort has."""

import sys
from pathlib import Path

from dml.cohorts.store_files import read_patients
from dml.config import params as config
from dml.core.files import only_writer, write_json
from pipelines.stage import stage


@stage
def main() -> None:
    """Write reports/<cohort>/count.json."""
    cohort = config.load().cohort
    with only_writer("count_patients"):
        patients = read_patients(Path("data") / cohort / "patients.parquet")
        write_json(Path("reports") / cohort / "count.json", {"patients": len(patients)})


if __name__ == "__main__":
    sys.exit(main())
''',
}
STAGE = """
  count_patients:
    cmd: python -m pipelines.count_patients
    deps:
      - data/${cohort}/patients.parquet
      - dml/cohorts/store_files.py
      - dml/core
      - pipelines/count_patients.py
      - pipelines/stage.py
    params: [cohort]
    outs:
      - reports/${cohort}/count.json
"""
"""Entry of the stage in dvc.yaml."""
