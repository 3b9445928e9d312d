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

"""Legends and class boundaries, which make label images easier to read."""

import cv2
from lednet_ros.labels import LabelMap
import numpy as np
from numpy.typing import NDArray

CELL_WIDTH, ROW_HEIGHT = 130, 28
FONT = cv2.FONT_HERSHEY_SIMPLEX
BOUNDARY_COLOR = (255, 255, 255)

Pixels = NDArray[np.uint8]


def draw_legend(label_map: LabelMap, width: int) -> Pixels:
    """
    Draw the colors and names of the classes.

    Parameters
    ----------
    label_map
        The classes.
    width
        Width of the image above it, in pixels.

    Returns
    -------
    ndarray
        (H, width, 3) uint8 BGR.

    """
    per_row = max(width // CELL_WIDTH, 1)
    rows = -(-label_map.num_classes // per_row)
    legend = np.full((rows * ROW_HEIGHT, width, 3), 255, np.uint8)
    for index, label in enumerate(label_map.labels):
        x = index % per_row * (width // per_row)
        y = index // per_row * ROW_HEIGHT
        corners = (x + 6, y + 6), (x + 26, y + 22)
        cv2.rectangle(legend, *corners, label.color[::-1], cv2.FILLED)
        cv2.rectangle(legend, *corners, (120, 120, 120))
        write_text(legend, label.name, (x + 32, y + 20))
    return legend


def draw_boundaries(pixels: Pixels, labels: Pixels) -> None:
    """
    Draw white lines where classes meet, in place.

    Parameters
    ----------
    pixels
        (H, W, 3) uint8.
    labels
        (H, W) uint8 class ids.

    """
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    pixels[edge] = BOUNDARY_COLOR


def write_text(image: Pixels, text: str, place: tuple[int, int]) -> None:
    """Write black text; `place` is the left end of its baseline, x and y."""
    cv2.putText(image, text, place, FONT, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
