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

"""Calibration error and flips of small examples counted by hand."""

import math

from lednet_ros.evaluation.consistency import Calibration, FlipCounter, Flips
from lednet_ros.inference.encodings import Frame
import numpy as np
import pytest


def array(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def test_the_calibration_error_is_the_mean_gap() -> None:
    calibration = Calibration()
    # Four pixels at 255 (claimed 1), three of them right; two at 51 (claimed 0.2), one right.
    calibration.update(
        array(1, 1, 1, 1, 2, 2, 255, 3),
        array(1, 1, 1, 0, 2, 3, 1, 255),
        array(255, 255, 255, 255, 51, 51, 255, 255),
    )
    assert calibration.error() == pytest.approx((4 * 0.25 + 2 * 0.3) / 6)
    claimed, right, total = calibration.curve()
    assert total.tolist() == [0, 0, 0, 2] + [0] * 11 + [4]
    assert (claimed[3], right[3], right[15]) == (pytest.approx(0.2), 0.5, 0.75)
    assert (calibration + calibration).error() == pytest.approx(calibration.error())
    assert math.isnan(Calibration().error())


def frame(*levels: int) -> Frame:
    return Frame(np.repeat(array(*levels)[..., None], 3, axis=2), 'bgr')


def test_flips_count_where_the_image_is_still() -> None:
    counter = FlipCounter()
    assert counter.compare(frame(10, 10, 10, 10), array(1, 1, 1, 1)) == Flips(0, 0)
    # The third pixel has moved; of the three others one flips.
    assert counter.compare(frame(10, 13, 14, 7), array(1, 2, 2, 1)) == Flips(3, 1)
    assert counter.compare(frame(1, 1), array(5, 5)) == Flips(0, 0)
    assert counter.compare(frame(1, 1), array(5, 5)) == Flips(2, 0)
    assert (Flips(3, 1) + Flips(2, 0)).share == 0.2


def test_frames_that_are_not_consecutive_have_no_flips() -> None:
    counter, random = FlipCounter(), np.random.default_rng(0)
    pixels = random.integers(0, 256, (4, 60, 80, 3), np.uint8)
    labels = random.integers(0, 11, (4, 60, 80), np.uint8)
    flips = Flips()
    for one, ids in zip(pixels, labels, strict=True):
        flips += counter.compare(Frame(one, 'rgb'), ids)
    assert flips == Flips(0, 0)
    # After the cut, the same camera.
    flips = counter.compare(Frame(pixels[-1], 'rgb'), labels[0])
    assert flips.still == 60 * 80
    assert flips.share == pytest.approx((labels[0] != labels[-1]).mean())


def test_no_pixels_have_no_share() -> None:
    assert math.isnan(Flips().share)
