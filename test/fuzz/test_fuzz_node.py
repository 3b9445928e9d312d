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

"""Damaged serialized messages (CDR) sent to a live node as a process of its own, over DDS."""

from collections.abc import Callable
import os
from pathlib import Path
import random
import time

from lednet_ros.ros.camera import output_qos
from lednet_ros.ros.process import run_module
import numpy as np
import pytest
import rclpy
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

pytestmark = pytest.mark.ros

MESSAGES = int(os.environ.get('FUZZ_EXAMPLES', '100'))
TIMEOUT = 60.0
# Headers, sizes and encoding of an image come before its pixels.
HEAD = 60


def damaged(good: bytes, rng: random.Random, kind: int) -> bytes:
    data = bytearray(good)
    if kind == 0:
        return bytes(data[: rng.randrange(len(data))])
    if kind == 1:
        return bytes(data[: rng.randrange(HEAD)])
    for _ in range(4):
        data[rng.randrange(HEAD)] = rng.randrange(256)
    return bytes(data)


@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_the_next_good_frame_is_processed(transport: str, small_checkpoint: Path) -> None:
    if transport == 'raw':
        message, topic = Image(height=64, width=96, encoding='bgr8', step=288), 'image'
        message.data.frombytes(bytes(64 * 288))
    else:
        import cv2

        message, topic = CompressedImage(format='png'), 'image/compressed'
        message.data.frombytes(cv2.imencode('.png', np.zeros((64, 96, 3), np.uint8))[1].tobytes())
    good = serialize_message(message)
    rng = random.Random(0 if 'FUZZ_EXAMPLES' not in os.environ else None)
    namespace = f'/fuzz_{transport}'
    rclpy.init(args=[])
    node = Node('fuzz', namespace=namespace)
    labels: list[Image] = []
    try:
        node.create_subscription(
            Image, f'{namespace}/segmentation_node/labels', labels.append, output_qos()
        )
        publisher = node.create_publisher(type(message), f'{namespace}/{topic}', output_qos())
        arguments = [
            '--log-level', 'fatal', '-p', f'checkpoint:={small_checkpoint}', '-p',
            f'image_transport:={transport}', '-p', 'backend:=torch_eager', '-p', 'device:=cpu',
        ]
        with run_module('lednet_ros.ros.segmentation_node', namespace, arguments) as process:

            def spin_until(condition: Callable[[], object]) -> None:
                deadline = time.perf_counter() + TIMEOUT
                while not condition():
                    assert process.poll() is None, f'the node ended: {process.returncode}'
                    assert time.perf_counter() < deadline
                    publisher.publish(good)
                    rclpy.spin_once(node, timeout_sec=0.2)

            spin_until(lambda: labels)
            for number in range(MESSAGES):
                publisher.publish(damaged(good, rng, number % 3))
                rclpy.spin_once(node, timeout_sec=0.005)
                assert process.poll() is None, f'the node ended: {process.returncode}'
            before = len(labels)
            spin_until(lambda: len(labels) > before + 2)
            assert (labels[-1].height, labels[-1].width) == (64, 96)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
