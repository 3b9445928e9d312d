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

"""The player: recordings through a real process and real DDS."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bag_files import Entry, write_bag, write_ros1_bag
import cv2
from lednet_ros.live.client import live_session, NodeClient, NodeProcess, pixels_of, stamp_of
from lednet_ros.recordings.writers import BagWriter
from lednet_ros.ros.distribution import PROFILE_VARIABLES
from lednet_ros.ros.qos import latched_qos
import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

pytestmark = pytest.mark.ros

PLAYER = 'lednet_ros.live.player'
SECOND = 10**9
TIMEOUT = 60.0
COUNT = 6


@pytest.fixture
def client() -> Iterator[NodeClient]:
    """Make a client that publishes and receives nothing yet."""
    with live_session('test_player') as session:
        yield NodeClient(*session, cameras=(), outputs=())


def play(*arguments: object, quiet: bool = False) -> NodeProcess:
    """Start the player."""
    return NodeProcess('/', program=[PLAYER, *map(str, arguments)], quiet=quiet)


def play_all(client: NodeClient, *arguments: object) -> int:
    """Play until the end; return the exit code."""
    with play(*arguments) as process:
        client.wait(lambda: process.exit_code is not None, TIMEOUT)
        assert process.exit_code is not None
        return process.exit_code


def entries(
    seconds: Sequence[float], encoding: str = 'bgr8', size: tuple[int, int] = (20, 30)
) -> list[Entry]:
    """Make gray frames, each a bit lighter, recorded 10 s after their stamps."""
    made = []
    for index, second in enumerate(seconds):
        stamp = round(second * SECOND)
        pixels = np.full((*size, 3), index, np.uint8)
        made.append(Entry('/camera', stamp, stamp + 10 * SECOND, pixels, encoding))
    return made


FRAMES = entries([5 + index / 10 for index in range(COUNT)])
STAMPS = [entry.stamp for entry in FRAMES]


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3', 'ros1', 'frames'])
def test_images_of_bags_arrive_unchanged_under_another_name(
    client: NodeClient, kind: str, tmp_path: Path
) -> None:
    if kind == 'ros1':
        bag = write_ros1_bag(tmp_path / 'drive.bag', FRAMES)
    else:
        plugin = StoragePlugin.SQLITE3 if kind == 'sqlite3' else StoragePlugin.MCAP
        bag = write_bag(tmp_path / 'bag', FRAMES, plugin)
    received = client.collect(Image, '/front/image')
    options = ['--remap', '/camera:=/front/image']
    if kind == 'frames':
        options = ['--frames', '--image-topic', '/camera', '--remap', 'image:=/front/image']
    assert play_all(client, bag, '--subscribers', 1, *options) == 0
    assert [stamp_of(message) for message in received] == STAMPS
    for message, entry in zip(received, FRAMES, strict=True):
        assert (message.encoding, message.header.frame_id) == ('bgr8', 'cam')
        assert np.array_equal(pixels_of(message), entry.pixels)


def test_compressed_images_stay_compressed(client: NodeClient, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', entries([0.0, 0.1], 'png'))
    received = client.collect(CompressedImage, '/camera')
    assert play_all(client, bag, '--subscribers', 1) == 0
    assert [message.format for message in received] == ['png', 'png']


@pytest.mark.parametrize('kind', ['video', 'folder'])
def test_frames_without_stamps_are_stamped_from_the_start(
    client: NodeClient, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / ('drive.avi' if kind == 'video' else 'frames')
    if kind == 'video':
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (32, 24))
        for _ in range(COUNT):
            writer.write(np.zeros((24, 32, 3), np.uint8))
        writer.release()
    else:
        path.mkdir()
        for index in range(COUNT):
            cv2.imwrite(str(path / f'{index}.png'), np.zeros((24, 32, 3), np.uint8))
    received = client.collect(Image, '/image')
    before = client.ros_node.get_clock().now().nanoseconds
    assert play_all(client, path, '--subscribers', 1) == 0
    stamps = [stamp_of(message) for message in received]
    assert len(stamps) == COUNT
    assert stamps[0] >= before
    assert np.diff(stamps).tolist() == pytest.approx([SECOND / 10] * (COUNT - 1), abs=1)


def test_clock_loop_and_start_offset(client: NodeClient, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', FRAMES)
    received = client.collect(Image, '/camera')
    clocks = client.collect(Clock, '/clock')
    arguments = ['--subscribers', 1, '--clock', 100, '--loop', '--start-offset', 0.25]
    with play(bag, *arguments) as process:
        # From the fourth frame on, again and again.
        client.wait(lambda: len(received) >= 8, TIMEOUT)
    # Ended by a signal.
    assert process.exit_code == 0
    stamps = [stamp_of(message) for message in received]
    assert stamps[:7] == [*STAMPS[3:], *STAMPS[3:], STAMPS[3]]
    times = [message.clock.sec * SECOND + message.clock.nanosec for message in clocks]
    # The time of recording, which each pass starts anew.
    assert STAMPS[0] + 10 * SECOND + SECOND // 4 <= min(times) < STAMPS[-1] + 10 * SECOND
    assert min(np.diff(times)) < 0 < max(np.diff(times))


def test_times_that_jump_are_not_waited_for(client: NodeClient, tmp_path: Path) -> None:
    seconds = [0, 1_600_000_000, 1_600_000_000.1, 5, 5.1]
    bag = write_bag(tmp_path / 'bag', entries(seconds))
    received = client.collect(Image, '/camera')
    assert play_all(client, bag, '--subscribers', 1) == 0
    assert len(received) == len(seconds)


def test_the_rate_applies_to_messages_and_clock(client: NodeClient, tmp_path: Path) -> None:
    # Three hours, which would outlast the test.
    bag = write_bag(tmp_path / 'bag', entries([0, 5000, 10000]))
    received = client.collect(Image, '/camera')
    clocks = client.collect(Clock, '/clock')
    assert play_all(client, bag, '--subscribers', 1, '--clock', '--rate', 10000) == 0
    assert [message.header.stamp.sec for message in received] == [0, 5000, 10000]
    assert max(message.clock.sec for message in clocks) >= 10000


@pytest.mark.parametrize('mode', [[], ['--frames', '--remap', 'image:=/camera']])
def test_a_clock_that_was_set_back_loses_nothing(
    client: NodeClient, mode: list[str], tmp_path: Path
) -> None:
    bag = tmp_path / 'bag'
    bag.mkdir()
    # Within a file, messages are read by their times.
    for index, seconds in enumerate([(5000, 5000.1), (1, 1.1, 1.2)]):
        (file,) = write_bag(tmp_path / f'{index}', entries(seconds)).glob('*.mcap')
        file.rename(bag / f'bag_{index}.mcap')
    received = client.collect(Image, '/camera')
    clocks = client.collect(Clock, '/clock')
    assert play_all(client, bag, '--subscribers', 1, '--clock', *mode) == 0
    assert [message.header.stamp.sec for message in received] == [5000, 5000, 1, 1, 1]
    # By its times of recording, a bag goes back; by stamps, which nobody trusts, frames don't.
    assert (min(message.clock.sec for message in clocks) < 5000) is (not mode)


def test_latched_messages_are_latched_again(client: NodeClient, tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / 'bag')
    forever = QosTime(0, 0)
    latched = Qos(
        QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
        forever, forever, QosLiveliness.AUTOMATIC, forever, False,
    )
    kind = 'std_msgs/msg/String'
    writer.add_topic('/robot', kind, qos=[latched])
    writer.add_topic('/chatter', kind)
    writer.write('/robot', kind, 0, serialize_message(String(data='urdf')))
    for second in range(2, 40):
        writer.write('/chatter', kind, second * SECOND, serialize_message(String(data='again')))
    writer.close()
    chatter = client.collect(String, '/chatter')
    # It came before the offset, and before the subscriber.
    with play(tmp_path / 'bag', '--start-offset', 1, '--rate', 10):
        client.wait(lambda: chatter, TIMEOUT)
        robot = client.collect(String, '/robot', latched_qos())
        client.wait(lambda: robot, TIMEOUT)
    assert [message.data for message in robot] == ['urdf']


def make_unknown_type(path: Path) -> Path:
    """Write a bag whose only type is that of no package, but of a module."""
    writer = BagWriter(path)
    kind = 'antigravity/msg/Lift'
    writer.add_topic('/lift', kind, definition='int32 newtons\n', digest='RIHS01_' + '0' * 64)
    writer.write('/lift', kind, 0, b'\0\1\0\0\0\0\0\0')
    writer.close()
    return path


@pytest.mark.parametrize(
    ('case', 'named'),
    [
        (['/nowhere.mcap'], '/nowhere.mcap does not exist'),
        (['BAG', '--topics', '/lidar'], 'no topic /lidar; it has /camera'),
        (['BAG', '--start-offset', '9'], 'nothing to play after its first 9 s'),
        (['UNKNOWN'], r'/lift (antigravity/msg/Lift)'),
        (['BAG', '--remap', '/camera'], '/camera'),
        (['BAG', '--rate', '0'], "--rate: '0'; allowed: above 0"),
        (['TEXT'], 'neither a bag'),
    ],
)
def test_what_cannot_be_played_is_one_error(
    client: NodeClient, case: list[str], named: str, tmp_path: Path
) -> None:
    made: dict[str, Any] = {
        'BAG': lambda: write_bag(tmp_path / 'bag', FRAMES),
        'UNKNOWN': lambda: make_unknown_type(tmp_path / 'unknown'),
        'TEXT': lambda: tmp_path / 'notes.txt',
    }
    (tmp_path / 'notes.txt').write_text('no images')
    arguments = [made[word]() if word in made else word for word in case]
    with play(*arguments, quiet=True) as process:
        assert process.wait(TIMEOUT) in (1, 2)
        with pytest.raises(Exception, match=r'ended with exit code') as raised:
            process.check()
    assert named in str(raised.value)
    assert 'Traceback' not in str(raised.value)


def test_large_images_pass_without_a_profile_of_the_user(
    client: NodeClient, tmp_path: Path
) -> None:
    bag = write_bag(tmp_path / 'bag', entries(np.arange(30) / 10, size=(720, 1280)))
    received = client.collect(
        Image, '/camera', QoSProfile(depth=30, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    without = [word for variable in PROFILE_VARIABLES for word in ('-u', variable)]
    program = [PLAYER, str(bag), '--subscribers', '1', '--rate', '3']
    with NodeProcess('/', program=program, wrapper=['env', *without]) as process:
        client.wait(lambda: process.exit_code is not None, TIMEOUT)
    # With the default settings of Fast DDS, 15 or 16 of 30 arrived.
    assert len(received) > 24


def test_a_damaged_bag_is_played_up_to_the_damage(client: NodeClient, tmp_path: Path) -> None:
    # Chunks of MCAP hold about a megabyte.
    bag = write_bag(tmp_path / 'bag', entries(np.arange(COUNT) / 10, size=(600, 800)))
    (file,) = bag.glob('*.mcap')
    torn = tmp_path / 'torn.mcap'
    torn.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    received = client.collect(Image, '/camera')
    assert play_all(client, torn, '--subscribers', 1) == 1
    stamps = [stamp_of(message) for message in received]
    assert 0 < len(stamps) < COUNT
    assert stamps == [index * SECOND // 10 for index in range(len(stamps))]
