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

"""Calibration of confidences and temporal consistency of labels."""

from dataclasses import dataclass, field

import cv2
from lednet_ros.inference.encodings import Frame
from lednet_ros.labels import UNLABELED
import numpy as np
from numpy.typing import NDArray

BINS = 16
LEVELS = 256
# A pixel is still if its gray level changes by at most this.
STILL_LEVELS = 3
# Frames of which less is still are not consecutive: a cut, or images in no order. In 95 % of the
# pairs of CamVid's train frames, a second apart, it is 14 % or more; in as many unrelated ones of
# KITTI, 10.5 % or less.
LEAST_STILL = 0.125


@dataclass
class Calibration:
    """Correct and all pixels by confidence 0..255, (256,) int64 each."""

    right: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LEVELS, np.int64))
    total: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LEVELS, np.int64))

    def update(
        self,
        truth: NDArray[np.uint8],
        predicted: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
    ) -> None:
        """
        Add a frame: class ids and confidence (0..255), each (H, W) uint8.

        Pixels that are unlabeled in truth or prediction don't count.
        """
        counted = (truth != UNLABELED) & (predicted != UNLABELED)
        self.total += np.bincount(confidence[counted], minlength=LEVELS)
        self.right += np.bincount(confidence[counted & (truth == predicted)], minlength=LEVELS)

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Return mean confidence, fraction of correct pixels and number of pixels per bin."""
        levels = np.arange(LEVELS) / (LEVELS - 1)
        total = self.total.reshape(BINS, -1).sum(axis=1)
        right = self.right.reshape(BINS, -1).sum(axis=1)
        claimed = (self.total * levels).reshape(BINS, -1).sum(axis=1)
        with np.errstate(invalid='ignore'):
            return claimed / total, right / total, total

    def error(self) -> float:
        """
        Compute the expected calibration error.

        It is the mean gap between confidence and accuracy over 16 bins of confidence, weighted by
        their pixels (Guo et al., ICML 2017, section 2); NaN without pixels.
        """
        claimed, right, total = self.curve()
        filled = total > 0
        if not filled.any():
            return float('nan')
        return float(np.average(np.abs(claimed - right)[filled], weights=total[filled]))

    def __add__(self, other: 'Calibration') -> 'Calibration':
        """Sum the counts."""
        return Calibration(self.right + other.right, self.total + other.total)


@dataclass
class Flips:
    """
    Labels that change although the image doesn't.

    Attributes
    ----------
    still
        Pixels whose gray level changed by at most 3 of 255 since the previous frame.
    flipped
        Still pixels whose label changed.

    """

    still: int = 0
    flipped: int = 0

    @property
    def share(self) -> float:
        """Return the fraction of the still pixels that flipped; NaN without any."""
        return self.flipped / self.still if self.still else float('nan')

    def __add__(self, other: 'Flips') -> 'Flips':
        """Sum the counts."""
        return Flips(self.still + other.still, self.flipped + other.flipped)


class FlipCounter:
    """Compares each frame with the previous one."""

    def __init__(self) -> None:
        self._gray: NDArray[np.uint8] | None = None
        self._labels: NDArray[np.uint8] | None = None

    def compare(self, frame: Frame, labels: NDArray[np.uint8]) -> Flips:
        """
        Count the flips since the previous frame; none if that had another size or view.

        `labels` are the frame's class ids, (H, W) uint8.
        """
        code = cv2.COLOR_RGB2GRAY if frame.color_order == 'rgb' else cv2.COLOR_BGR2GRAY
        gray = np.asarray(cv2.cvtColor(frame.pixels, code), np.uint8)
        flips = Flips()
        if self._gray is not None and self._labels is not None and self._gray.shape == gray.shape:
            still = cv2.absdiff(gray, self._gray) <= STILL_LEVELS
            count = int(np.count_nonzero(still))
            if count >= LEAST_STILL * still.size:
                flipped = still & (labels != self._labels)
                flips = Flips(count, int(np.count_nonzero(flipped)))
        self._gray, self._labels = gray, labels.copy()
        return flips
