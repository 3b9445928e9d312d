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

"""The contact sheet of the demo."""

from dataclasses import dataclass
from pathlib import Path

import cv2
from lednet_ros.files import atomic_path
from lednet_ros.images import write_png
from lednet_ros.inference.postprocess import colorize
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.drawing import draw_legend, write_text
import numpy as np
from numpy.typing import NDArray

SHEET_ROWS = 5
TILE_WIDTH = 400
CAPTION_HEIGHT = 28

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """
    One frame and its results.

    Attributes
    ----------
    frame, overlay
        (H, W, 3) uint8 BGR.
    labels
        (H, W) uint8 class ids.
    truth
        (H, W) uint8 class ids; None where there is no ground truth.

    """

    frame: Pixels
    overlay: Pixels
    labels: Pixels
    truth: Pixels | None


class SampleKeeper:
    """Keeps samples, spread evenly over a run of unknown length."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._stride = 1
        self._seen = 0

    def offer(self, sample: Sample) -> None:
        """Keep the sample if it is on the current stride."""
        if self._seen % self._stride == 0:
            self.samples.append(sample)
            if len(self.samples) >= 4 * SHEET_ROWS:
                self.samples = self.samples[::2]
                self._stride *= 2
        self._seen += 1

    def spread(self, count: int) -> list[Sample]:
        """Return up to `count` samples, evenly from the first to the last."""
        if len(self.samples) <= count:
            return self.samples
        places = np.linspace(0, len(self.samples) - 1, count).round().astype(int)
        return [self.samples[place] for place in places]


def write_contact_sheet(
    path: Path, samples: list[Sample], label_map: LabelMap, title: str
) -> None:
    """
    Draw samples, one per row: frame, ground truth if available, labels, overlay.

    Parameters
    ----------
    path
        PNG file to write.
    samples
        Samples; if there are none, no file is written.
    label_map
        Colors and names of the classes, for the legend.
    title
        Text above the images.

    """
    if not samples:
        return
    palette = np.ascontiguousarray(label_map.palette[:, ::-1])
    with_truth = any(sample.truth is not None for sample in samples)
    captions = ['frame', *(['ground truth'] if with_truth else []), 'labels', 'overlay']
    rows = []
    for sample in samples:
        tiles = [sample.frame, _colors(sample.labels, palette), sample.overlay]
        if with_truth:
            missing = sample.truth is None
            truth = np.zeros_like(tiles[1]) if missing else _colors(sample.truth, palette)
            tiles.insert(1, truth)
        rows.append(np.hstack([_tile(pixels, samples[0].frame.shape) for pixels in tiles]))
    body = np.vstack(rows)
    header = np.full((2 * CAPTION_HEIGHT, body.shape[1], 3), 255, np.uint8)
    write_text(header, title, (8, 20))
    for index, caption in enumerate(captions):
        write_text(header, caption, (8 + index * TILE_WIDTH, 20 + CAPTION_HEIGHT))
    sheet = np.vstack([header, body, draw_legend(label_map, body.shape[1])])
    with atomic_path(path) as temporary:
        write_png(temporary, sheet)


def _colors(labels: Pixels, palette: Pixels) -> Pixels:
    colors = np.empty((*labels.shape, 3), np.uint8)
    colorize(labels, palette, colors)
    return colors


def _tile(pixels: Pixels, shape: tuple[int, ...]) -> Pixels:
    height = round(TILE_WIDTH * shape[0] / shape[1])
    return cv2.resize(pixels, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
