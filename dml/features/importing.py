"""Bring features that were extracted elsewhere into the store, as a cohort description says what they are."""

import hashlib
import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dml.cohorts.description import CohortDescription
from dml.cohorts.slides import feature_files
from dml.cohorts.sources import Features
from dml.config import Embed, Tiles
from dml.errors import InputError, listed
from dml.features.exchange import Form, read_foreign
from dml.features.fingerprint import importing_key
from dml.features.manifest import manifest_row, write_manifest
from dml.features.progress import progress
from dml.features.store import bag_path, write_bag
from dml.features.tiling import check_failed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """The files of one source: slide id -> member of a folder or zip."""

    spec: Features
    path: Path
    files: dict[str, str]


def import_features(
    slides: pd.DataFrame, description: CohortDescription, out: Path, tiles: Tiles, embed: Embed
) -> pd.DataFrame:
    """Import the features of all slides of a cohort.

    Parameters
    ----------
    slides : DataFrame
        slide_id, patient_id.
    description : CohortDescription
        Its `features` say where the files are and what they hold.
    out : Path
        ``data/<cohort>/features``: <encoder>/<mpp>/<slide_id>.parquet and manifest.parquet.
    tiles, embed : config sections
        Which resolutions and which encoder; the share of slides that may fail.

    Returns
    -------
    DataFrame
        The manifest: one row a slide and resolution. A slide that failed at one resolution failed at all.

    Raises
    ------
    InputError
        If the description has no features of this encoder at one of these resolutions, or the files are not there.
    CheckFailed
        If more than `tiles.max_failed` of the slides failed.
    """
    origins = {float(mpp): _origins(description, embed.encoder, float(mpp)) for mpp in tiles.mpps}
    known = slides.to_dict("records")
    rows = []
    with progress("importing", len(known), "slides") as advance:
        for slide in known:
            rows += _imported(slide, origins, out)
            advance(1)
    manifest = write_manifest(out / "manifest.parquet", rows)
    check_failed(manifest, tiles.max_failed, out / "manifest.parquet", "tiles.max_failed")
    return manifest


def _origins(description: CohortDescription, encoder: str, mpp: float) -> list[Origin]:
    where = f"cohorts/{description.name}.yaml"
    fitting = [spec for spec in description.features if spec.encoder == encoder and abs(spec.mpp - mpp) < 1e-6]
    if not fitting:
        there = [f"{spec.encoder} at {spec.mpp:g}" for spec in description.features]
        raise InputError(
            where,
            f"no features of {encoder} at {mpp:g} microns per pixel, but {listed(there) or 'none at all'}",
            "Correct embed.encoder and tiles.mpps in params.yaml, or add them under `features`",
        )
    paths = [description.raw_folder / spec.path for spec in fitting]
    return [Origin(spec, path, feature_files(path, spec)) for spec, path in zip(fitting, paths, strict=True)]


def _imported(slide: dict[str, Any], origins: dict[float, list[Origin]], out: Path) -> list[dict[str, Any]]:
    """Import one slide at all resolutions; if one fails, none is kept."""
    slide_id, patient_id = slide["slide_id"], slide["patient_id"]
    good, written, reason = [], [], None
    for mpp, sources in origins.items():
        try:
            count, key, target = _import_one(slide_id, patient_id, sources, out)
        except InputError as error:
            logger.warning("slide %s failed: %s", slide_id, error)
            reason = f"{error.where}: {error.found}. {error.remedy}"
            break
        written.append(target)
        good.append(manifest_row(slide_id, patient_id, mpp, count, None, key))
    if reason is None:
        return good
    for target in written:
        target.unlink(missing_ok=True)
    return [manifest_row(slide_id, patient_id, mpp, reason=reason) for mpp in origins]


def _import_one(slide_id: str, patient_id: str | None, sources: list[Origin], out: Path) -> tuple[int, str, Path]:
    origin = next((origin for origin in sources if slide_id in origin.files), None)
    if origin is None:
        places = listed([str(origin.path) for origin in sources])
        raise InputError(places, f"no file of slide {slide_id}", "Extract its features, or leave the slide out")
    spec, member = origin.spec, origin.files[slide_id]
    content = _content(origin.path, member)
    place = origin.path / member
    form = Form(spec.tokens, spec.coords, spec.coords_mpp, spec.coords_at, spec.tile_um)
    tokens, coords = read_foreign(place, form, content)
    if tokens.shape[1] != spec.width:
        raise InputError(place, f"features of width {tokens.shape[1]}, not {spec.width}", "Correct features.width")
    key = importing_key(hashlib.blake2b(content, digest_size=16).hexdigest(), spec.model_dump(mode="json"))
    meta = {"encoder": spec.encoder, "mpp": spec.mpp, "tile_um": spec.tile_um, "weights": "imported"}
    own = {"slide_id": slide_id, "patient_id": patient_id, "fingerprint": key, "source": member}
    target = bag_path(out, spec.encoder, spec.mpp, slide_id)
    write_bag(target, tokens, coords, {**meta, **own})
    return len(tokens), key, target


def _content(path: Path, member: str) -> bytes:
    if path.is_dir():
        return (path / member).read_bytes()
    with _archive(path) as archive:
        try:
            return archive.read(member)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise InputError(path / member, f"damaged in the archive ({error})", "Copy the archive again") from None


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(path) as archive:
        yield archive
