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

"""
Accuracy on frames as other light and another camera would show them.

The changes are simple ones of the kinds of Hendrycks and Dietterich (2019), one severity each.
"""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
from lednet_ros.datasets import Dataset, LabeledFrame
from lednet_ros.evaluation.dataset import defined, evaluate, to_dict
from lednet_ros.evaluation.metrics import mean_defined
from lednet_ros.inference.segmenter import Segmenter
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Corruption = Callable[[Pixels, np.random.Generator], Pixels]
"""Returns changed pixels, (H, W, 3) uint8 RGB."""

JPEG_QUALITY = 15
# Width of a frame by the standard deviation of the blur: 1.5 pixels at a width of 480.
BLUR_WIDTHS = 320


def compress(pixels: Pixels, quality: int) -> Pixels:
    """Return RGB pixels (H, W, 3) uint8 as a JPEG of a quality from 1 to 100 keeps them."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    data = cv2.imencode('.jpg', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1]
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _to_bytes(values: NDArray[Any]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _add_noise(pixels: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    return _to_bytes(pixels + rng.normal(0, deviation, pixels.shape))


def _night(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    darkened = 178 * (pixels / 255) ** 1.8 * (0.9, 1, 1.15)
    return _add_noise(_to_bytes(darkened), 6, rng)


def _overexposure(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return _to_bytes(1.5 * pixels + 20)


def _low_contrast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return _to_bytes(0.5 * pixels + 80)


def _warm_light(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return _to_bytes(pixels * np.array((1.2, 1, 0.75)))


def _no_color(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), np.uint8)


def _noise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return _add_noise(pixels, 15, rng)


def _blur(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    blurred = cv2.GaussianBlur(pixels, (0, 0), pixels.shape[1] / BLUR_WIDTHS)
    return np.asarray(blurred, np.uint8)


def _compression(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return compress(pixels, JPEG_QUALITY)


CORRUPTIONS: dict[str, Corruption] = {
    'night': _night,
    'overexposure': _overexposure,
    'low contrast': _low_contrast,
    'warm light': _warm_light,
    'no color': _no_color,
    'noise': _noise,
    'blur': _blur,
    'compression': _compression,
}


class CorruptedFrames:
    """
    The frames of a data set, each changed in the same way at every access.

    Parameters
    ----------
    frames
        The data set.
    corruption
        Changes the pixels; the labels stay.

    """

    def __init__(self, frames: Dataset, corruption: Corruption) -> None:
        self.label_map = frames.label_map
        self.source = frames.source
        self._frames = frames
        self._corruption = corruption

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> LabeledFrame:
        """Read and change a frame; raises DatasetError if it can't be read."""
        frame = self._frames[index]
        pixels = self._corruption(frame.pixels, np.random.default_rng(index))
        return LabeledFrame(frame.name, pixels, frame.labels)


def evaluate_corruptions(segmenter: Segmenter, frames: Dataset) -> dict[str, dict[str, Any]]:
    """
    Evaluate a segmenter on frames under each corruption.

    Parameters
    ----------
    segmenter
        The segmenter; its `output_size` must be None.
    frames
        Labeled frames over the network's label map.

    Returns
    -------
    dict
        By the name of the corruption: `miou` and `calibration_error`, fractions of 1 or None
        where undefined.

    Raises
    ------
    DatasetError
        No frame can be read.

    """
    metrics = {}
    for name, corruption in CORRUPTIONS.items():
        result = to_dict(evaluate(segmenter, CorruptedFrames(frames, corruption), title=name))
        metrics[name] = {key: result[key] for key in ('miou', 'calibration_error')}
    return metrics


def corruption_rows(metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """
    Return the metrics of `evaluate_corruptions` as rows of a table, the last one their means.

    Returns
    -------
    list of dict
        'corruption', 'mIoU' and 'calibration error'; '-' where a value is undefined.

    """
    columns = {'mIoU': 'miou', 'calibration error': 'calibration_error'}
    rows: list[dict[str, Any]] = [
        {'corruption': name, **{title: values[key] for title, key in columns.items()}}
        for name, values in metrics.items()
    ]
    if rows:
        means = {
            title: defined(mean_defined(np.array([row[title] for row in rows], np.float64)))
            for title in columns
        }
        rows.append({'corruption': 'mean', **means})
    return [{k: '-' if v is None else v for k, v in row.items()} for row in rows]
