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

"""Frames through DDS, for `lednet doctor`: those of a topic, and some that it sends to itself."""

import os
import time
from typing import Any, NamedTuple

from lednet_ros.live.client import DRAIN_SECONDS, live_session, LiveError, NodeProcess, stamp_of
from lednet_ros.ros.distribution import PROFILE_VARIABLES
from lednet_ros.ros.health import explain_loss, explain_silence, MAX_LOST_FRACTION, ThrottledLog
from lednet_ros.ros.inputs import Input
from lednet_ros.ros.process import run_node
from lednet_ros.ros.statistics import estimate_lost
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
FRAMES = 20
RATE = 15.0
# A busy machine loses some.
TOLERANCE = round(MAX_LOST_FRACTION * FRAMES)
# From the first frame of a topic on; a camera may have two a second.
WATCH_SECONDS = 5.0
# For publishers of a topic, and for its first frame.
DISCOVERY_SECONDS = 10.0
FIRST_FRAME_SECONDS = 10.0
# Starting a process on a busy machine takes a while.
CONNECT_SECONDS = 30.0


class Seen(NamedTuple):
    """What was received of a topic: in words, what is wrong with it, and bytes of a frame."""

    description: str
    trouble: str = ''
    size: int = 0


def watch_topic(topic: str) -> Seen:
    """Receive frames of a topic in the way of the node, for some seconds at most."""
    messages: list[tuple[float, int, int]] = []
    lost = 0
    shape = ''

    def receive(message: Any) -> None:
        nonlocal shape
        messages.append((time.perf_counter(), stamp_of(message), len(message.data)))
        shape = message.format if kind is CompressedImage else (
            f'{message.width}x{message.height} {message.encoding}'
        )

    def count_lost(number: int) -> None:
        nonlocal lost
        lost += number

    with live_session('lednet_doctor', local=False) as (node, executor):
        topic = node.resolve_topic_name(topic)
        publishers = _find_publishers(node, executor, topic, DISCOVERY_SECONDS)
        types = sorted({publisher.topic_type for publisher in publishers})
        kind = CompressedImage if types == [COMPRESSED] else Image
        source = Input(
            node, kind, topic, receive, {'reliability'}, ThrottledLog(node.get_logger()),
            count_lost,
        )
        source.open()
        started = time.perf_counter()
        deadline = started + FIRST_FRAME_SECONDS
        while {IMAGE, COMPRESSED}.intersection(types) and time.perf_counter() < deadline:
            if len(messages) == 1:
                deadline = messages[0][0] + WATCH_SECONDS
            executor.spin_once(timeout_sec=0.1)
        waited = time.perf_counter() - started
        count = len(messages)
        if not count:
            reason = explain_silence(node, topic, kind, 'image', waited, source.qos, lost)
            return Seen(f'{len(publishers)} publishers ({", ".join(types) or "none"})', reason)
        times, stamps, sizes = zip(*messages, strict=True)
        if not source.reports_lost:
            lost = estimate_lost(stamps)
        rate = (count - 1) / (times[-1] - times[0]) if count > 1 else 0.0
        offer = publishers[0].qos_profile
        description = (
            f'{len(publishers)} publishers of {types[0]}, {offer.reliability.name.lower()}, '
            f'{offer.durability.name.lower()}; {shape}, {max(sizes) / 2**20:.2f} MiB, '
            f'{rate:.3g} frames/s; {lost} of {count + lost} lost'
        )
        fraction = lost / (count + lost)
        trouble = ''
        if fraction > MAX_LOST_FRACTION:
            trouble = explain_loss(topic, fraction, max(sizes), source.qos)
        return Seen(description, trouble, max(sizes))


def send_frames(size: int, profile: str) -> int:
    """
    Send `FRAMES` best-effort frames from another process to this one; return how many arrive.

    Parameters
    ----------
    size
        Bytes of a frame.
    profile
        Fast DDS profile of the process that sends; empty for none.

    Raises
    ------
    LiveError
        The processes did not find each other, or the other one failed.

    """
    arrived: list[bytes] = []
    namespace = f'/lednet_doctor_{os.getpid()}'
    topic = f'{namespace}/image'
    environment = dict.fromkeys(PROFILE_VARIABLES, profile)
    qos = QoSProfile(depth=FRAMES, reliability=ReliabilityPolicy.BEST_EFFORT)
    with (
        live_session('lednet_doctor') as (node, executor),
        NodeProcess(
            namespace, {'size': size}, (__name__,), environment=environment, quiet=True
        ) as sender,
    ):
        if not _find_publishers(node, executor, topic, CONNECT_SECONDS):
            sender.check()
            raise LiveError(
                f'two processes of this machine did not find each other in {CONNECT_SECONDS:.0f} s'
            )
        # Only now, so that it is connected before the sender knows of it and begins.
        node.create_subscription(Image, topic, arrived.append, qos, raw=True)
        while len(arrived) < FRAMES and sender.exit_code is None:
            executor.spin_once(timeout_sec=0.1)
        if len(arrived) < FRAMES and sender.exit_code:
            sender.check()
        return len(arrived)


def _find_publishers(
    node: Node, executor: SingleThreadedExecutor, topic: str, timeout: float
) -> list[Any]:
    """Wait for publishers of a topic; return what the graph knows of them."""
    deadline = time.perf_counter() + timeout
    while not (found := node.get_publishers_info_by_topic(topic)):
        if time.perf_counter() > deadline:
            break
        executor.spin_once(timeout_sec=0.1)
    return list(found)


class Sender(Node):
    """Sends `FRAMES` frames to its first subscriber, waits for their arrival, and ends."""

    def __init__(self) -> None:
        super().__init__('sender')
        size = self.declare_parameter('size', 1).value
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._publisher = self.create_publisher(Image, 'image', qos)
        self._message = Image(height=1, width=size, encoding='mono8', step=size)
        self._message.data.frombytes(bytes(size))
        self._sent = 0
        self._end = time.perf_counter() + CONNECT_SECONDS
        self.exit_code: Future[int] = Future()
        self.create_timer(1 / RATE, self._send)

    def _send(self) -> None:
        if self._sent < FRAMES and self._publisher.get_subscription_count():
            self._publisher.publish(self._message)
            self._sent += 1
            self._end = time.perf_counter() + DRAIN_SECONDS
        elif time.perf_counter() > self._end:
            self.exit_code.set_result(0 if self._sent else 1)


def main() -> int:
    """Run the process that sends."""
    return run_node(Sender)
