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
Tests of what Nav2's semantic segmentation layer expects of the topics (docs/nav2.md).

The layer itself has no wheel: a subscriber with its QoS stands in for it.
"""

from typing import Any

from lednet_ros.live.client import image_message
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import Harness, street
from sensor_msgs.msg import Image

pytestmark = pytest.mark.ros

NODE = '/segmentation_node'
# `rmw_qos_profile_sensor_data`, with which the layer subscribes to images.
SENSOR_DATA = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def test_the_layer_gets_the_masks_that_it_indexes_by_pixel(
    harness: Harness, checkpoint: Any
) -> None:
    size = (60, 85)
    node = harness.node(checkpoint=str(checkpoint), output_size=list(size))
    results = {
        name: harness.collect(Image, f'{NODE}/{name}', SENSOR_DATA)
        for name in ('labels', 'confidence')
    }
    harness.wait_outputs(node, set(results))
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    sent = image_message(street(0.0), 'rgb8', 1_234_567_890)
    camera.publish(sent)
    harness.spin_until(lambda: all(results.values()))
    for (message,) in results.values():
        assert message.encoding == 'mono8'
        assert (message.height, message.width) == size
        assert message.step == message.width
        assert len(message.data) == message.height * message.width
        assert message.header == sent.header
