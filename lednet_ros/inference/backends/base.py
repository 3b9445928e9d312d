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

"""The protocol of backends: frames in; labels, confidence and colored images out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import ConfigurationError
from lednet_ros.labels import UNLABELED
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

__all__ = ['Backend', 'ConfigurationError', 'Outputs', 'Style', 'Wanted']

# Sizes for which each place in a batch keeps memory: cameras of several sizes take turns there.
SIZES_KEPT = 4
CHANNELS = {'labels': 1, 'confidence': 1, 'overlay': 3, 'color': 3}


@dataclass(frozen=True)
class Wanted:
    """The results to compute besides the labels, which are always computed."""

    confidence: bool = False
    overlay: bool = False
    color: bool = False

    def names(self) -> list[str]:
        """List all results to compute, the labels first."""
        return ['labels'] + [name for name in CHANNELS if getattr(self, name, False)]


@dataclass(frozen=True)
class Style:
    """
    Settings that turn logits into labels, and labels into colored images.

    Attributes
    ----------
    ids
        The id of each channel of the logits, (256,) uint8.
    min_confidences
        The softmax probability (0..1) below which pixels become 255, (256,) float32 by id, or (1,)
        for all.
    palettes
        Colors by id, (256, 3) uint8, contiguous, for each color order: 'rgb' and 'bgr'.
    visible
        255 for ids that overlays draw, 0 for those that show the plain frame, (256,) uint8.
    alpha
        Weight of the colors in overlays, 0..1.

    """

    ids: NDArray[np.uint8] = field(default_factory=lambda: np.arange(256, dtype=np.uint8))
    min_confidences: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros(1, np.float32)
    )
    palettes: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    visible: NDArray[np.uint8] = field(default_factory=lambda: np.full(256, 255, np.uint8))
    alpha: float = 0.5

    @cached_property
    def has_threshold(self) -> bool:
        """Return whether pixels can become 255 for their confidence."""
        return bool(self.min_confidences.any())

    @cached_property
    def renumbers(self) -> bool:
        """Return whether ids differ from the channels of the logits."""
        return bool((self.ids != np.arange(256)).any())


class Outputs:
    """
    The results of one frame, in memory that is allocated once, when a result is first wanted.

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
        """Return a result by name: (*size,) uint8, or (*size, 3) uint8 for colored images."""
        if name not in self._tensors:
            shape = self.size if CHANNELS[name] == 1 else (*self.size, CHANNELS[name])
            # What stays outside of a crop is unlabeled, without confidence.
            fill = UNLABELED if name == 'labels' else 0
            self._tensors[name] = torch.full(
                shape, fill, dtype=torch.uint8, device=self._device, pin_memory=self._pinned
            )
        return self._tensors[name]

    def array(self, name: str) -> NDArray[np.uint8]:
        """Return a result in host memory as an array; a view, valid until the next batch."""
        array: NDArray[np.uint8] = self.tensor(name).numpy()
        return array


class Backend(Protocol):
    """An object that runs a network; one thread at a time may call it."""

    draws: bool
    """Whether `run` also fills overlays and colors; otherwise they are drawn from the labels."""

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
            One for each frame, in host memory, of the size that its results must have. Overlays
            are in the color order of their frame, color images are RGB.
        wanted
            Which of them to fill besides the labels; without `draws`, only the confidence counts.
        style
            How.

        """

    def last_logits(self) -> NDArray[np.float32]:
        """
        Return the logits of the last batch, to compare backends.

        Returns
        -------
        ndarray
            (N, h, w, classes) float32 in host memory, valid until the next batch.

        """
