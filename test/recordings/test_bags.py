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

"""Tests of ROS 1 and ROS 2 bags: complete, compressed and damaged."""

import contextlib
from dataclasses import replace
from pathlib import Path
import shutil
import sqlite3

from bag_files import Entry, ROS2, write_bag, write_ros1_bag
import cv2
from lednet_ros.recordings.bags import decode_image, IMAGE_TYPES, is_bag, open_bag, SourceError
from lednet_ros.recordings.sources import read_frames
from mcap.writer import Writer as McapWriter
import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
import zstandard

SECOND = 10**9
SHARED = Path(__file__).resolve().parents[3] / 'shared' / 'bags'


def entries(count: int = 6, topic: str = '/image', encoding: str = 'bgr8') -> list[Entry]:
    rng = np.random.default_rng(0)
    return [
        Entry(
            topic, 1_600_000_000 * SECOND + 66_666_667 * k, k,
            rng.integers(0, 256, (96, 128, 3), np.uint8), encoding,
        )
        for k in range(count)
    ]


@pytest.mark.parametrize('kind', [*StoragePlugin, 'ros1'])
def test_all_kinds_of_bags_have_the_same_content(tmp_path: Path, kind: object) -> None:
    written = entries()
    if isinstance(kind, StoragePlugin):
        path = write_bag(tmp_path / 'bag', written, kind)
    else:
        path = write_ros1_bag(tmp_path / 'drive.bag', written)
    assert is_bag(path)
    with open_bag(path) as bag:
        assert bag.is_ros1 == (kind == 'ros1')
        (topic,) = bag.topics
        assert (topic.name, topic.type, topic.count) == ('/image', 'sensor_msgs/msg/Image', 6)
        messages = list(bag.messages())
        assert not bag.damage
    assert [message.header_stamp() for message in messages] == [e.stamp for e in written]
    found = list(read_frames(path))
    for frame, entry in zip(found, written, strict=True):
        assert frame.stamp == entry.stamp
        np.testing.assert_array_equal(frame.frame.pixels, entry.pixels)


@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_storage(tmp_path: Path, mode: CompressionMode) -> None:
    plain = write_bag(tmp_path / 'plain', entries(), StoragePlugin.SQLITE3)
    writer = Writer(tmp_path / 'small', version=8, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer, open_bag(plain) as bag:
        connection = writer.add_connection('/image', bag.topics[0].type, typestore=ROS2)
        for message in bag.messages():
            writer.write(connection, message.time, message.data)
    assert len(list(read_frames(tmp_path / 'small'))) == 6


def test_topic_is_selected_by_type(tmp_path: Path) -> None:
    written = [*entries(topic='/left'), *entries(topic='/right', encoding='jpeg')]
    with open_bag(write_bag(tmp_path / 'bag', written)) as bag:
        assert bag.choose_topic('/left', IMAGE_TYPES, 'image topic').name == '/left'
        with pytest.raises(SourceError) as caught:
            bag.choose_topic(None, IMAGE_TYPES, 'image topic')
        for part in ('/left', '/right', 'sensor_msgs/msg/CompressedImage', '6'):
            assert part in str(caught.value)
        with pytest.raises(SourceError, match="label topic '/up'"):
            bag.choose_topic('/up', IMAGE_TYPES, 'label topic')


def cut(path: Path, fraction: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])


def test_truncated_mcap_is_read_up_to_the_damage(tmp_path: Path) -> None:
    written = entries(100)
    folder = write_bag(tmp_path / 'bag', written)
    (file,) = folder.glob('*.mcap')
    cut(file, 0.6)
    for path in (folder, file):
        with open_bag(path) as bag:
            (topic,) = bag.topics
            assert 0 < topic.count < 100
            messages = list(bag.messages(['/image']))
            assert 'damaged after' in bag.damage
        assert [m.header_stamp() for m in messages] == [e.stamp for e in written[: topic.count]]
        np.testing.assert_array_equal(decode_image(messages[-1]).pixels,
                                      written[topic.count - 1].pixels)
    with pytest.raises(SourceError, match='damaged after'):
        list(read_frames(folder))


@pytest.mark.parametrize('size', [8192, 1_500_000])
def test_damaged_database_reports_how_much_was_read(tmp_path: Path, size: int) -> None:
    folder = write_bag(tmp_path / 'bag', entries(100), StoragePlugin.SQLITE3)
    (file,) = folder.glob('*.db3')
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    end = middle + size
    data[middle:end] = b'\xff' * size
    file.write_bytes(data)
    with open_bag(folder) as bag:
        count = len(list(bag.messages()))
        assert 10 < count < 100
        assert str(count) in bag.damage
        assert 'malformed' in bag.damage


def test_files_that_are_not_bags_are_named(tmp_path: Path) -> None:
    words = tmp_path / 'words.mcap'
    words.write_text('nothing')
    ros1 = tmp_path / 'words.bag'
    ros1.write_text('nothing')
    folder = write_bag(tmp_path / 'bag', entries())
    shutil.rmtree(tmp_path / 'gone', ignore_errors=True)
    for file in folder.glob('*.mcap'):
        file.unlink()
    binary = tmp_path / 'binary.bag'
    # Found by test/fuzz: its reader expects text in the first line.
    binary.write_bytes(b'\x80ROSBAG V2.0\n')
    for path in (words, ros1, binary, folder, tmp_path / 'gone.mcap'):
        with pytest.raises(SourceError, match=path.name), open_bag(path):
            pass


