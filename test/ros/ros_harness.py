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

"""A real node, a real client and real DDS in one process, for the tests of this folder."""

from collections.abc import Callable
import gc
import time
from typing import Any

from lednet_ros.ros.camera import output_qos
from lednet_ros.ros.segmentation_node import SegmentationNode
from lednet_ros.synthetic import StreetScene
import numpy as np
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

TIMEOUT = 30.0


def street(moment: float, width: int = 128, height: int = 96) -> NDArray[np.uint8]:
    """Give an RGB frame of the synthetic street."""
    return StreetScene(width, height, seed=1).render(moment)[0]


def image_message(pixels: NDArray[np.uint8], encoding: str, stamp: int) -> Image:
    """Make a message of packed pixels with the stamp in nanoseconds."""
    message = Image()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    message.header.frame_id = 'camera_link'
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.step = pixels[0].nbytes
    message.data.frombytes(np.ascontiguousarray(pixels).tobytes())
    return message


class Harness:
    """The nodes of a test and the executor that spins them."""

    def __init__(self) -> None:
        self.executor = SingleThreadedExecutor()
        self.client = self.add(Node('test_client'))
        self.nodes: list[SegmentationNode] = []

    def add(self, node: Node) -> Node:
        """Spin a node with the others."""
        self.executor.add_node(node)
        return node

    def node(self, start: bool = True, **parameters: Any) -> SegmentationNode:
        """Make a segmentation node on the CPU; starts it unless told otherwise."""
        values = {'device': 'cpu', 'diagnostics_period': 0.1} | parameters
        node = SegmentationNode(
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
        )
        self.nodes.append(self.add(node))
        if start:
            assert node.start()
        return node

    def spin_until(self, condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
        """Spin until the condition holds; fails when it doesn't in time."""
        deadline = time.perf_counter() + timeout
        while not (result := condition()):
            assert time.perf_counter() < deadline, 'the condition did not come true in time'
            self.executor.spin_once(timeout_sec=0.05)
        return result

    def collect(self, kind: Any, topic: str, qos: Any = None) -> list[Any]:
        """Subscribe and give the list that messages will be appended to."""
        messages: list[Any] = []
        self.client.create_subscription(kind, topic, messages.append, qos or output_qos())
        return messages

    def publisher(self, kind: Any, topic: str, qos: Any = None) -> Any:
        """Make a publisher of the client."""
        return self.client.create_publisher(kind, topic, qos or output_qos())

    def connect(self, *publishers: Any) -> None:
        """Spin until every publisher has a subscriber."""
        self.spin_until(lambda: all(p.get_subscription_count() for p in publishers))

    def wait_outputs(self, node: SegmentationNode, topics: set[str]) -> None:
        """Spin until the node sees subscribers of exactly these outputs of every camera."""
        self.spin_until(lambda: all(camera.wanted() == topics for camera in node._cameras))

    def totals(self, node: SegmentationNode, camera: int = 0) -> dict[str, int]:
        """Give the counters of a camera."""
        return dict(node._cameras[camera].statistics.totals)

    def close(self) -> None:
        """Destroy all nodes."""
        for node in [*self.nodes, self.client]:
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()
        self.nodes.clear()
        # A lifecycle node stays in the graph until it is collected.
        gc.collect()
