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

"""How far confidences can be believed, and how steady labels are from frame to frame."""

from dataclasses import dataclass, field

import cv2
from lednet_ros.inference.encodings import Frame
from lednet_ros.labels import UNLABELED
import numpy as np
from numpy.typing import NDArray

BINS = 16
LEVELS = 256
# A pixel whose gray level changed by no more than this shows the same.
STILL_LEVELS = 3


def _zeros() -> NDArray[np.int64]:
    return np.zeros(LEVELS, np.int64)


@dataclass
class Calibration:
    """
    Counts how often predictions of each confidence are right.

    Attributes
    ----------
    right, total
        Pixels by confidence 0..255, (256,) int64.

    """

    right: NDArray[np.int64] = field(default_factory=_zeros)
    total: NDArray[np.int64] = field(default_factory=_zeros)

    def update(
        self,
        truth: NDArray[np.uint8],
        predicted: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
    ) -> None:
        """
        Add a frame; pixels that are unlabeled in truth or prediction don't count.

        Parameters
        ----------
        truth, predicted
            (H, W) uint8 class ids.
        confidence
            (H, W) uint8 0..255.

        """
        counted = (truth != UNLABELED) & (predicted != UNLABELED)
        self.total += np.bincount(confidence[counted], minlength=LEVELS)
        self.right += np.bincount(
            confidence[counted & (truth == predicted)], minlength=LEVELS
        )

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Return mean confidence, fraction of correct pixels and number of pixels of each bin."""
        levels = np.arange(LEVELS) / (LEVELS - 1)
        total = self.total.reshape(BINS, -1).sum(axis=1)
        right = self.right.reshape(BINS, -1).sum(axis=1)
        claimed = (self.total * levels).reshape(BINS, -1).sum(axis=1)
        with np.errstate(invalid='ignore'):
            return claimed / total, right / total, total

    def error(self) -> float:
        """
        Compute the expected calibration error.

        The mean distance between confidence and accuracy over 16 bins of confidence, weighted by
        their pixels (Guo et al., ICML 2017, section 2); NaN without pixels.
        """
        claimed, right, total = self.curve()
        if not total.sum():
            return float('nan')
        filled = total > 0
        gaps = np.abs(claimed[filled] - right[filled])
        return float((gaps * total[filled]).sum() / total.sum())

    def __add__(self, other: 'Calibration') -> 'Calibration':
        """Sum the counts."""
        return Calibration(self.right + other.right, self.total + other.total)


@dataclass
class Flips:
    """
    Counts labels that change although the image doesn't.

    Attributes
    ----------
    still
        Pixels whose gray level changed by at most 3 of 255 since the frame before.
    flipped
        Those of them with another label.

    """

    still: int = 0
    flipped: int = 0

    @property
    def share(self) -> float:
        """Fraction of the still pixels that flipped; NaN without any."""
        return self.flipped / self.still if self.still else float('nan')

    def __add__(self, other: 'Flips') -> 'Flips':
        """Sum the counts."""
        return Flips(self.still + other.still, self.flipped + other.flipped)


class FlipCounter:
    """Compares each frame with the one before it."""

    def __init__(self) -> None:
        self._gray: NDArray[np.uint8] | None = None
        self._labels: NDArray[np.uint8] | None = None

    def compare(self, frame: Frame, labels: NDArray[np.uint8]) -> Flips:
        """
        Count the flips since the last frame; there are none if its size was another one.

        Parameters
        ----------
        frame
            The frame.
        labels
            (H, W) uint8 class ids, of its size.

        """
        code = cv2.COLOR_RGB2GRAY if frame.color_order == 'rgb' else cv2.COLOR_BGR2GRAY
        gray = np.asarray(cv2.cvtColor(frame.pixels, code), np.uint8)
        flips = Flips()
        if self._gray is not None and self._labels is not None and self._gray.shape == gray.shape:
            still = cv2.absdiff(gray, self._gray) <= STILL_LEVELS
            flipped = still & (labels != self._labels)
            flips = Flips(int(np.count_nonzero(still)), int(np.count_nonzero(flipped)))
        self._gray, self._labels = gray, labels.copy()
        return flips
