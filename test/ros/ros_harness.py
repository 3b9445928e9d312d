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

"""A node, a client and DDS in one process, for the tests of this folder."""

from collections.abc import Callable, Mapping
import functools
from typing import Any

from lednet_ros.live.client import NodeClient
from lednet_ros.ros.qos import output_qos
from lednet_ros.ros.segmentation_node import SegmentationNode
from lednet_ros.synthetic import StreetScene
import numpy as np
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher

TIMEOUT = 60.0


# Building a scene takes longer than most tests that show it.
build_scene = functools.cache(StreetScene)


def street(moment: float, width: int = 128, height: int = 96) -> NDArray[np.uint8]:
    """Draw an RGB frame of the synthetic street."""
    return build_scene(width, height, seed=1).render(moment)[0]


class FakeTime:
    """Replaces the module `time` by a clock that a test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        """Return the seconds."""
        return self.now


class Harness(NodeClient):
    """A client with nodes in its process."""

    def __init__(self, ros_node: Node, executor: SingleThreadedExecutor) -> None:
        super().__init__(ros_node, executor, cameras=(), outputs=())
        self.nodes: list[SegmentationNode] = []

    def add(self, node: Node) -> Node:
        """Spin a node with the others."""
        self.executor.add_node(node)
        return node

    def node(
        self,
        start: bool = True,
        namespace: str | None = None,
        remappings: Mapping[str, str] | None = None,
        **parameters: Any,
    ) -> SegmentationNode:
        """Make a segmentation node on the CPU and, by default, start it."""
        rules = [part for rule in (remappings or {}).items() for part in ('-r', ':='.join(rule))]
        values = {'device': 'cpu', 'diagnostics_period': 0.1} | parameters
        node = SegmentationNode(
            namespace=namespace,
            cli_args=['--ros-args', *rules],
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
        )
        self.nodes.append(self.add(node))
        if start:
            assert node.start()
        return node

    def connect(self, *publishers: Publisher, timeout: float = TIMEOUT) -> None:
        """Wait until each publisher has a subscriber and the nodes follow the publishers' QoS."""
        super().connect(*publishers, timeout=timeout)
        cameras = [camera for node in self.nodes for camera in node.cameras]
        self.spin_until(
            lambda: all(c._image.is_current() and c._info.is_current() for c in cameras)
        )
        super().connect(*publishers, timeout=timeout)

    def spin_until(self, condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
        """Spin until the condition holds; fail after the timeout."""
        return self.wait(condition, timeout)

    def publisher(self, kind: Any, topic: str, qos: Any = None) -> Any:
        """Make a publisher in the client's node."""
        return self.ros_node.create_publisher(kind, topic, qos or output_qos())

    def wait_outputs(self, node: SegmentationNode, topics: set[str]) -> None:
        """Spin until the node sees subscribers of exactly these outputs of every camera."""
        self.spin_until(lambda: all(camera.wanted() == topics for camera in node.cameras))

    def totals(self, node: SegmentationNode, camera: int = 0) -> dict[str, int]:
        """Return the counters of a camera."""
        return dict(node.cameras[camera].statistics.totals)

    def graph(self) -> list[str]:
        """Return the full names of the nodes that the client's node sees."""
        return sorted(self.ros_node.get_fully_qualified_node_names())

    def close(self) -> None:
        """Destroy all nodes except the client's."""
        while self.nodes:
            self.executor.remove_node(self.nodes[-1])
            self.nodes.pop().destroy_node()
