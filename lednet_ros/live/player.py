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

"""
A node that plays a recording, with the options of `ros2 bag play`.

    ros2 run lednet_ros player RECORDING --clock --loop

It also plays ROS 1 bags, videos and images, and needs no ROS installation.
"""

import argparse
from collections.abc import Iterator, Sequence
import contextlib
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
import math
from pathlib import Path
import sys
import threading
import time
from typing import Any

from lednet_ros.inference.encodings import FrameError
from lednet_ros.live.client import image_message
from lednet_ros.recordings.bags import (
    Bag,
    BagTopic,
    IMAGE_TYPE,
    IMAGE_TYPES,
    is_bag,
    open_bag,
    SourceError,
)
from lednet_ros.recordings.sources import read_frames, Timeline
from lednet_ros.ros.process import run_node, use_shipped_profile
from lednet_ros.ros.qos import output_qos
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.task import Future
from rclpy.time import Time
from rosbags.interfaces import QosDurability
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import Image

CLOCK_TOPIC = '/clock'
CLOCK_RATE = 40.0
SUBSCRIBER_TIMEOUT = 10.0
# A subscriber that this side has discovered may not have discovered this side yet.
DISCOVERY_SECONDS = 0.5
POLL_SECONDS = 0.02
# Long enough for reliable delivery of the last messages before the process ends.
LINGER_SECONDS = 1.0
# Between two passes of a loop; a single image has no rate of its own.
LOOP_SECONDS = 0.1
# Nanoseconds by which the clock was set back while recording, rather than messages reordered.
STEP_BACK = 10**9
# Nanoseconds of playing that are waited for; more means that the clock was set forward.
LONGEST_WAIT = 60 * 10**9
# Latched messages that a late subscriber still gets.
LATCHED_DEPTH = 100
# Name and type.
Topic = tuple[str, str]
IMAGE: Topic = ('image', IMAGE_TYPE)


@dataclass(frozen=True)
class Item:
    """A message, or its bytes, and when to publish it: nanoseconds of the recording's time."""

    time: int
    topic: Topic
    message: Any