@pytest.mark.parametrize(
    'kind', ['plain', 'database', 'upper case', 'files compressed', 'messages compressed', 'torn']
)
def test_folder_without_metadata_is_read_in_the_order_of_its_numbers(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    # The clock starts over after the third file.
    written = [replace(entry, time=entry.time % 3) for entry in entries(12)]
    folder = tmp_path / 'drive'
    folder.mkdir()
    plugin = StoragePlugin.MCAP if kind in ('plain', 'torn') else StoragePlugin.SQLITE3
    for number, entry in enumerate(written):
        bag = write_bag(tmp_path / f'bag{number}', [entry], plugin)
        (file,) = (file for file in bag.iterdir() if file.suffix != '.yaml')
        name = f'drive_{number}{file.suffix}'
        if kind == 'upper case':
            name = name.upper()
        elif kind == 'messages compressed':
            with contextlib.closing(sqlite3.connect(file)) as database, database:
                (data,) = database.execute('SELECT data FROM messages').fetchone()
                packed = zstandard.compress(data)
                database.execute('UPDATE messages SET data = ?', (packed,))
        elif kind == 'files compressed':
            file.write_bytes(zstandard.compress(file.read_bytes()))
            name += '.zstd'
        file.rename(folder / name)
    if kind == 'torn':
        (folder / 'drive_5.mcap').write_bytes(b'')
        del written[5]
    assert is_bag(folder)
    with open_bag(folder) as bag:
        stamps = [message.header_stamp() for message in bag.messages(['/image'])]
        assert bool(bag.damage) == (kind == 'torn')
        assert 'drive_5.mcap is damaged after 0 messages' in bag.damage or kind != 'torn'
        decode_image(next(bag.messages()))
    assert stamps == [entry.stamp for entry in written]
    assert 'no metadata.yaml' in caplog.text


def test_folders_of_other_files_are_not_bags(tmp_path: Path) -> None:
    for name, other in (('images', '0.PNG'), ('data_set', 'train/0.mcap')):
        folder = write_bag(tmp_path / name, entries(1))
        (folder / 'metadata.yaml').unlink()
        (folder / other).parent.mkdir(exist_ok=True)
        (folder / other).touch()
        assert not is_bag(folder)
    folder = write_bag(tmp_path / 'first', entries(1))
    (folder / 'metadata.yaml').unlink()
    (folder / 'first.mcap').rename(folder / 'first_0.mcap')
    (folder / 'second_0.mcap').touch()
    with pytest.raises(SourceError, match='files of several bags: first, second'):
        list(read_frames(folder))


def test_missing_split_is_named(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / 'bag', entries(3))
    metadata = folder / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('- bag.mcap', '- bag.mcap\n  - bag_1.mcap'))
    with open_bag(folder) as bag:
        assert len(list(bag.messages())) == 3
        assert bag.damage.endswith('bag_1.mcap is missing')


@pytest.mark.parametrize('encoding', ['json', 'protobuf', 'ros1'])
@pytest.mark.parametrize('has_images', [True, False])
def test_channels_in_other_encodings_are_skipped(
    tmp_path: Path, encoding: str, has_images: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / 'drive.mcap'
    image = ROS2.types['sensor_msgs/msg/CompressedImage'](
        ROS2.types['std_msgs/msg/Header'](ROS2.types['builtin_interfaces/msg/Time'](1, 2), 'cam'),
        'png', cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1].ravel(),
    )
    data = ROS2.serialize_cdr(image, 'sensor_msgs/msg/CompressedImage')
    definition, _ = ROS2.generate_msgdef('sensor_msgs/msg/CompressedImage', ros_version=2)
    with path.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start(profile='')
        schema = writer.register_schema('sensor_msgs/msg/CompressedImage', 'ros2msg',
                                        definition.encode())
        foreign = writer.register_schema('foxglove.Log', encoding, b'{}')
        images = writer.register_channel('/image', 'cdr', schema)
        other = writer.register_channel('/log', encoding, foreign)
        for time in range(3):
            if has_images:
                writer.add_message(images, time, bytes(data), time)
            writer.add_message(other, time, b'{}', time)
        writer.finish()
    if has_images:
        with open_bag(path) as bag:
            assert [topic.name for topic in bag.topics] == ['/image']
            assert bag.topics[0].definition == definition
        frames = list(read_frames(path))
        assert [frame.stamp for frame in frames] == [10**9 + 2] * 3
    else:
        with pytest.raises(SourceError, match='not a readable bag'):
            list(read_frames(path))
    assert f"/log is skipped: its messages are in '{encoding}'" in caplog.text


@pytest.mark.skipif(not SHARED.is_dir(), reason=f'{SHARED} is missing')
def test_third_party_recordings_are_read_completely() -> None:
    paths = sorted(path for path in SHARED.iterdir() if path.is_dir())
    assert paths
    for path in paths:
        with open_bag(path) as bag:
            images = [topic for topic in bag.topics if topic.type in IMAGE_TYPES]
            assert images
            counts = dict.fromkeys((topic.name for topic in bag.topics), 0)
            for message in bag.messages():
                counts[message.topic] += 1
                if message.type in IMAGE_TYPES:
                    assert decode_image(message).pixels.shape[2] == 3
            assert counts == {topic.name: topic.count for topic in bag.topics}
            assert not bag.damage
