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

"""Segmentation of several scaled and mirrored views of a frame: slower, a little more accurate."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.inference.backends.torch_eager import PRECISIONS
from lednet_ros.inference.options import ConfigurationError, find_region, SegmenterOptions
from lednet_ros.inference.preprocess import normalize, resize_on_device, resize_on_host
from lednet_ros.inference.segmenter import make_style
from lednet_ros.labels import choose_classes, UNLABELED
from lednet_ros.limits import MAX_SIZE, MIN_SIZE
from lednet_ros.models import load_network
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_SCALE = 0.1
LARGEST_SCALE = 10


class MultiScaleSegmenter:
    """
    Averages a network's softmax probabilities over several views of a frame.

    With scale 1 alone and no mirrored view the labels equal those of `Segmenter`, except for ties
    caused or broken by softmax rounding.

    Parameters
    ----------
    checkpoint
        Weights and metadata.
    options, changes
        See `Segmenter`; only device, precision, classes, crop, input size, number of threads and
        lowest confidence are used.
    source
        Name of the checkpoint for error messages.
    scales
        Sizes of the network's input, relative to the checkpoint's, 0.1 to 10.
    flip
        Add the mirrored view at every scale.

    Attributes
    ----------
    label_map : LabelMap
        The classes that are published.
    crop : tuple of float or None
        See `SegmenterOptions`.
    num_parameters : int
        Parameters of the network.
    input_sizes : list of tuple
        Height and width of the network's input at each scale.

    Raises
    ------
    ConfigurationError
        A setting is not allowed or the device is not available.
    CheckpointError
        The network is unknown or the weights do not fit it.

    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: SegmenterOptions | None = None,
        *,
        source: str | Path = 'checkpoint',
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        **changes: Any,
    ) -> None:
        options = replace(options or SegmenterOptions(), **changes)
        if options.backend not in ('auto', 'torch_eager'):
            raise ConfigurationError(
                f"backend is '{options.backend}'; with several views it must be 'torch_eager'"
            )
        options = replace(options, backend='torch_eager').resolve()
        if options.num_threads:
            torch.set_num_threads(options.num_threads)
        self.label_map = choose_classes(checkpoint.label_map, options.classes)
        input_size = options.for_input(checkpoint.input_size).input_size
        assert input_size is not None
        self.crop = options.crop
        self.input_sizes = [_scaled(input_size, scale) for scale in scales]
        if not self.input_sizes:
            raise ConfigurationError('scales is empty; it must have one scale or more')
        self._flip = flip
        self._views = len(self.input_sizes) * (2 if flip else 1)
        self._style = make_style(self.label_map, options)
        self._mean, self._std = checkpoint.mean, checkpoint.std
        self._device = torch.device(options.device)
        self._dtype = PRECISIONS[options.precision]
        network = load_network(checkpoint, source, groups=self.label_map.groups)
        self.num_parameters = sum(parameter.numel() for parameter in network.parameters())
        self._network = network.to(device=self._device, dtype=self._dtype).eval()
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def warm_up(self, frame_size: tuple[int, int]) -> None:
        """Run once with a frame of this height and width, so that the next is as fast as all."""
        self.segment(np.zeros((*frame_size, 3), np.uint8))

    @torch.inference_mode()
    def segment(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment a frame, (H, W, 3) uint8 RGB; returns class ids, (H, W) uint8."""
        region = find_region(self.crop, pixels.shape[:2])
        found = np.full(pixels.shape[:2], UNLABELED, np.uint8)
        pixels = pixels[region]
        height, width = pixels.shape[:2]
        channels = len(self.label_map.groups)
        total = torch.zeros((channels, height, width), device=self._device)
        for input_size in self.input_sizes:
            for logits in self._logits(pixels, input_size):
                # Resized as `lednet_ros.inference.postprocess.classify` does.
                logits = logits[None].float().contiguous(memory_format=torch.channels_last)
                full = functional.interpolate(
                    logits, size=(height, width), mode='bilinear', align_corners=True
                )
                total += full.softmax(dim=1)[0]
        probability, winner = (array.cpu().numpy() for array in total.max(dim=0))
        labels: NDArray[np.uint8] = self._style.ids[winner]
        limits = np.broadcast_to(self._style.min_confidences, 256)[labels]
        labels[probability < limits * self._views] = UNLABELED
        found[region] = labels
        return found

    def _logits(self, pixels: NDArray[np.uint8], input_size: tuple[int, int]) -> Tensor:
        """Compute logits (1 or 2 views, C, h, w), those of the mirrored view mirrored back."""
        if self._device.type == 'cpu':
            resized = torch.empty((*input_size, 3), dtype=torch.uint8)
            resize_on_host(pixels, input_size, False, resized.numpy())
        else:
            uploaded = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device)
            resized = resize_on_device(uploaded, input_size, False)
        views = [resized, resized.flip(1)] if self._flip else [resized]
        images = normalize(torch.stack(views), self._mean, self._std, self._dtype)
        logits = self._network.scores(images)[:, : len(self.label_map.groups)]
        if self._flip:
            logits[1] = logits[1].flip(-1)
        return logits


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
        raise ConfigurationError(
            f'scale is {scale:g}; it must be {SMALLEST_SCALE} to {LARGEST_SCALE}'
        )
    height, width = (round(side * scale) for side in size)
    if not (MIN_SIZE <= height <= MAX_SIZE and MIN_SIZE <= width <= MAX_SIZE):
        raise ConfigurationError(
            f'scale is {scale:g}, which makes the input {height}x{width} (height x width); '
            f'both must be {MIN_SIZE} to {MAX_SIZE}'
        )
    return height, width
