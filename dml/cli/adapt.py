"""``dml adapt``: adapt a tile encoder to the tissue of a spatial cohort."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, note, show


def adapt(
    name: Annotated[str, typer.Option(help="Of the adapted encoder: embed.encoder of params.yaml.")],
    encoder: Annotated[str, typer.Option(help="The encoder that is adapted.")] = "efficientnet_lite0",
    without: Annotated[list[str] | None, typer.Option(help="Section that is not trained on; may be repeated.")] = None,
    evaluate: Annotated[bool, typer.Option(help="First compare frozen and adapted on left-out sections.")] = True,
    layers: Annotated[int, typer.Option(min=1, help="Layers that change, counted from the last.")] = 10,
    rank: Annotated[int, typer.Option(min=1, help="Rank of each layer's change.")] = 8,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the tiles.")] = 10,
    contrastive: Annotated[float, typer.Option(min=0.0, help="Weight of aligning tiles with expression.")] = 0.0,
    stain_augmentation: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Strength of random changes of the stains of tiles in training.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Adapt an encoder on the spots of the current cohort; its patients may train models with it, not test them."""
    from dml.adaptation.adapt_encoder import adapt_encoder
    from dml.adaptation.train_adapter import AdapterSettings
    from dml.config import params as config
    from dml.data.cohort_store import CohortStore

    params = config.load()
    settings = AdapterSettings(
        rank=rank, layers=layers, epochs=epochs, contrastive_weight=contrastive, stain_augmentation=stain_augmentation
    )
    folder = CohortStore.of(params.cohort).folder
    made = adapt_encoder(folder, params, encoder, name, settings, tuple(without or ()), evaluate, Path("encoders"))
    if made.comparison is not None:
        rows = made.comparison.round(3).to_dict("records")
        show([{str(key): value for key, value in row.items()} for row in rows], as_json)
    note(f"{made.description}: {made.tiles} tiles of {len(made.sections)} sections, {made.seconds:.0f} s")
