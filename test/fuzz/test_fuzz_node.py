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

import os
from pathlib import Path
import random

from lednet_ros.live.client import live_session, NodeClient, NodeProcess, set_stamp
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

pytestmark = pytest.mark.ros

MESSAGES = int(os.environ.get('FUZZ_EXAMPLES', '100'))
STAMP = 1_600_000_000_123_456_789
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
        message = Image(height=64, width=96, encoding='bgr8', step=288)
        message.data.frombytes(bytes(64 * 288))
    else:
        import cv2

        message = CompressedImage(format='png')
        message.data.frombytes(cv2.imencode('.png', np.zeros((64, 96, 3), np.uint8))[1].tobytes())
    # Damaged ones, which may pass too, hardly get this stamp.
    set_stamp(message, STAMP)
    good = serialize_message(message)
    rng = random.Random(0 if 'FUZZ_EXAMPLES' not in os.environ else None)
    namespace = f'/fuzz_{transport}'
    parameters = {
        'checkpoint': small_checkpoint, 'image_transport': transport,
        'backend': 'torch_eager', 'device': 'cpu',
    }
    with (
        live_session('fuzz') as session,
        NodeProcess(namespace, parameters, ros_arguments=['--log-level', 'fatal']) as process,
    ):
        client = NodeClient(
            *session, namespace, process, is_compressed=transport == 'compressed'
        )
        client.wait_connected()

        def has_passed() -> bool:
            if client.passages[STAMP].complete:
                return True
            client.send(good, STAMP)
            return False

        for count in (MESSAGES, 0):
            client.send(good, STAMP)
            client.wait(has_passed)
            for number in range(count):
                client.send(damaged(good, rng, number % 3), 0)
                # Raises if the node has ended.
                client.spin(0.005)
        labels = client.newest['labels']
        assert (labels.height, labels.width) == (64, 96)
