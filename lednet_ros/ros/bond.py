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
The node's end of a bond with a lifecycle manager.

Nav2's manager expects heartbeats of each node that it has activated, and takes all of them down
when those of one stop. The messages are those of the package `bond`, which is optional.
"""

from uuid import uuid4

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

try:
    from bond.msg import Status
except ImportError:
    Status = None

# Seconds; as the managers' own end has it.
TIMEOUT = 4.0


def is_available() -> bool:
    """Return whether the messages are installed."""
    return Status is not None


class Bond:
    """
    Heartbeats from now on, until the bond is broken.

    Parameters
    ----------
    node
        Whose name identifies the bond.
    period
        Seconds between heartbeats.

    """

    def __init__(self, node: Node, period: float) -> None:
        name = node.get_name()
        self._node = node
        # The second one is that of Nav2 from 2026 on.
        self._publishers = [
            node.create_publisher(Status, topic, 5) for topic in ('bond', f'bond/{name}')
        ]
        self._status = Status()
        self._status.id = name
        self._status.instance_id = str(uuid4())
        self._status.active = True
        self._status.heartbeat_timeout = TIMEOUT
        self._status.heartbeat_period = period
        # Steady clock: the manager's timeouts don't stop with a bag either.
        self._timer = node.create_timer(
            period, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._beat()

    def break_up(self) -> None:
        """Tell the other end that this one is gone, and remove the topics."""
        self._node.destroy_timer(self._timer)
        if self._node.context.ok():
            self._status.active = False
            self._beat()
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)

    def _beat(self) -> None:
        self._status.header.stamp = self._node.get_clock().now().to_msg()
        for publisher in self._publishers:
            publisher.publish(self._status)
