"""``dml benchmark``: teacher, student, comparators and linear references on several cohorts, one page."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from dml.cli.output import Json, bar, note, show

if TYPE_CHECKING:
    from dml.config.params import Params

ALL = "all"


def benchmark(
    cohorts: Annotated[str, typer.Option(help="Cohorts whose stores are in data/, separated by commas.")],
    task: Annotated[str, typer.Option(help="A task of all of them: survival, or a label.")] = "survival",
    models: Annotated[
        str, typer.Option(help="Deep baselines, separated by commas, or all; by default those of params.yaml.")
    ] = "",
    backbones: Annotated[
        bool, typer.Option("--backbones", help="Train each comparator without its published idea, too.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Default reports/benchmark/<task>.")] = None,
    as_json: Json = False,
) -> None:
    """Compare models on several cohorts with the same folds, members and budget; the same command resumes.

    Writes benchmark.html, benchmark.json, benchmark.parquet and table.md.
    """
    from dml.core.errors import ConfigError
    from dml.experiments.benchmark import LINEAR, Benchmark, with_backbones
    from dml.experiments.benchmark_page import write_benchmark
    from dml.experiments.benchmark_scores import score_benchmark
    from dml.models import registry

    names = [name.strip() for name in cohorts.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--cohorts {cohorts!r}: different cohorts separated by commas, e.g. tcga_brca,tcga_lusc")
    params = {name: params_of(name) for name in names}
    chosen = list(next(iter(params.values())).baselines.deep)
    if models:
        listed = [name.strip() for name in models.split(",") if name.strip()]
        chosen = registry.deep_names() if models == ALL else listed
    chosen = with_backbones(chosen) if backbones else chosen
    wanted = dict.fromkeys(["teacher", "student", "student_undistilled", *chosen, *LINEAR])
    compared = Benchmark.read(params, task, list(wanted))
    for cell in bar(list(compared.cells()), f"benchmark of {task}"):
        compared.complete(cell)
    result = score_benchmark(compared)
    folder = out or Path("reports") / "benchmark" / task
    write_benchmark(result, folder)
    metric = result.metric
    columns = ("cohort", "model", metric, f"{metric}_low", f"{metric}_high", "rank", "seconds", "peak_gb")
    show([{name: row.get(name) for name in columns} for row in result.rows], as_json, f"benchmark of {task}")
    note(f"written: {folder}/benchmark.html")


def params_of(cohort: str, path: Path = Path("params.yaml")) -> "Params":
    """Return the parameters as `dml cohort use` would set them; params.yaml itself is not changed."""
    from dml.cohorts.import_raw import use_cohort
    from dml.config import params as config

    if config.load(path).cohort == cohort:
        return config.load(path)
    with TemporaryDirectory() as folder:
        copied = Path(folder) / path.name
        copied.write_bytes(path.read_bytes())
        use_cohort(cohort, copied)
        return config.load(copied)
