"""``dml federate``: train one model on the patients of several sites; no patient's data leaves its site."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, note, show


def federate(
    task: Annotated[str, typer.Option(help="survival, or a label that all sites have.")],
    site: Annotated[list[str], typer.Option(help="<name>=<folder of its cohort store>, once a site.")],
    name: Annotated[str, typer.Option(help="Name of the network, as of a cohort: models are <name>-<task>-<model>.")],
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of training at the sites and averaging.")] = 20,
    local_epochs: Annotated[int, typer.Option(min=1, help="Epochs at a site in each round.")] = 1,
    proximal: Annotated[float, typer.Option(min=0.0, help="Weight of FedProx's proximal term; 0 is FedAvg.")] = 0.0,
    min_sites: Annotated[int, typer.Option(min=1, help="Sites that must answer; others are asked again.")] = 1,
    model: Annotated[list[str] | None, typer.Option(help="teacher, student; by default both.")] = None,
    engine: Annotated[
        str, typer.Option(help="local: one site after the other; flare: FLARE's simulator, a process a site.")
    ] = "local",
    kit: Annotated[
        Path | None, typer.Option(help="Kit of an administrator: train in the running network; --site is a name.")
    ] = None,
    register: Annotated[bool, typer.Option("--register/--no-register", help="Register what was trained.")] = True,
    as_json: Json = False,
) -> None:
    """Train across sites by federated averaging: sums, counts and weights leave a site, and nothing else."""
    from dml.config import params as config
    from dml.core.errors import ConfigError
    from dml.core.files import read_json
    from dml.federation.coordinator import FederationSettings
    from dml.federation.federated_result import register_result, train_across, write_result
    from dml.federation.federated_site import Site
    from dml.federation.local_sites import LocalSites

    folders = {label: Path() for label in site} if kit else read_sites(site)
    roles = [role for role in ("teacher", "student") if role in (model or ("teacher", "student"))]
    if not roles or engine not in ("local", "flare"):
        raise ConfigError("--model is teacher or student, --engine is local or flare")
    params = config.load().model_copy(update={"cohort": name})
    settings = FederationSettings(rounds, local_epochs, proximal, min_sites)
    report = Path("reports") / name / task / "federation.json"
    if kit is not None:
        from dml.federation.nvflare_network import train_in_network

        train_in_network(kit, params, task, settings, roles, site, Path())
    elif engine == "flare":
        from dml.federation.nvflare_engine import simulate

        simulate(params, task, settings, roles, folders, Path())
    else:
        sites = LocalSites({label: Site(folder, label) for label, folder in folders.items()})
        write_result(train_across(sites, params, task, settings, roles), params, task)
    content = read_json(report)
    if register:
        for version in register_result(content, params, task, roles):
            note(f"{version.name}: version {version.version} is challenger")
    by_site = content["concordance"]
    rows = [{"site": label, **{role: by_site[role].get(label) for role in roles}} for label in (*folders, "all")]
    show(rows, as_json, f"concordance of test patients, {rounds} rounds")
    note(f"written: {report}")


def read_sites(sites: list[str]) -> dict[str, Path]:
    """Read the sites of the command line.

    Raises
    ------
    ConfigError
        If one is not <name>=<folder>, or two have one name.
    """
    from dml.core.errors import ConfigError

    pairs = [text.partition("=") for text in sites]
    wrong = [text for text, pair in zip(sites, pairs, strict=True) if not pair[0] or not pair[2]]
    if wrong or len({pair[0] for pair in pairs}) < len(pairs):
        raise ConfigError(f"--site {' '.join(wrong or sites)}: <name>=<folder>, every name once")
    return {pair[0]: Path(pair[2]) for pair in pairs}
