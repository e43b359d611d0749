"""Run a network over tiles so that a tile's token is the same bits in any batch and with any number of workers.

Shape legend: b tiles, t side of a tile in pixels, d width of a token.
"""

import threading

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

_GPU_BATCH = 32  # as embed.batch_size is by default, so that batches come full


class TileEncoderRunner:
    """Wrap a network [1..b 3 t t] -> [b d] as a `TileEncoder`.

    On a CPU tiles go through one at a time, channels last: activations then stay in cache, which is several times
    faster than a batch of 32, and makes results independent of the batch. On a GPU batches are padded to one fixed
    size. Call it from several threads for speed, each computing on one core (`torch_threads(1)`).

    Measured with EfficientNet-Lite0 on two cores with AMX: 26 tiles/s as published, in batches of 32; 110 here; 170 in
    bfloat16, which moves tokens by 4 % of their length (at most 7 %; tiles of one slide differ by 44 %), so float32 is
    the default.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, without its classifier.
    mean, std : tuple of float
        Normalisation of channels in 0..1.
    input_px : int or None
        Side to which other tiles are resampled.
    device, precision : str
        Where, and float32 or bfloat16.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        input_px: int | None = None,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._device = torch.device(device)
        self.network = network.eval().to(self._device, self._dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = (torch.tensor(mean, device=self._device) * 255).view(1, 3, 1, 1)
        self._scale = (1 / (torch.tensor(std, device=self._device) * 255)).view(1, 3, 1, 1)
        self.input_px = input_px
        self._one_by_one = self._device.type == "cpu"
        self._one_at_a_time = threading.Lock()

    @torch.inference_mode()
    def __call__(self, tiles: UInt8[np.ndarray, "b t t 3"]) -> NDArray[np.float16]:
        """Encode tiles to float16 tokens [b d]."""
        sized = resize_tiles(tiles, self.input_px)
        if self._one_by_one:
            tokens = torch.cat([self._encode(torch.from_numpy(sized[i : i + 1])) for i in range(len(sized))])
        else:
            with self._one_at_a_time:
                tokens = torch.cat(
                    [self._encode_padded(sized[i : i + _GPU_BATCH]) for i in range(0, len(sized), _GPU_BATCH)]
                )
        return tokens.half().cpu().numpy()

    def normalise(self, tiles: UInt8[Tensor, "b t t 3"]) -> Float[Tensor, "b 3 t t"]:
        """Scale pixels as the network was trained."""
        # b t t 3 viewed as b 3 t t is already channels last
        return (tiles.permute(0, 3, 1, 2).float() - self._mean) * self._scale

    def _encode_padded(self, tiles: UInt8[np.ndarray, "b t t 3"]) -> Float[Tensor, "b d"]:
        missing = _GPU_BATCH - len(tiles)
        full = np.pad(tiles, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else tiles
        return self._encode(torch.from_numpy(full).to(self._device))[: len(tiles)]

    def _encode(self, tiles: UInt8[Tensor, "b t t 3"]) -> Float[Tensor, "b d"]:
        tokens = self.network(self.normalise(tiles).to(self._dtype))
        if not isinstance(tokens, Tensor):
            kind = (
                f"a {type(tokens).__name__} of {len(tokens)}"
                if isinstance(tokens, tuple | list | dict)
                else "no tensor"
            )
            raise TypeError(f"it returns {kind}, not one tensor")
        return tokens.float()


def resize_tiles(tiles: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """Resample square tiles [b t t 3] to another side."""
    if side is None or tiles.shape[1] == side:
        return np.require(tiles, requirements=["C", "W"])
    images = (Image.fromarray(tile).resize((side, side), Image.Resampling.LANCZOS) for tile in tiles)
    return np.stack([np.asarray(image) for image in images])
