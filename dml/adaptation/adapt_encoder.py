"""Adapt an encoder on a stored spatial cohort: read spots and tiles, compare on left-out sections, train, write."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dml.adaptation.evaluate_adapter import leave_sections_out, stack_programs
from dml.adaptation.expression_programs import log_counts
from dml.adaptation.spot_tiles import read_spot_tiles
from dml.adaptation.train_adapter import AdapterSettings, TrainableTail, train_adapter
from dml.adaptation.write_adapter import write_adapter
from dml.cohorts.spot_store import read_spots
from dml.cohorts.store_files import read_gene_groups, read_slides
from dml.config import params as config
from dml.core.errors import ConfigError, listed
from dml.core.identifiers import parse_identifier
from dml.encoders import registry
from dml.encoders.backends.tile_encoder import TileEncoderRunner


@dataclass(frozen=True, slots=True)
class AdaptedEncoderResult:
    """The description that was written, what it was trained on, and how it compares on left-out sections."""

    description: Path
    sections: tuple[str, ...]
    tiles: int
    seconds: float
    comparison: pd.DataFrame | None


def adapt_encoder(
    folder: Path, params: config.Params, base: str, name: str, settings: AdapterSettings,
    without: tuple[str, ...] = (), evaluate: bool = True, out: Path = Path("encoders"),
) -> AdaptedEncoderResult:  # fmt: skip
    """Train an adapter on the spots of ``data/<cohort>``.

    Parameters
    ----------
    folder : Path
        The cohort's stores.
    params : Params
        Resolutions and side of tiles, stain normalisation, cohort.
    base, name : str
        The encoder that is adapted, and the name of the result.
    settings : AdapterSettings
        How.
    without : tuple of str
        Sections that are neither trained on nor compared.
    evaluate : bool
        Whether to compare frozen and adapted tokens, each section left out once (an adapter more for each).
    out : Path
        Where the description goes.

    Raises
    ------
    ConfigError
        If the name is taken, the encoder is no PyTorch network, or a section is unknown.
    InputError
        If the cohort has no spots or no slide files.
    """
    parse_identifier(name, "--name")
    if name in set(registry.names()) and not (out / f"{name}.safetensors").exists():
        raise ConfigError(f"--name: there is an encoder {name!r} already")
    table = read_spots(folder)
    if unknown := sorted(set(without) - set(table.sections)):
        raise ConfigError(f"--without: no section {listed(unknown)}; there are {listed(list(table.sections))}")
    card = registry.get(base)
    encoder = card.load("cpu")
    if not isinstance(encoder, TileEncoderRunner):
        raise ConfigError(f"--encoder: {base} is no PyTorch network that could be adapted")
    slides, normalisation = read_slides(folder / "slides.parquet"), params.embed.stain_normalisation
    spots = read_spot_tiles(table, slides, params.tiles.mpps, params.tiles.tile_px, normalisation is not None)
    usable = ~np.isin(spots.sections, list(without))
    groups = read_gene_groups(folder / "gene_groups.json").groups
    start = time.monotonic()
    tail = TrainableTail(encoder, list(spots.tiles.values()), settings)
    comparison = None
    if evaluate and not without and len(set(spots.sections)) > 1:
        comparison = leave_sections_out(spots, tail, groups, table.spacing_um, settings)
    programs, rows = stack_programs(log_counts(spots.counts), spots, groups, usable)
    _, changes = train_adapter(tail, programs, rows, settings)
    seen = spots.spots[usable]
    ids = {"patients": list(seen["patient_id"]), "sections": list(seen["section_id"])}
    how = settings.to_dict() | ({"stain_normalisation": normalisation} if normalisation else {})
    description = write_adapter(out, name, base, changes, params.cohort, ids, how)
    sections = tuple(sorted(set(seen["section_id"])))
    return AdaptedEncoderResult(description, sections, len(rows), time.monotonic() - start, comparison)
