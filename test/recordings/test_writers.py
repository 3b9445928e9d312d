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

import av
import cv2
from lednet_ros.recordings.writers import BagWriter, completing, VideoWriter
from mcap.reader import make_reader
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader


def test_complete_bag_appears_and_replaces_an_older_one(tmp_path: Path) -> None:
    folder = tmp_path / 'bag'
    for round_ in range(2):
        bag = BagWriter(folder, overwrite=True)
        for index in range(3 + round_):
            bag.write('/a', 'std_msgs/msg/String', index, b'\x00\x01\x00\x00\x02\x00\x00\x00x\x00')
        if round_ == 0:
            assert not folder.exists()
        bag.close()
        with Reader(folder) as reader:
            assert reader.message_count == 3 + round_
    assert [path.name for path in tmp_path.iterdir()] == ['bag']


@pytest.mark.parametrize('definition', [None, 'int32 a', 'no/Such b', 'int32 a\xff='])
@pytest.mark.parametrize('compress', [False, True])
def test_any_type_leaves_the_bag_readable_for_others(
    tmp_path: Path, definition: str | None, compress: bool
) -> None:
    bag = BagWriter(tmp_path / 'bag', compress)
    for topic in ('/own', '/twin'):
        bag.add_topic(topic, 'own_msgs/msg/Own', definition)
    for stamp in range(3):
        for topic in ('/own', '/twin'):
            bag.write(topic, 'own_msgs/msg/Own', stamp, b'\x00\x01\x00\x00\x07\x00\x00\x00')
        # One topic may have several types.
        bag.write('/own', 'std_msgs/msg/Int32', stamp, b'\x00\x01\x00\x00\x07\x00\x00\x00')
    bag.close()
    with AnyReader([tmp_path / 'bag']) as reader:
        read = [(c.topic, c.msgtype, time, bytes(data)) for c, time, data in reader.messages()]
        if definition == 'int32 a':
            data = read[0][3]
            assert reader.deserialize(data, 'own_msgs/msg/Own').a == 7
    assert len(read) == 9
    with (tmp_path / 'bag' / 'bag.mcap').open('rb') as stream:
        found = [
            (channel.topic, schema.name, message.log_time, message.data)
            for schema, channel, message in make_reader(stream).iter_messages()
        ]
    assert sorted(found) == sorted(read)


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


@pytest.mark.parametrize(('stamps', 'frames'), [
    # The clock is set: forward, to nothing, back.
    ([0, 1_600_000_000.0, 1_600_000_000.1, 1_600_000_000.2], 23),
    ([0] * 6, 6),
    ([5.0, 5.1, 5.2, 1.0, 1.1, 1.2], 6),
    ([5.0, -5.0, 5.0], 22),
    # Jitter, and more frames than the rate.
    ([0, 0.04, 0.2, 0.3], 4),
    ([k / 30 for k in range(12)], 12),
])
def test_no_stamp_loses_frames_or_repeats_without_bound(
    tmp_path: Path, stamps: list[float], frames: int
) -> None:
    video = VideoWriter(tmp_path / 'v.mp4', 10.0)
    for stamp in stamps:
        video.write(round(stamp * 1e9), np.zeros((48, 64, 3), np.uint8))
    video.close()
    capture = cv2.VideoCapture(str(tmp_path / 'v.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == frames


def test_discarded_output_leaves_nothing(tmp_path: Path) -> None:
    bag = BagWriter(tmp_path / 'bag')
    bag.write('/a', 'std_msgs/msg/String', 0, b'\x00\x01\x00\x00\x02\x00\x00\x00x\x00')
    bag.discard()
    video = VideoWriter(tmp_path / 'v.mp4', 10.0)
    video.discard()
    video.write(0, np.zeros((48, 64, 3), np.uint8))
    video.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_browser_plays_videos_and_other_tools_read_them(tmp_path: Path) -> None:
    with av.open(str(write_video(tmp_path / 'v.mp4', [0.0, 0.1]))) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ('h264', 'yuv420p')
        assert sum(1 for _ in container.decode(stream)) == 2


@pytest.mark.parametrize(('seconds', 'frames'), [
    # A single missing stamp, none at all, a clock that starts over, jitter, one long gap.
    ([0.0, *(1.7e9 + k / 10 for k in range(1, 20))], 39),
    ([0.0] * 12, 12),
    ([*(k / 10 for k in range(20)), *(k / 10 for k in range(20))], 40),
    ([k / 10 + (0.04 if k % 2 else 0) for k in range(50)], 50),
    ([0.0, 0.1, 100.0, 100.1], 23),
])
def test_every_frame_is_shown_whatever_its_stamp(
    tmp_path: Path, seconds: list[float], frames: int
) -> None:
    video = cv2.VideoCapture(str(write_video(tmp_path / 'v.mp4', seconds)))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == frames


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.avi', '.MP4'])
@pytest.mark.parametrize('size', [(48, 64), (47, 63), (1, 1)])
@pytest.mark.parametrize('rate', [0.0, 10.0, 1e9])
def test_any_size_and_rate_is_written(
    tmp_path: Path, suffix: str, size: tuple[int, int], rate: float
) -> None:
    path = write_video(tmp_path / f'v{suffix}', [0.0, 0.1], rate, size)
    good, pixels = cv2.VideoCapture(str(path)).read()
    assert good
    assert pixels.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)


@pytest.mark.parametrize('kind', ['bag', 'video'])
def test_the_first_error_is_reported(tmp_path: Path, kind: str) -> None:
    writer = BagWriter(tmp_path / 'bag') if kind == 'bag' else VideoWriter(tmp_path / 'v.mp4', 10)

    def fail(*_: object) -> None:
        raise OSError('the second error')

    # A full disk can't be had for the clean-up alone.
    if isinstance(writer, BagWriter):
        writer._writer.close = fail
    else:
        writer.write(0, np.zeros((48, 64, 3), np.uint8))
        writer._stack.callback(fail)
    with pytest.raises(RuntimeError, match='the first error'):
        with completing(writer):
            raise RuntimeError('the first error')
    assert list(tmp_path.iterdir()) == []


def write_video(
    path: Path, seconds: list[float], rate: float = 10.0, size: tuple[int, int] = (48, 64)
) -> Path:
    video = VideoWriter(path, rate)
    for index, stamp in enumerate(seconds):
        video.write(round(stamp * 1e9), np.full((*size, 3), index, np.uint8))
    video.close()
    return path
