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

"""Quality of service of all topics: profiles, their overrides, and the advice where none fits."""

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions


def sensor_qos() -> QoSProfile:
    """Newest frame only, from reliable and best-effort cameras alike."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
    )


def output_qos() -> QoSProfile:
    """Reliable, for best-effort and reliable subscribers alike."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE
    )


def latched_qos() -> QoSProfile:
    """Keep the last message for late subscribers."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL
    )


def qos_overrides() -> QoSOverridingOptions:
    """Let the parameters `qos_overrides.TOPIC.*` change history, depth and reliability."""
    return QoSOverridingOptions.with_default_policies()


def advise_on_mismatch(
    node: Node, topic: str, kind: str, warn: Callable[[str, str], None]
) -> Callable[[Any], None]:
    """
    Make the callback of incompatible QoS, which names the parameter that mends it.

    Parameters
    ----------
    node
        Whose topic it is.
    topic
        Its name, not resolved.
    kind
        'subscription' or 'publisher': what this node has of the topic.
    warn
        Called with a key, by which repetitions are throttled, and the advice.

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

    return on_mismatch
