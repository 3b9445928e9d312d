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

"""Quality of service of all topics: profiles, their overrides, and advice on mismatches."""

from collections.abc import Callable
from typing import Any

from lednet_ros.ros.distribution import event_callbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions


def sensor_qos() -> QoSProfile:
    """Return a profile for the newest frame only, from reliable and best-effort cameras."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def output_qos() -> QoSProfile:
    """Return a reliable profile, for best-effort and reliable subscribers."""
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


def latched_qos() -> QoSProfile:
    """Return a profile that keeps the last message for late subscribers."""
    return QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def qos_overrides() -> QoSOverridingOptions:
    """Let the parameters `qos_overrides.TOPIC.*` change history, depth and reliability."""
    return QoSOverridingOptions.with_default_policies()


def topic_options(
    node: Node, topic: str, kind: str, warn: Callable[[str, str], None]
) -> dict[str, Any]:
    """
    Return the options of a 'subscription' or a 'publisher': overrides, and advice on mismatches.

    Where the QoS of the other end is incompatible, `warn` is called with a key, by which
    repetitions are throttled, and the advice, which names the parameter to set.
    """
    other = 'publisher' if kind == 'subscription' else 'subscriber'

    def on_mismatch(event: Any) -> None:
        resolved = node.resolve_topic_name(topic)
        policy = str(event.last_policy_kind).rpartition('.')[2].lower()
        policy = policy.removeprefix('rmw_qos_policy_')
        warn(
            f'qos {topic}',
            f"a {other} of '{resolved}' has an incompatible QoS ({policy}), so nothing "
            f"passes between it and this node; set 'qos_overrides.{resolved}.{kind}.{policy}' "
            'to what it uses (see ros2 topic info --verbose)',
        )

    return {
        'event_callbacks': event_callbacks(kind, incompatible_qos=on_mismatch),
        'qos_overriding_options': qos_overrides(),
    }
