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
The node that most people write: cv_bridge, one callback, NumPy overlay.

Kept as plain as such nodes are; it is what the package's own node is compared with.
"""

from collections.abc import Callable
from dataclasses import replace

from cv_bridge import CvBridge
from lednet_ros.benchmark.baselines import overlay_with_numpy, Pixels
from lednet_ros.checkpoint import Checkpoint, load_checkpoint
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image


class NaiveNode(Node):
    """
    Segments `image` in the subscription's callback and publishes `~/labels` and `~/overlay`.

    Parameters
    ----------
    make_segment
        Makes of a checkpoint what turns a BGR frame (height, width, 3) uint8 into labels
        (height, width) uint8.

    """

    def __init__(self, make_segment: Callable[[Checkpoint], Callable[[Pixels], Pixels]]) -> None:
        super().__init__('segmentation_node')
        checkpoint = load_checkpoint(self.declare_parameter('checkpoint', 'lednet').value)
        size = self.declare_parameter('input_size', [360, 480]).value
        self.segment = make_segment(replace(checkpoint, input_size=tuple(size)))
        # BGR, by id.
        self.palette = np.ascontiguousarray(checkpoint.label_map.palette[:, ::-1])
        self.bridge = CvBridge()
        self.labels = self.create_publisher(Image, '~/labels', 10)
        self.overlay = self.create_publisher(Image, '~/overlay', 10)
        self.create_subscription(Image, 'image', self.on_image, 10)

    def on_image(self, message: Image) -> None:
        """Segment a frame and publish the results."""
        frame = self.bridge.imgmsg_to_cv2(message, 'bgr8')
        labels = self.segment(frame)
        overlay = overlay_with_numpy(frame, labels, self.palette)
        for publisher, pixels, encoding in (
            (self.labels, labels, 'mono8'), (self.overlay, overlay, 'bgr8')
        ):
            result = self.bridge.cv2_to_imgmsg(pixels, encoding)
            result.header = message.header
            publisher.publish(result)
