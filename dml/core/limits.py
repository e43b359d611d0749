"""Limits on files that somebody else made: section ``limits`` of params.yaml, or the environment variable DML_LIMITS.

They decide what is refused and nothing else, so no stage depends on them.
"""

import os
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from dml.core.errors import ConfigError, first_line

VARIABLE = "DML_LIMITS"
"""Holds the limits as JSON, so that the processes that this one starts have the same."""


class Limits(BaseModel):
    """How large a foreign file and what is in it may be, and how long reading it may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature_bytes: PositiveInt = Field(
        2**32, description="of a feature file and of each array in it: 500,000 tiles of 4,096 half-precision numbers"
    )
    table_bytes: PositiveInt = Field(2 * 10**9, description="of a table once unpacked, and of a matrix")
    table_cells: PositiveInt = Field(500_000_000, description="of a table or matrix")
    expansion: PositiveInt = Field(100, description="times a packed file may grow; real tables reach about forty")
    free_bytes: PositiveInt = Field(2**26, description="up to which expansion does not matter")
    image_pixels: PositiveInt = Field(
        10**9, description="of a JPEG, PNG or plain TIFF; decoding takes 4 bytes a pixel of memory, reading 4 of disk"
    )
    reader_gb: PositiveFloat = Field(8.0, description="memory of the process that reads one slide or file")
    reader_seconds: PositiveFloat = Field(1800.0, description="time that one slide or file may take to be read")

    def too_large(self, claimed: int, available: int, most: int) -> bool:
        """Whether bytes claimed by a file of `available` bytes are beyond `most` or beyond its expansion."""
        return claimed > most or claimed > max(self.free_bytes, self.expansion * available)


def current() -> Limits:
    """Return the limits that hold in this process.

    Raises
    ------
    ConfigError
        If DML_LIMITS is not what `apply` writes.
    """
    return _parse(os.environ.get(VARIABLE, "{}"))


def apply(limits: Limits) -> None:
    """Make limits hold in this process and in those that it starts."""
    os.environ[VARIABLE] = limits.model_dump_json(exclude_defaults=True)


@lru_cache(maxsize=1)
def _parse(text: str) -> Limits:
    try:
        return Limits.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{VARIABLE}: not limits as JSON ({first_line(error)})") from None
