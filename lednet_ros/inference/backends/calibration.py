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

"""Frames from which int8 learns the ranges of activations."""

from collections.abc import Iterator
import itertools
from pathlib import Path

from lednet_ros.inference.backends.base import ConfigurationError
from lednet_ros.inference.preprocess import resize_on_host
import numpy as np
from numpy.typing import NDArray

CALIBRATION_FRAMES = 32
LARGEST_STREET = 4096


class Calibration:
    """
    Frames like those that the network will see.

    Parameters
    ----------
    folder
        With images; None takes synthetic streets.
    input_size
        Height and width of the network's input.

    Raises
    ------
    ConfigurationError
        The folder can't be read or holds no image.

    """

    def __init__(self, folder: Path | None, input_size: tuple[int, int]) -> None:
        self._input_size = input_size
        self._images = [] if folder is None else _list_images(folder)

    def batches(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """
        Yield `CALIBRATION_FRAMES` batches; frames repeat only when there are too few.

        Parameters
        ----------
        size
            Frames in a batch.

        Yields
        ------
        ndarray
            (size, *input_size, 3) uint8 RGB.

        Raises
        ------
        ConfigurationError
            An image can't be read.

        """
        frames = itertools.cycle(self._read() if self._images else self._draw())
        for _ in range(CALIBRATION_FRAMES):
            batch = np.empty((size, *self._input_size, 3), np.uint8)
            for image in batch:
                resize_on_host(next(frames), self._input_size, False, image)
            yield batch

    def describe(self) -> str:
        """Return a text that changes with the frames."""
        return ' '.join(f'{path} {path.stat().st_mtime_ns}' for path in self._images)

    def _draw(self) -> Iterator[NDArray[np.uint8]]:
        # A robot that quantizes nothing loads no street.
        from lednet_ros.synthetic import StreetScene

        rng = np.random.default_rng(0)
        # As sharp as frames will be: of another size, activations would differ.
        height, width = (min(side, LARGEST_STREET) for side in self._input_size)
        for seed in range(CALIBRATION_FRAMES):
            scene = StreetScene(width, height, seed=seed)
            yield scene.render(float(rng.uniform(0, 60)))[0]

    def _read(self) -> Iterator[NDArray[np.uint8]]:
        from lednet_ros.datasets.frames import DatasetError, read_image

        # Evenly over the folder, whose neighbors are likely alike.
        step = max(len(self._images) // CALIBRATION_FRAMES, 1)
        for path in self._images[::step]:
            try:
                yield read_image(path)
            except DatasetError as error:
                raise ConfigurationError(f'calibration image {path} can not be read') from error


def _list_images(folder: Path) -> list[Path]:
    from lednet_ros.datasets import IMAGE_SUFFIXES

    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as error:
        raise ConfigurationError(f"calibration is '{folder}': {error}") from error
    if not found:
        raise ConfigurationError(
            f"calibration is '{folder}', which holds no image; it needs files that end in "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    return found
