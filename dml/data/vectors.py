"""Float32 vectors and matrices as fields of what is saved with a model."""

from typing import Annotated

import numpy as np
from pydantic import PlainSerializer, PlainValidator

Vector = Annotated[
    np.ndarray,
    PlainValidator(lambda v: np.asarray(v, dtype=np.float32)),
    PlainSerializer(lambda v: [float(x) for x in v], return_type=list[float]),
]
"""A float32 vector, a plain list in JSON (float32 values survive the round trip exactly)."""
Matrix = Annotated[
    np.ndarray,
    PlainValidator(lambda v: np.asarray(v, dtype=np.float32)),
    PlainSerializer(lambda v: [[float(x) for x in row] for row in v], return_type=list[list[float]]),
]
"""A float32 matrix, a list of lists in JSON."""
