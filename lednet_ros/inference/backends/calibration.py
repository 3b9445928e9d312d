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

"""Ranges of activations for int8: from the checkpoint, or measured on frames."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
import itertools
import logging
from pathlib import Path
from typing import TypeVar

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import ConfigurationError, find_region, SegmenterOptions
from lednet_ros.inference.preprocess import byte_factors, resize_on_host
from lednet_ros.models import load_network, SegmentationNetwork
from lednet_ros.models.fused import FoldedNetwork, fuse
import numpy as np
import torch
from torch import nn, Tensor

logger = logging.getLogger(__name__)
CALIBRATION_FRAMES = 32
LARGEST_STREET = 4096

Item = TypeVar('Item')
Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest input of convolutions, by their names in the network."""


def fold_checkpoint(network: SegmentationNetwork, checkpoint: Checkpoint) -> nn.Module:
    """Put the normalization and the classes of a checkpoint around a copy of its network."""
    return FoldedNetwork(network.eval(), *_surroundings(checkpoint)).eval()


def fuse_checkpoint(network: SegmentationNetwork, checkpoint: Checkpoint) -> nn.Module:
    """Fuse a network with the normalization and the classes of its checkpoint (see `fuse`)."""
    return fuse(network.eval(), *_surroundings(checkpoint))


def _surroundings(checkpoint: Checkpoint) -> tuple[list[float], list[float], int]:
    scale, shift = byte_factors(checkpoint.mean, checkpoint.std)
    return scale, shift, checkpoint.label_map.num_classes


def find_convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions of a network by name."""
    return {
        name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
    }


@torch.inference_mode()
def measure_ranges(
    network: nn.Module, frames: Iterable[Frame], input_size: tuple[int, int]
) -> dict[str, tuple[float, float]]:
    """
    Measure the ranges of the inputs of a network's convolutions.

    Parameters
    ----------
    network
        From bytes (N, H, W, 3): `fuse_checkpoint` or `fold_checkpoint`.
    frames
        Like those that the network will see.
    input_size
        Height and width of the network's input, to which frames are resized.

    Returns
    -------
    dict
        Lowest and highest value by the name of the convolution; the range includes 0, and is
        0 where a convolution didn't run.

    """
    convolutions = find_convolutions(network)
    ranges = dict.fromkeys(convolutions, (0.0, 0.0))

    def watch(name: str, inputs: tuple[Tensor, ...]) -> None:
        low, high = ranges[name]
        ranges[name] = min(low, float(inputs[0].min())), max(high, float(inputs[0].max()))

    hooks = [
        # The default binds the name of this round.
        module.register_forward_pre_hook(lambda _, inputs, name=name: watch(name, inputs))
        for name, module in convolutions.items()
    ]
    image = np.empty((1, *input_size, 3), np.uint8)
    try:
        for frame in frames:
            resize_on_host(frame.pixels, input_size, frame.color_order == 'bgr', image[0])
            network(torch.from_numpy(image))
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def quantize_checkpoint(
    checkpoint: Checkpoint, frames: Iterable[Frame]
) -> Checkpoint:
    """Return a checkpoint with the ranges of its activations; `frames` as in `measure_ranges`."""
    trained = load_network(checkpoint, 'checkpoint')
    ranges: dict[str, tuple[float, float]] = {}
    frames = list(frames)
    # Some backends run the one, some the other.
    for build in (fuse_checkpoint, fold_checkpoint):
        ranges |= measure_ranges(build(trained, checkpoint), frames, checkpoint.input_size)
    return replace(checkpoint, activation_ranges=ranges)


def sample_evenly(items: Iterable[Item], count: int) -> list[Item]:
    """Return at least half of `count` items, and at most `count`, evenly spread."""
    found: list[Item] = []
    step = 1
    for number, item in enumerate(items):
        if number % step == 0:
            found.append(item)
        if len(found) > count:
            found = found[::2]
            step *= 2
    return found


class Calibration:
    """
    Source of the ranges that int8 needs.

    Those of the checkpoint are used unless the options name a folder with images. A checkpoint
    without them is calibrated with synthetic streets.

    Parameters
    ----------
    checkpoint
        Whose ranges are used.
    options
        The calibration folder and the size of the network's input.

    Raises
    ------
    ConfigurationError
        The folder can't be read or contains no image.

    """

    def __init__(self, checkpoint: Checkpoint, options: SegmenterOptions) -> None:
        self._input_size = options.input_size or checkpoint.input_size
        folder = options.calibration
        self._images = [] if folder is None else _list_images(folder)
        self._crop = options.crop
        self._ranges = {} if self._images else checkpoint.activation_ranges
        files = [f'{path} {path.stat().st_mtime_ns}' for path in self._images]
        self._description = f'{sorted(self._ranges.items())} {files} {files and self._crop}'

    def describe(self) -> str:
        """Return a text that changes with the source of the ranges."""
        return self._description

    def find_ranges(self, network: nn.Module) -> Ranges:
        """
        Return the ranges for a network as in `measure_ranges`; measuring takes some seconds.

        Raises
        ------
        ConfigurationError
            None of the images can be read.

        """
        if not find_convolutions(network).keys() <= self._ranges.keys():
            frames = self._read() if self._images else draw_streets(self._input_size)
            self._ranges = measure_ranges(network, frames, self._input_size)
        return self._ranges

    def _read(self) -> Iterator[Frame]:
        from lednet_ros.datasets.frames import DatasetError, read_image

        count = 0
        # Evenly over the folder, whose neighbors are likely alike.
        step = max(len(self._images) // CALIBRATION_FRAMES, 1)
        for path in itertools.islice(self._images, 0, step * CALIBRATION_FRAMES, step):
            try:
                pixels = read_image(path)
            except DatasetError as error:
                logger.warning('calibration: %s', error)
                continue
            yield Frame(pixels[find_region(self._crop, pixels.shape[:2])], 'rgb')
            count += 1
        if not count:
            raise ConfigurationError(f'no calibration image of {path.parent} can be read')


def draw_streets(size: tuple[int, int]) -> Iterator[Frame]:
    """Yield `CALIBRATION_FRAMES` synthetic streets of a height and width."""
    # A robot that calibrates nothing loads no street.
    from lednet_ros.synthetic import StreetScene

    rng = np.random.default_rng(0)
    # As sharp as frames will be: at another size, activations would differ.
    height, width = (min(side, LARGEST_STREET) for side in size)
    for seed in range(CALIBRATION_FRAMES):
        scene = StreetScene(width, height, seed=seed)
        yield Frame(scene.render(float(rng.uniform(0, 60)))[0], 'rgb')


def _list_images(folder: Path) -> list[Path]:
    from lednet_ros.images import find_images, IMAGE_SUFFIXES

    try:
        found = find_images(folder)
    except OSError as error:
        raise ConfigurationError(f"calibration is '{folder}': {error}") from error
    if not found:
        raise ConfigurationError(
            f"calibration is '{folder}', which holds no image; it needs files that end in "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    return found
