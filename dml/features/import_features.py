"""Bring features that were extracted elsewhere into the store, as a cohort description says what they are."""

import logging
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from dml.cohorts.description import CohortDescription
from dml.config.params import Embed, Tiles
from dml.core.cache import cache_dir, hardlink
from dml.core.errors import InputError, listed, refuse_unreadable
from dml.core.files import inside
from dml.core.limits import current
from dml.core.progress import progress
from dml.data.feature_store import IMPORTED, bag_path, write_bag
from dml.features.file_arrays import check_bytes
from dml.features.fingerprint import importing_key
from dml.features.foreign_formats import FileLayout, read_features_file
from dml.features.manifest import manifest_row, write_manifest
from dml.features.tile_cohort import check_failed
from dml.readers.raw_files import Features
from dml.readers.slide_files import feature_files
from dml.slides.slide_fingerprint import slide_fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """The files of one source: slide id -> member of a folder, or of an open zip."""

    spec: Features
    path: Path
    files: dict[str, str]
    archive: zipfile.ZipFile | None

    def identity(self, member: str) -> str:
        """Fingerprint the content of a member without reading all of it."""
        if self.archive is None:
            return slide_fingerprint(self.path / member)
        info = self.archive.getinfo(member)
        return f"{info.CRC:08x}-{info.file_size}"

    def content(self, member: str) -> bytes:
        """Read a member, if it is no larger than a file of features can be.

        Raises
        ------
        InputError
            If it is missing, damaged or too large.
        """
        path = self.path / member
        with refuse_unreadable(path, "Copy it again"):
            if self.archive is None:
                check_bytes(path, path.stat().st_size)
                return path.read_bytes()
            info = self.archive.getinfo(member)
            check_bytes(path, info.file_size)
            limits = current()
            if limits.too_large(info.file_size, info.compress_size, limits.feature_bytes):
                problem = f"{info.compress_size} bytes in the archive become {info.file_size}"
                remedy = f"A member expands to at most {limits.expansion} times its size (limits.expansion)"
                raise InputError(path, problem, remedy)
            return self.archive.read(info)


def import_features(
    slides: pd.DataFrame,
    description: CohortDescription,
    out: Path,
    tiles: Tiles,
    embed: Embed,
    work: Path | None = None,
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
    work : Path, optional
        Cache of finished slides for the next run; default .work.

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
    pairs = list(zip(slides["slide_id"], slides["patient_id"], strict=True))
    rows = []
    with ExitStack() as open_files, progress("importing", len(pairs), "slides") as advance:
        origins = {float(mpp): _origins(description, embed.encoder, float(mpp), open_files) for mpp in tiles.mpps}
        for slide_id, patient_id in pairs:
            rows += _import_slide(slide_id, patient_id, origins, out, work)
            advance(1)
    manifest = write_manifest(out / "manifest.parquet", rows)
    check_failed(manifest, tiles.max_failed, out / "manifest.parquet", "tiles.max_failed")
    _warn_of_slide_vectors(manifest)
    return manifest


def _warn_of_slide_vectors(manifest: pd.DataFrame) -> None:
    """Warn if every file holds one vector: those of a slide encoder, not of tiles."""
    counts = manifest.loc[manifest["status"] == "ok", "tiles"]
    if len(counts) > 1 and (counts == 1).all():
        logger.warning(
            "every file has a single vector: features of slides, not of tiles? Attention over tiles then means nothing;"
            " docs/howto/bring-your-data.md says how to bring them"
        )


def _origins(description: CohortDescription, encoder: str, mpp: float, open_files: ExitStack) -> list[Origin]:
    fitting = [spec for spec in description.features if spec.encoder == encoder and abs(spec.mpp - mpp) < 1e-6]
    if not fitting:
        described = [f"{spec.encoder} at {spec.mpp:g}" for spec in description.features]
        raise InputError(
            f"cohorts/{description.name}.yaml",
            f"no features of {encoder} at {mpp:g} microns per pixel, but {listed(described) or 'none at all'}",
            "Correct embed.encoder and tiles.mpps in params.yaml, or add them under `features`",
        )
    return [_origin(spec, description.raw_folder / spec.path, open_files) for spec in fitting]


def _origin(spec: Features, path: Path, open_files: ExitStack) -> Origin:
    files = feature_files(path, spec.slide)
    with refuse_unreadable(path, "Copy it again"):
        archive = None if path.is_dir() else open_files.enter_context(zipfile.ZipFile(path))
    return Origin(spec, path, files, archive)


def _import_slide(
    slide_id: str, patient_id: str | None, origins: dict[float, list[Origin]], out: Path, work: Path | None
) -> list[dict[str, Any]]:
    """Import one slide at all resolutions; if one fails, none is imported."""
    try:
        imported = {mpp: _import_one(slide_id, patient_id, sources, work) for mpp, sources in origins.items()}
    except InputError as error:
        logger.warning("slide %s failed: %s", slide_id, error)
        reason = f"{error.where}: {error.problem}. {error.remedy}"
        return [manifest_row(slide_id, patient_id, mpp, reason=reason) for mpp in origins]
    rows = []
    for mpp, (encoder, finished, key) in imported.items():
        hardlink(finished, bag_path(out, encoder, mpp, slide_id))
        rows.append(manifest_row(slide_id, patient_id, mpp, pq.read_metadata(finished).num_rows, None, key))
    return rows


def _import_one(
    slide_id: str, patient_id: str | None, sources: list[Origin], work: Path | None
) -> tuple[str, Path, str]:
    """Import one file, or reuse the import of an earlier run; return its encoder, its path, and its key."""
    origin = next((origin for origin in sources if slide_id in origin.files), None)
    if origin is None:
        folders = listed([str(origin.path) for origin in sources])
        raise InputError(folders, f"no file of slide {slide_id}", "Extract its features, or leave the slide out")
    spec, member = origin.spec, origin.files[slide_id]
    path = origin.path / member
    key = importing_key(origin.identity(member), {**spec.model_dump(mode="json"), "name": Path(member).name})
    finished = inside(cache_dir("imported", key, work), f"{slide_id}@{patient_id or ''}.parquet")
    if not finished.exists():
        tokens, coords = read_features_file(path, _layout(spec), origin.content(member))
        if tokens.shape[1] != spec.width:
            problem = f"features of width {tokens.shape[1]}, not {spec.width}"
            raise InputError(path, problem, "Correct features.width in the cohort description")
        meta = {"encoder": spec.encoder, "mpp": spec.mpp, "tile_um": spec.tile_um, "weights": IMPORTED}
        identity = {"slide_id": slide_id, "patient_id": patient_id, "fingerprint": key, "source": member}
        write_bag(finished, tokens, coords, {**meta, **identity}, path)
    return spec.encoder, finished, key


def _layout(spec: Features) -> FileLayout:
    return FileLayout(
        spec.tokens, spec.coords, spec.coords_mpp, spec.coords_at, spec.tile_um, spec.encoder, float(spec.mpp)
    )
