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

"""A camera that drives through a synthetic street and knows what it sees."""

from collections.abc import Sequence
import sys
from typing import Any

from lednet_ros.ros.messages import fill_image
from lednet_ros.ros.process import run_node
from lednet_ros.ros.qos import output_qos, override_qos
from lednet_ros.synthetic import StreetScene
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

ENCODINGS = ('rgb8', 'bgr8')


class SyntheticCamera(Node):
    """
    Publishes `image`, `camera_info` and `ground_truth` (`mono8`, camvid class ids).

    Frame number i shows the street at `i / rate` seconds, independent of the wall clock: the
    sequence is a pure function of seed, size, speed and rate. The three messages of a frame have
    the same stamp.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('synthetic_camera', **options)
        width = self._declare('width', 480, 'Width of the images in pixels.')
        height = self._declare('height', 360, 'Height of the images in pixels.')
        seed = self._declare('seed', 1, 'Which street.')
        speed = self._declare('speed', 8.0, 'Speed of the camera in m/s.')
        self._rate = self._declare('rate', 10.0, 'Frames per second.')
        self._encoding = self._declare('encoding', 'bgr8', 'rgb8 or bgr8.')
        self._frame_id = self._declare('frame_id', 'camera', 'frame_id of the headers.')
        if self._encoding not in ENCODINGS:
            raise ValueError(
                f"parameter 'encoding' is '{self._encoding}'; allowed: {', '.join(ENCODINGS)}"
            )
        if not 0 < self._rate <= 1000:
            raise ValueError(f"parameter 'rate' is {self._rate}; allowed: above 0 to 1000")
        self._scene = StreetScene(width, height, seed=seed, speed=speed)
        matrix = self._scene.camera_matrix
        self._info = CameraInfo(
            width=width,
            height=height,
            distortion_model='plumb_bob',
            d=[0.0] * 5,
            k=matrix.ravel().tolist(),
            r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            p=[*matrix[0], 0.0, *matrix[1], 0.0, *matrix[2], 0.0],
        )
        self._image = Image()
        self._truth = Image()
        self._image_publisher = self._advertise(Image, 'image')
        self._info_publisher = self._advertise(CameraInfo, 'camera_info')
        self._truth_publisher = self._advertise(Image, 'ground_truth')
        self._count = 0
        self.create_timer(1 / self._rate, self._publish_frame)
        topic = self._image_publisher.topic_name
        self.get_logger().info(f"publishing '{topic}', {width}x{height} at {self._rate:g} Hz")

    def _advertise(self, kind: type, topic: str) -> Publisher:
        qos = output_qos()
        override_qos(self, self.resolve_topic_name(topic), 'publisher', qos)
        return self.create_publisher(kind, topic, qos)

    def _declare(self, name: str, default: Any, description: str) -> Any:
        descriptor = ParameterDescriptor(description=description, read_only=True)
        return self.declare_parameter(name, default, descriptor).value

    def _publish_frame(self) -> None:
        pixels, labels = self._scene.render(self._count / self._rate)
        self._count += 1
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        # The ground truth goes first, so that it is there when the labels arrive.
        fill_image(self._truth, labels, 'mono8', header)
        self._truth_publisher.publish(self._truth)
        self._info.header = header
        self._info_publisher.publish(self._info)
        ordered = pixels if self._encoding == 'rgb8' else pixels[..., ::-1]
        fill_image(self._image, ordered, self._encoding, header)
        self._image_publisher.publish(self._image)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(SyntheticCamera, arguments)


if __name__ == '__main__':
    sys.exit(main())
