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

"""Tests of written bags and videos."""

from pathlib import Path

import cv2
from lednet_ros.recordings.writers import BagWriter, VideoWriter
import numpy as np
from rosbags.rosbag2 import Reader


def test_complete_bag_appears_and_replaces_an_older_one(tmp_path: Path) -> None:
    folder = tmp_path / 'bag'
    for round_ in range(2):
        bag = BagWriter(folder)
        for index in range(3 + round_):
            bag.write('/a', 'std_msgs/msg/String', index, b'\x00\x01\x00\x00\x02\x00\x00\x00x\x00')
        if round_ == 0:
            assert not folder.exists()
        bag.close()
        with Reader(folder) as reader:
            assert reader.message_count == 3 + round_
    assert [path.name for path in tmp_path.iterdir()] == ['bag']


def test_video_plays_at_the_rate_of_the_stamps(tmp_path: Path) -> None:
    video = VideoWriter(tmp_path / 'v.mp4', 10.0)
    # Half a second without frames is filled with repetitions.
    for stamp in (0.0, 0.1, 0.6):
        video.write(round(stamp * 1e9), np.zeros((48, 64, 3), np.uint8))
    video.close()
    capture = cv2.VideoCapture(str(tmp_path / 'v.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 7
    assert capture.get(cv2.CAP_PROP_FPS) == 10.0
    assert [path.name for path in tmp_path.iterdir()] == ['v.mp4']


def test_discarded_output_leaves_nothing(tmp_path: Path) -> None:
    bag = BagWriter(tmp_path / 'bag')
    bag.write('/a', 'std_msgs/msg/String', 0, b'\x00\x01\x00\x00\x02\x00\x00\x00x\x00')
    bag.discard()
    video = VideoWriter(tmp_path / 'v.mp4', 10.0)
    video.discard()
    video.write(0, np.zeros((48, 64, 3), np.uint8))
    video.discard()
    assert list(tmp_path.iterdir()) == []
