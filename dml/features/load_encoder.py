"""Load an encoder under the runtime of ``embed.runtime``, in training and in serving alike."""

from dml.encoders.backends.runtimes import export_encoder
from dml.encoders.backends.tile_encoder import TileEncoderRunner
from dml.encoders.card import EncoderCard, TileEncoder


def load_encoder(
    card: EncoderCard, device: str = "cpu", precision: str = "float32", runtime: str = "torch"
) -> TileEncoder:
    """Load an encoder and encode a trial tile.

    Parameters
    ----------
    card : EncoderCard
        What to load.
    device, precision, runtime : str
        As in section ``embed`` of params.yaml.

    Raises
    ------
    InputError
        If the encoder cannot encode tiles here or not under this runtime; `export_encoder` compares it with PyTorch.
    """
    chosen = card.runtime(runtime, device, precision)
    if chosen == "torch":
        return card.load(device, precision)
    encoder = card.load(device)
    if not isinstance(encoder, TileEncoderRunner):
        raise TypeError(f"encoder {card.name} is called exportable and is no TileEncoderRunner")
    return export_encoder(encoder, card.name, card.weights_hash(), chosen, precision)
