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

"""Tests of frames from bags, videos and folders, and of errors from anything else."""

from fractions import Fraction
from pathlib import Path

import bag_files
from bag_files import Entry, write_ros1_bag
import cv2
from hypothesis import given
from hypothesis import strategies as st
from lednet_ros.inference.encodings import FrameError
from lednet_ros.recordings.bags import SourceError
from lednet_ros.recordings.sources import read_frames, Timeline
import numpy as np
from numpy.typing import NDArray
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)


def frame(index: int) -> NDArray[np.uint8]:
    """Return a frame whose color encodes its index."""
    return np.full((32, 48, 3), (20 * index, 100, 255 - 20 * index), np.uint8)


def write_bag(
    path: Path, plugin: StoragePlugin, topics: tuple[str, ...], compressed: bool = False
) -> None:
    """Write five frames on each topic."""
    message_types = TYPESTORE.types
    header_type = message_types['std_msgs/msg/Header']
    time_type = message_types['builtin_interfaces/msg/Time']
    kind = 'CompressedImage' if compressed else 'Image'
    name = f'sensor_msgs/msg/{kind}'
    with Writer(path, version=8, storage_plugin=plugin) as writer:
        for topic in topics:
            connection = writer.add_connection(topic, name, typestore=TYPESTORE)
            for index in range(5):
                header = header_type(stamp=time_type(sec=7, nanosec=index), frame_id='cam')
                if compressed:
                    data = cv2.imencode('.png', frame(index))[1].ravel()
                    message = message_types[name](header=header, format='png', data=data)
                else:
                    message = message_types[name](
                        header=header, height=32, width=48, encoding='bgr8', is_bigendian=0,
                        step=144, data=frame(index).ravel(),
                    )
                writer.write(connection, index, TYPESTORE.serialize_cdr(message, name))


@pytest.mark.parametrize('plugin', list(StoragePlugin))
@pytest.mark.parametrize('compressed', [False, True])
def test_bags_yield_every_frame_with_its_stamp(
    tmp_path: Path, plugin: StoragePlugin, compressed: bool
) -> None:
    write_bag(tmp_path / 'bag', plugin, ('/image',), compressed)
    frames = list(read_frames(tmp_path / 'bag'))
    assert [f.stamp for f in frames] == [7 * 10**9 + index for index in range(5)]
    assert {f.frame_id for f in frames} == {'cam'}
    for index, recorded in enumerate(frames):
        assert recorded.frame.color_order == 'bgr'
        assert np.array_equal(recorded.frame.pixels, frame(index))


def test_topic_is_required_among_several_image_topics(tmp_path: Path) -> None:
    write_bag(tmp_path / 'bag', StoragePlugin.MCAP, ('/left', '/right'))
    with pytest.raises(SourceError) as caught:
        list(read_frames(tmp_path / 'bag'))
    for part in ('/left', '/right', 'sensor_msgs/msg/Image', '5'):
        assert part in str(caught.value)
    assert len(list(read_frames(tmp_path / 'bag', '/right'))) == 5
    with pytest.raises(SourceError, match='/up'):
        list(read_frames(tmp_path / 'bag', '/up'))


def test_folders_are_read_in_order_and_videos_at_their_rate(tmp_path: Path) -> None:
    folder = tmp_path / 'frames'
    folder.mkdir()
    video = cv2.VideoWriter(
        str(tmp_path / 'v.mp4'), cv2.VideoWriter.fourcc(*'mp4v'), 5.0, (48, 32)
    )
    for index in range(5):
        cv2.imwrite(str(folder / f'{index:03}.png'), frame(index))
        video.write(frame(index))
    video.release()
    (folder / 'notes.txt').write_text('not an image')
    frames = list(read_frames(folder))
    assert [f.stamp for f in frames] == [index * 100_000_000 for index in range(5)]
    assert np.array_equal(frames[3].frame.pixels, frame(3))
    frames = list(read_frames(tmp_path / 'v.mp4'))
    assert [f.stamp for f in frames] == [index * 200_000_000 for index in range(5)]
    assert len(list(read_frames(folder / '002.png'))) == 1


@pytest.mark.parametrize('suffix', ['mkv', 'mp4'])
def test_frames_of_videos_have_the_times_of_the_container(tmp_path: Path, suffix: str) -> None:
    av = pytest.importorskip('av')
    path = tmp_path / f'variable.{suffix}'
    # As phones and screen recorders write them: the rate says nothing.
    milliseconds = [33 * k for k in range(10)] + [500 + 200 * k for k in range(10)]
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', 30)
        stream.width, stream.height = 48, 32
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index, time in enumerate(milliseconds):
            picture = av.VideoFrame.from_ndarray(frame(index % 12), 'bgr24')
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    stamps = [recorded.stamp for recorded in read_frames(path)]
    np.testing.assert_allclose(stamps, np.multiply(milliseconds, 10**6), atol=10**6)


@pytest.mark.parametrize('ros1', [False, True])
def test_frames_without_a_stamp_have_the_time_of_their_recording(
    tmp_path: Path, ros1: bool
) -> None:
    entries = [Entry('/image', 0 if k < 3 else 50 + k, 40 + k, frame(k)) for k in range(5)]
    path = (write_ros1_bag if ros1 else bag_files.write_bag)(tmp_path / 'drive.bag', entries)
    assert [recorded.stamp for recorded in read_frames(path)] == [40, 41, 42, 53, 54]


@given(st.lists(st.integers(-(2**63), 2**63)), st.floats(0.01, 1), st.floats(1, 100))
def test_time_passes_steadily_whatever_the_stamps(
    stamps: list[int], interval: float, longest: float
) -> None:
    timeline = Timeline(interval, longest)
    seconds = [timeline.advance(stamp) for stamp in stamps]
    steps = np.diff(seconds)
    assert seconds[:1] in ([], [0.0])
    assert ((steps >= 0) & (steps <= longest + 1e-6)).all()


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    text = tmp_path / 'words.mp4'
    text.write_text('not a video')
    empty = tmp_path / 'empty'
    empty.mkdir()
    damaged = tmp_path / 'damaged.png'
    damaged.write_bytes(b'\x89PNG nothing')
    broken = tmp_path / 'broken.mcap'
    broken.write_bytes(b'not a bag')
    for path in (text, empty, damaged, broken, tmp_path / 'missing'):
        with pytest.raises(SourceError, match=path.name):
            list(read_frames(path))


def test_damaged_frame_of_a_bag_is_an_error(tmp_path: Path) -> None:
    name = 'sensor_msgs/msg/CompressedImage'
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/image', name, typestore=TYPESTORE)
        time_type = TYPESTORE.types['builtin_interfaces/msg/Time']
        header = TYPESTORE.types['std_msgs/msg/Header'](time_type(0, 0), 'cam')
        data = cv2.imencode('.jpg', frame(1))[1].ravel()
        message = TYPESTORE.types[name](header, 'jpeg', data[: len(data) // 2])
        writer.write(connection, 0, TYPESTORE.serialize_cdr(message, name))
    with pytest.raises(FrameError):
        list(read_frames(tmp_path / 'bag'))
