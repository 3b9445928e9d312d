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

from collections.abc import Callable, Sequence, Set
import copy
from enum import IntEnum
from typing import Any

from lednet_ros.ros.distribution import event_callbacks
from lednet_ros.ros.parameters import declare_parameter, NodeParameter, ParameterType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

POLICIES = (
    'history', 'depth', 'reliability', 'durability', 'deadline', 'lifespan', 'liveliness',
    'liveliness_lease_duration',
)
MAX_DEPTH = 10_000
MAX_NANOSECONDS = 2**63 - 1

# A subscription can take these policies from its publishers; rclpy would do so only once.
BEST_AVAILABLE = 'best_available'
# What matches all publishers, and what is better where all publishers offer it.
FOLLOWED = {
    'reliability': (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE),
    'durability': (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL),
}


def sensor_qos(depth: int = 1) -> QoSProfile:
    """Return a profile for the newest messages, from reliable and best-effort publishers."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)


def output_qos() -> QoSProfile:
    """Return a reliable profile, for best-effort and reliable subscribers."""
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


def latched_qos() -> QoSProfile:
    """Return a profile that keeps the last message for late subscribers."""
    return QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def override_qos(
    node: Node, topic: str, kind: str, qos: QoSProfile, follows: Set[str] = frozenset()
) -> set[str]:
    """
    Apply the parameters `qos_overrides.TOPIC.KIND.POLICY`.

    Parameters
    ----------
    node
        Where the parameters are declared.
    topic
        Resolved name.
    kind
        'subscription' or 'publisher'.
    qos
        Defaults; changed in place.
    follows
        Policies of a subscription that are taken from its publishers by default.

    Returns
    -------
    set of str
        The policies that are taken from the publishers.

    Raises
    ------
    ParameterError
        A value is not allowed.

    """
    chosen = set()
    for policy in POLICIES:
        if policy == 'lifespan' and kind == 'subscription':
            continue
        can_follow = kind == 'subscription' and policy in FOLLOWED
        default = getattr(qos, policy)
        limits: dict[str, Any] = {'minimum': 1, 'maximum': MAX_DEPTH}
        start, unit = default, ''
        if isinstance(default, Duration):
            limits = {'minimum': 0, 'maximum': MAX_NANOSECONDS}
            start, unit = default.nanoseconds, ', in nanoseconds; 0 is infinite'
        elif isinstance(default, IntEnum):
            # Humble's reliability lacks it.
            names = {member.name.lower(): 0 for member in type(default)} | (
                {BEST_AVAILABLE: 0} if can_follow else {}
            )
            limits = {'choices': tuple(name for name in names if name != 'unknown')}
            start = BEST_AVAILABLE if policy in follows else default.name.lower()
        parameter = NodeParameter(
            f'qos_overrides.{topic}.{kind}.{policy}',
            ParameterType.STRING if 'choices' in limits else ParameterType.INTEGER,
            start,
            f"{policy} of the {kind} of '{topic}'{unit}",
            read_only=True,
            **limits,
        )
        if not node.has_parameter(parameter.name):
            declare_parameter(node, parameter)
        value = node.get_parameter(parameter.name).value
        if isinstance(default, IntEnum):
            value = value.lower()
        parameter.check(value)
        if can_follow and value == BEST_AVAILABLE:
            chosen.add(policy)
        elif isinstance(default, Duration):
            setattr(qos, policy, Duration(nanoseconds=value))
        elif isinstance(default, IntEnum):
            setattr(qos, policy, type(default)[value.upper()])
        else:
            setattr(qos, policy, value)
    return chosen


def unused_overrides(node: Node, names: Sequence[str]) -> str:
    """Describe those parameters `qos_overrides` that belong to no topic of a node, if any."""
    prefix = 'qos_overrides.'
    unused = [n for n in names if n.startswith(prefix) and not node.has_parameter(n)]
    if not unused:
        return ''
    topics = {name.partition('.')[0] for name in node.get_parameters_by_prefix(prefix[:-1])}
    return (
        f"{', '.join(unused)}: ignored; allowed: {prefix}TOPIC.KIND.POLICY with TOPIC one of "
        f"{', '.join(sorted(topics))}, KIND publisher or subscription, POLICY one of "
        f"{', '.join(POLICIES)}"
    )


def follow_publishers(
    qos: QoSProfile, policies: Set[str], offers: Sequence[QoSProfile]
) -> QoSProfile:
    """Return a profile with policies that all publishers offer; without publishers the same."""
    followed = copy.copy(qos)
    for policy in policies if offers else ():
        common, better = FOLLOWED[policy]
        is_offered = all(getattr(offer, policy) == better for offer in offers)
        setattr(followed, policy, better if is_offered else common)
    return followed


def publisher_options(
    node: Node, topic: str, qos: QoSProfile, warn: Callable[[str, str], None]
) -> dict[str, Any]:
    """Return the options of a publisher: its profile with overrides, and advice on mismatches."""
    override_qos(node, node.resolve_topic_name(topic), 'publisher', qos)
    advise = mismatch_adviser(node, topic, 'publisher', warn)
    return {
        'qos_profile': qos,
        'event_callbacks': event_callbacks('publisher', incompatible_qos=advise),
    }


def policy_of(event: Any) -> str:
    """Return the name of the policy that an event of an incompatible QoS is about."""
    policy = str(event.last_policy_kind).rpartition('.')[2].lower()
    return policy.removeprefix('rmw_qos_policy_')


def mismatch_adviser(
    node: Node, topic: str, kind: str, warn: Callable[[str, str], None]
) -> Callable[[Any], None]:
    """
    Return a callback for an incompatible QoS of the other end of a topic.

    It calls `warn` with a key, by which repetitions are throttled, and the advice, which names the
    parameter to set.
    """
    other = 'publisher' if kind == 'subscription' else 'subscriber'

    def advise(event: Any) -> None:
        resolved = node.resolve_topic_name(topic)
        policy = policy_of(event)
        warn(
            f'qos {topic}',
            f"a {other} of '{resolved}' has an incompatible QoS ({policy}), so nothing "
            f"passes between it and this node; set 'qos_overrides.{resolved}.{kind}.{policy}' "
            'to what it uses (see ros2 topic info --verbose)',
        )

    return advise
