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

from pathlib import Path

import cv2
from lednet_ros.labels import LabelMap
from lednet_ros.live.contact_sheet import (
    Sample,
    SampleKeeper,
    SHEET_ROWS,
    write_contact_sheet,
)
import numpy as np


def sample(value: int = 0, truth: bool = True) -> Sample:
    """Make a sample whose frame reports its number."""
    pixels = np.full((48, 64, 3), value, np.uint8)
    labels = np.full((48, 64), value % 11, np.uint8)
    return Sample(pixels, pixels, labels, labels if truth else None)


def test_samples_are_spread_over_the_whole_run() -> None:
    keeper = SampleKeeper()
    for index in range(250):
        keeper.offer(sample(index))
    assert len(keeper.samples) < 4 * SHEET_ROWS
    chosen = [int(s.frame[0, 0, 0]) for s in keeper.spread(SHEET_ROWS)]
    assert chosen[0] == 0
    assert chosen[-1] > 180
    assert chosen == sorted(chosen)
    assert len(chosen) == SHEET_ROWS


def test_a_contact_sheet_shows_frames_truth_labels_and_overlays(tmp_path: Path) -> None:
    label_map = LabelMap.load('camvid')
    path = tmp_path / 'sheet.png'
    write_contact_sheet(path, [sample(3), sample(8)], label_map, 'title')
    with_truth = cv2.imread(str(path))
    write_contact_sheet(path, [sample(3, truth=False)], label_map, 'title')
    without = cv2.imread(str(path))
    assert with_truth.shape[1] * 3 == without.shape[1] * 4
    red, green, blue = label_map.palette[3]
    middle_of_labels = with_truth[56 + 150, 1000]
    assert tuple(middle_of_labels) == (blue, green, red)


def test_without_samples_there_is_no_sheet(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / 'sheet.png', [], LabelMap.load('camvid'), 'title')
    assert not list(tmp_path.iterdir())