class Player(Node):
    """
    Plays a recording in a thread, once or in a loop, then ends the process.

    The messages of a bag are published unchanged, under their names and by their times of
    recording. Frames of other recordings, or of a bag with `--frames`, are published on `image` by
    their stamps, which count from the start where the recording has none.

    Parameters
    ----------
    options
        See `parse_options`.

    Raises
    ------
    SourceError
        The recording can't be read, or has no topic that can be played.

    """

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__('player')
        self.exit_code: Future = Future()
        self._options = options
        self._outputs: dict[Topic, Publisher] = {}
        self._latched: set[Topic] = set()
        self._stack = contextlib.ExitStack()
        self._bag: Bag | None = None
        if is_bag(options.recording) and not options.frames:
            self._bag = self._stack.enter_context(open_bag(options.recording))
            self._advertise(self._bag)
        elif options.recording.exists():
            self._outputs[IMAGE] = self.create_publisher(Image, 'image', output_qos())
        else:
            raise SourceError(f'{options.recording} does not exist')
        # Nanoseconds of the recording's time, and seconds of `perf_counter`, where a pass began.
        self._origin: tuple[int, float] | None = None
        if options.clock:
            self._clock_output = self.create_publisher(ClockMessage, CLOCK_TOPIC, output_qos())
            # The node's clock may be the one that this node drives.
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self.create_timer(1 / options.clock, self._publish_clock, clock=steady)
        self._result = 0
        self._ended = self.create_guard_condition(
            lambda: self.exit_code.set_result(self._result)
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='player')
        self._thread.start()

    def destroy_node(self) -> None:
        """Stop playing and destroy the node."""
        self._stopping.set()
        self._thread.join()
        self._stack.close()
        super().destroy_node()

    def _advertise(self, bag: Bag) -> None:
        """Make the publishers of the chosen topics, as far as their types are installed."""
        names = {topic.name for topic in bag.topics}
        chosen = set(self._options.topics or names)
        if chosen - names:
            raise SourceError(
                f"{bag.path} has no topic {', '.join(sorted(chosen - names))}; "
                f"it has {', '.join(sorted(names))}"
            )
        if self._options.clock:
            # Two clocks would contradict each other.
            chosen.discard(CLOCK_TOPIC)
        unknown = []
        for topic in bag.topics:
            if topic.name not in chosen:
                continue
            message_class = find_message_class(topic.type)
            if message_class is None:
                unknown.append(f'{topic.name} ({topic.type})')
                continue
            key, qos = (topic.name, topic.type), output_qos()
            if _is_latched(topic):
                self._latched.add(key)
                depth = min(max(topic.count, 1), LATCHED_DEPTH)
                qos = QoSProfile(depth=depth, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self._outputs[key] = self.create_publisher(message_class, topic.name, qos)
        text = f"not played, as their types are not installed: {', '.join(unknown) or 'none'}"
        if not self._outputs:
            raise SourceError(f'{bag.path} has no topic to play; {text}')
        if unknown:
            self.get_logger().warning(text)

    def _read_bag(self, bag: Bag) -> Iterator[Item]:
        for message in bag.messages({name for name, _ in self._outputs}):
            topic = (message.topic, message.type)
            if topic not in self._outputs:
                continue
            try:
                yield Item(message.time, topic, bag.cdr(message))
            except SourceError as error:
                self.get_logger().warning(f'dropped: {error}', throttle_duration_sec=5.0)
        if bag.damage:
            raise SourceError(bag.damage)

    def _read_frames(self) -> Iterator[Item]:
        path = self._options.recording
        has_stamps = is_bag(path) or path.is_char_device()
        offset = 0 if has_stamps else time.time_ns()
        timeline = Timeline()
        first: int | None = None
        problems: list[str] = []
        for recorded in read_frames(path, self._options.image_topic, problems):
            self._warn(problems)
            stamp = recorded.stamp + offset
            first = stamp if first is None else first
            moment = first + round(1e9 * timeline.advance(stamp))
            frame = recorded.frame
            message = image_message(frame.pixels, f'{frame.color_order}8', stamp)
            message.header.frame_id = recorded.frame_id
            yield Item(moment, IMAGE, message)
        self._warn(problems)

    def _warn(self, problems: list[str]) -> None:
        """Log what could not be read, once; the exit code will say so, too."""
        for problem in problems:
            self.get_logger().warning(f'lost: {problem}')
            self._result = 1
        problems.clear()

    def _run(self) -> None:
        """Play in the thread; nothing may end it without a word."""
        try:
            self._stopping.wait(self._options.delay)
            self._wait_for_subscribers()
            self.get_logger().info(f'playing {self._options.recording}')
            self._play()
            while self._options.loop and not self._stopping.wait(LOOP_SECONDS):
                self._play()
            self._stopping.wait(LINGER_SECONDS)
        except Exception as error:
            if self._is_running():
                known = isinstance(error, (SourceError, FrameError))
                self.get_logger().error(str(error) if known else repr(error))
                self._result = 1
                # What came before the damage still arrives.
                self._stopping.wait(LINGER_SECONDS)
        if self._is_running():
            self._ended.trigger()

    def _is_running(self) -> bool:
        # A signal shuts the context down at once, under a publication too.
        return bool(self.context.ok()) and not self._stopping.is_set()

    def _wait_for_subscribers(self) -> None:
        images = [self._outputs[key] for key in self._outputs if key[1] in IMAGE_TYPES]
        if not images or not self._options.subscribers:
            return
        deadline = time.perf_counter() + SUBSCRIBER_TIMEOUT
        while time.perf_counter() < deadline and not self._stopping.wait(POLL_SECONDS):
            counts = [image.get_subscription_count() for image in images]
            if max(counts) >= self._options.subscribers:
                break
        self._stopping.wait(DISCOVERY_SECONDS)

    def _play(self) -> None:
        """Play once; latched messages before the start offset count, too."""
        self._origin = None
        begin: int | None = None
        last = 0
        for item in self._read_bag(self._bag) if self._bag else self._read_frames():
            if begin is None:
                begin = item.time + round(self._options.start_offset * 1e9)
            if self._origin is None and item.time < begin:
                if item.topic not in self._latched:
                    continue
            else:
                if self._origin is None:
                    self._origin, last = (begin, time.perf_counter()), begin
                if not -STEP_BACK <= item.time - last <= LONGEST_WAIT * self._options.rate:
                    self._origin = item.time, time.perf_counter()
                last, (moment, start) = item.time, self._origin
                due = start + (item.time - moment) / 1e9 / self._options.rate
                self._stopping.wait(max(due - time.perf_counter(), 0.0))
            if self._stopping.is_set():
                return
            self._outputs[item.topic].publish(item.message)
        if self._origin is None:
            raise SourceError(
                f'{self._options.recording} has nothing to play after its first '
                f'{self._options.start_offset:g} s'
            )

    def _publish_clock(self) -> None:
        if self._origin is not None:
            begin, start = self._origin
            now = begin + round((time.perf_counter() - start) * self._options.rate * 1e9)
            self._clock_output.publish(ClockMessage(clock=Time(nanoseconds=now).to_msg()))


def find_message_class(kind: str) -> Any:
    """Return the class of a message type like 'std_msgs/msg/Header'; None if not installed."""
    package, _, name = kind.partition('/msg/')
    # Nothing but message packages is imported, whatever a bag names.
    spec = find_spec(package) if package.isidentifier() else None
    folders = (spec.submodule_search_locations or []) if spec else []
    if not any(Path(folder, 'msg', '__init__.py').is_file() for folder in folders):
        return None
    return getattr(import_module(f'{package}.msg'), name, None)


def _is_latched(topic: BagTopic) -> bool:
    # ROS 1 bags don't tell, and a volatile /tf_static would reach nobody.
    return topic.name.endswith('/tf_static') or any(
        qos.durability == QosDurability.TRANSIENT_LOCAL for qos in topic.qos
    )


def positive(text: str) -> float:
    """Parse a number above 0."""
    if not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: above 0")
    return float(text)


def seconds(text: str) -> float:
    """Parse a number of 0 or more."""
    if not 0 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: 0 or more")
    return float(text)


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line, without ROS arguments."""
    parser = argparse.ArgumentParser(
        'player', description='Play a recording, with the options of ros2 bag play.'
    )
    parser.add_argument(
        'recording',
        type=Path,
        help='rosbag2, ROS 1 bag, video, image, or folder of images, which are played at 10 Hz',
    )
    parser.add_argument(
        '-r', '--rate', type=positive, default=1.0, help='playback speed (default: 1)'
    )
    parser.add_argument('-l', '--loop', action='store_true', help='start again at the end')
    parser.add_argument(
        '--start-offset', type=seconds, default=0.0, help='seconds of the recording to skip'
    )
    parser.add_argument(
        '-d', '--delay', type=seconds, default=0.0, help='seconds to wait before the start'
    )
    parser.add_argument(
        '--clock',
        nargs='?',
        type=positive,
        const=CLOCK_RATE,
        metavar='HZ',
        help=f'publish the time of the recording on /clock, at {CLOCK_RATE:g} Hz by default',
    )
    parser.add_argument(
        '--topics', nargs='+', metavar='TOPIC', help='topics of a bag to play (default: all)'
    )
    parser.add_argument(
        '-m', '--remap', nargs='+', action='extend', default=[], metavar='OLD:=NEW',
        help='publish under other names',
    )
    parser.add_argument(
        '--subscribers', type=int, default=0, metavar='N',
        help='wait until an image topic has this many subscribers, '
        f'{SUBSCRIBER_TIMEOUT:g} s at most',
    )
    parser.add_argument(
        '--frames', action='store_true', help="publish a bag's images alone, decoded, on 'image'"
    )
    parser.add_argument(
        '--image-topic', metavar='TOPIC', help='with --frames: images of a bag (default: its only '
        'image topic)'
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Play a recording."""
    words = sys.argv[1:]
    # Not rclpy's remove_ros_args, which takes the rules of `--remap` too.
    end = words.index('--ros-args') if '--ros-args' in words else len(words)
    options = parse_options(words[:end])
    # Otherwise most images of a camera's size would be lost.
    use_shipped_profile()
    rules = [word for rule in options.remap for word in ('--remap', rule)]
    return run_node(partial(Player, options), [*words[end:], '--ros-args', *rules])


if __name__ == '__main__':
    sys.exit(main())
