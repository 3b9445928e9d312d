# Copyright 2026 the lednet_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""What the segmenter asks of a backend: frames in, labels and pictures out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import hashlib
from typing import Protocol, runtime_checkable

from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.postprocess import blend, colorize
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor

SLOTS = 2
"""How many batches can be under way in a backend that overlaps them."""

CHANNELS = {'labels': 1, 'confidence': 1, 'overlay': 3, 'color': 3}


class ConfigurationError(ValueError):
    """A segmenter that can't be built; the message names the setting and what is allowed."""


@dataclass(frozen=True)
class Wanted:
    """The results to compute besides the labels."""

    confidence: bool
    overlay: bool
    color: bool

    def names(self) -> list[str]:
        """List all results to compute, the labels first."""
        return ['labels'] + [name for name in CHANNELS if getattr(self, name, False)]


@dataclass(frozen=True)
class Style:
    """
    What decides how scores become labels and labels become pictures.

    Attributes
    ----------
    palettes
        Colors by id, (256, 3) uint8, contiguous, for each color order: 'rgb' and 'bgr'.
    visible
        255 for ids that overlays draw, 0 for those that show the plain frame, (256,) uint8.
    alpha
        Weight of the colors in overlays, 0..1.
    min_confidence
        Pixels below this softmax probability (0..1) become 255.

    """

    palettes: Mapping[str, NDArray[np.uint8]]
    visible: NDArray[np.uint8]
    alpha: float
    min_confidence: float


class Outputs:
    """
    Memory for the results of one place in the batch, each allocated once, when first wanted.

    Parameters
    ----------
    size
        Height and width.
    device
        Where the memory is.
    pinned
        Host memory that a GPU can copy to by itself.

    """

    def __init__(
        self, size: tuple[int, int], device: torch.device | str = 'cpu', pinned: bool = False
    ) -> None:
        self.size = size
        self._device = device
        self._pinned = pinned
        self._tensors: dict[str, Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        """Give a result by name: (*size,) uint8, or (*size, 3) uint8 for pictures."""
        if name not in self._tensors:
            shape = self.size if CHANNELS[name] == 1 else (*self.size, CHANNELS[name])
            self._tensors[name] = torch.empty(
                shape, dtype=torch.uint8, device=self._device, pin_memory=self._pinned
            )
        return self._tensors[name]

    def array(self, name: str) -> NDArray[np.uint8]:
        """Give a result in host memory as an array."""
        array: NDArray[np.uint8] = self.tensor(name).numpy()
        return array


class Backend(Protocol):
    """What runs a network; one thread at a time may call it."""

    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """
        Segment a batch; the outputs are valid when this returns.

        Parameters
        ----------
        frames
            The batch; sizes and color orders may differ.
        outputs
            One for each frame, in host memory, of the size that its results shall have. Overlays
            are in the color order of their frame, color pictures are RGB.
        wanted
            Which of them to fill besides the labels.
        style
            How.

        """


@runtime_checkable
class OverlappingBackend(Backend, Protocol):
    """A backend that copies one batch while it computes another."""

    def submit(
        self,
        slot: int,
        frames: Sequence[Frame],
        outputs: Sequence[Outputs],
        wanted: Wanted,
        style: Style,
    ) -> Callable[[], None]:
        """
        Start a batch.

        Parameters
        ----------
        slot
            0 to `SLOTS` - 1; nothing may be under way in it.
        frames, outputs, wanted, style
            As for `Backend.run`; the frames may be changed as soon as this returns.

        Returns
        -------
        callable
            Waits until the outputs are valid.

        """


def digest_weights(network: nn.Module) -> str:
    """Give a text that changes with the names, shapes and values of a network's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f'{name} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def draw_on_host(
    frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
) -> None:
    """Draw the pictures that are wanted from the labels; parameters as in `Backend.run`."""
    for frame, output in zip(frames, outputs, strict=True):
        if wanted.overlay:
            blend(
                frame.pixels,
                output.array('labels'),
                style.palettes[frame.color_order],
                style.alpha,
                style.visible,
                output.array('overlay'),
            )
        if wanted.color:
            colorize(output.array('labels'), style.palettes['rgb'], output.array('color'))
