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

"""Publishes the frames of a recording as a camera would, once, at their own pace."""

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys
import time

from lednet_ros.inference.encodings import FrameError
from lednet_ros.recordings.sources import read_frames
from lednet_ros.ros.camera import output_qos
from lednet_ros.ros.messages import fill_image
from lednet_ros.ros.process import keep_large_buffers
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image
from std_msgs.msg import Header

SUBSCRIBER_TIMEOUT = 10.0
# Long enough for reliable delivery of the last frames before the process ends.
LINGER_SECONDS = 1.0


def play(node: Node, path: Path, topic: str | None, subscribers: int) -> int:
    """
    Publish the frames of a recording on `image` with their own stamps.

    Parameters
    ----------
    node
        The node.
    path, topic
        See `read_frames`.
    subscribers
        Wait (10 s at most) until so many have connected.

    Returns
    -------
    int
        Number of frames published.

    """
    publisher = node.create_publisher(Image, 'image', output_qos())
    deadline = time.perf_counter() + SUBSCRIBER_TIMEOUT
    while publisher.get_subscription_count() < subscribers and time.perf_counter() < deadline:
        time.sleep(0.02)
    message = Image()
    count = 0
    first_stamp = 0
    start = time.perf_counter()
    for recorded in read_frames(path, topic):
        if not count:
            first_stamp = recorded.stamp
        ahead = (recorded.stamp - first_stamp) / 1e9 - (time.perf_counter() - start)
        time.sleep(max(ahead, 0.0))
        header = Header(
            stamp=Time(nanoseconds=recorded.stamp).to_msg(), frame_id=recorded.frame_id
        )
        fill_image(message, recorded.frame.pixels, f'{recorded.frame.color_order}8', header)
        publisher.publish(message)
        count += 1
    time.sleep(LINGER_SECONDS)
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a recording."""
    parser = argparse.ArgumentParser(description='Publish the frames of a recording.')
    parser.add_argument('path', type=Path)
    parser.add_argument('--topic')
    parser.add_argument('--subscribers', type=int, default=1)
    words = sys.argv if arguments is None else ['player', *arguments]
    options = parser.parse_args(remove_ros_args(words)[1:])
    keep_large_buffers()
    # Ctrl-C ends the playing wherever it is, as KeyboardInterrupt.
    rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
    node = Node('player')
    try:
        play(node, options.path, options.topic, options.subscribers)
    except KeyboardInterrupt:
        pass
    except (FrameError, RuntimeError) as error:
        print(f'player: {error}', file=sys.stderr)
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
