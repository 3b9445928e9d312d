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

"""A node that publishes the frames of a recording once, at the recorded pace, like a camera."""

from pathlib import Path
import time

from lednet_ros.live.client import image_message
from lednet_ros.recordings.sources import read_frames
from lednet_ros.ros.process import run_node
from lednet_ros.ros.qos import output_qos
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import Image

SUBSCRIBER_TIMEOUT = 10.0
# Long enough for reliable delivery of the last frames before the process ends.
LINGER_SECONDS = 1.0
PERIOD = 0.005


class Player(Node):
    """
    Publishes `image` with the stamps of the recording, then ends the process.

    Its parameters are `path` and `topic`, see `read_frames`, and the number of `subscribers` that
    it waits for, 10 s at most.
    """

    def __init__(self) -> None:
        super().__init__('player')
        self.exit_code: Future = Future()
        path = Path(self.declare_parameter('path', '').value)
        topic = self.declare_parameter('topic', '').value or None
        self._subscribers = self.declare_parameter('subscribers', 1).value
        self._publisher = self.create_publisher(Image, 'image', output_qos())
        self._frames = read_frames(path, topic)
        self._next = next(self._frames, None)
        self._first_stamp = self._next.stamp if self._next else 0
        self._start = 0.0
        self._end = time.perf_counter() + SUBSCRIBER_TIMEOUT
        self.create_timer(PERIOD, self._play)

    def _play(self) -> None:
        now = time.perf_counter()
        if not self._start:
            connected = self._publisher.get_subscription_count() >= self._subscribers
            if not connected and now < self._end:
                return
            self._start = now
        while self._next and now - self._start >= (self._next.stamp - self._first_stamp) / 1e9:
            frame = self._next.frame
            message = image_message(frame.pixels, f'{frame.color_order}8', self._next.stamp)
            message.header.frame_id = self._next.frame_id
            self._publisher.publish(message)
            self._next = next(self._frames, None)
            self._end = time.perf_counter() + LINGER_SECONDS
        if self._next is None and now > self._end:
            self.exit_code.set_result(0)


def main() -> int:
    """Play a recording."""
    return run_node(Player)
