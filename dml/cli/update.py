"""``dml update``: a champion and the patients of another hospital or of a later year."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, note, show


def update(
    model: Annotated[str, typer.Argument(help="<name>@<alias>, e.g. demo-survival-student@champion.")],
    cohort: Annotated[str, typer.Option(help="Cohort of the new patients, stored in data/<cohort>.")],
    until: Annotated[
        str, typer.Option(help="Last step that is offered: level, slope, head, adapters or retrain.")
    ] = "adapters",
    alpha: Annotated[float, typer.Option(min=0.0001, max=0.5, help="Chance to change more than pays.")] = 0.05,
    replay: Annotated[
        bool, typer.Option("--replay/--without-replay", help="Learn from the champion's patients, too.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Folder of updates.")] = Path("updates"),
    as_json: Json = False,
) -> None:
    """Change a champion as little as pays on new patients, and register the result as a challenger."""
    from dml.config import params as config
    from dml.core.errors import ConfigError
    from dml.update.ladder import STEPS
    from dml.update.update_champion import UpdateSettings
    from dml.update.update_champion import update as apply

    step = next((step for step in STEPS[1:] if step == until), None)
    if step is None:
        raise ConfigError(f"--until {until!r}: one of {', '.join(STEPS[1:])}")
    params = config.load()
    result = apply(model, cohort, params, UpdateSettings(step, alpha, replay, params.seed), out)
    show(result.ladder.rows(), as_json, f"{model} on {result.ladder.patients} patients of {cohort}")
    if result.challenger is None:
        note(f"{model} is kept: no step pays on {cohort}")
        return
    if not as_json:
        show([gate.row() for gate in result.gates], as_json, "gates on old and new patients")
    version = result.challenger
    note(f"{version.name}: version {version.version} is challenger ({result.ladder.step}); see dml promote --dry-run")
