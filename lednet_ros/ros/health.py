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

"""Health of the node and its cameras, in words, and a log that doesn't repeat itself."""

import logging
import time
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus
from lednet_ros.machine import other_users_of_fast_dds
from lednet_ros.ros.statistics import Summary
from rclpy.node import Node
from rclpy.qos import qos_check_compatible, QoSCompatibility, QoSProfile, ReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier

LOG_PERIOD = 5.0
NO_FRAMES_AFTER = 5.0
MAX_LOST_FRACTION = 0.1
# Fast DDS passes smaller messages whole; bytes.
LARGE_MESSAGE = 384 << 10
PROFILE_ADVICE = (
    "need the Fast DDS profile config/fastdds.xml in the camera's process (docs/node.md)"
)


class Health(NamedTuple):
    """A level of `DiagnosticStatus` (OK, WARN or ERROR), and the reason in a few words."""

    level: bytes
    text: str


class ThrottledLog:
    """Logs every kind of message at most once in `LOG_PERIOD` s; any thread may call it."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._logged: dict[str, float] = {}

    def warn(self, key: str, text: str) -> None:
        """Log a warning unless one with this key was logged just now."""
        if self._is_due(key):
            self._logger.warning(text)

    def error(self, key: str, text: str) -> None:
        """Log an error unless one with this key was logged just now."""
        if self._is_due(key):
            self._logger.error(text)

    def _is_due(self, key: str) -> bool:
        now = time.perf_counter()
        if now - self._logged.get(key, -LOG_PERIOD) < LOG_PERIOD:
            return False
        self._logged[key] = now
        return True


class LogForwarder(logging.Handler):
    """
    Forwards what the core logs, which knows no ROS, to a node's logger.

    Attributes
    ----------
    newest : str
        The last message.

    """

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self.newest = ''
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record's message at its level."""
        self.newest = record.getMessage()
        # rclpy allows one level for each place in the code.
        if record.levelno < logging.WARNING:
            self._logger.info(self.newest)
        else:
            self._logger.warning(self.newest)


def judge_node(state: str, trouble: str, progress: str, has_namesake: bool) -> Health:
    """
    Judge the node.

    Parameters
    ----------
    state
        Label of the lifecycle state; 'paused' where the node is active but not enabled.
    trouble
        What keeps it from working; empty if nothing does.
    progress
        What it does in this state, if that takes a while.
    has_namesake
        Whether another node has the same name.

    """
    if trouble:
        return Health(DiagnosticStatus.ERROR, trouble)
    if has_namesake:
        text = f'{state}; another node has this name, its outputs and services mix with these'
        return Health(DiagnosticStatus.WARN, text)
    text = f'{state}: {progress}' if progress else state
    return Health(DiagnosticStatus.OK if state == 'active' else DiagnosticStatus.WARN, text)


def judge_camera(
    state: str, topic: str, has_subscriber: bool, timeout: float, summary: Summary
) -> Health:
    """
    Judge a camera.

    Parameters
    ----------
    state
        As for `judge_node`.
    topic
        Its image topic.
    has_subscriber
        Whether anybody receives a result.
    timeout
        Seconds that a frame to be processed may wait while none is published.
    summary
        Of its frames.

    """
    if state != 'active':
        return Health(DiagnosticStatus.OK, state)
    if summary.lost_fraction > MAX_LOST_FRACTION:
        text = f"{summary.lost_fraction:.0%} of the frames on '{topic}' are lost"
        return Health(DiagnosticStatus.WARN, text)
    if summary.is_silent:
        return Health(DiagnosticStatus.WARN, f"no frames on '{topic}'")
    if not has_subscriber:
        return Health(DiagnosticStatus.OK, 'idle: nobody subscribes to an output')
    if summary.waiting > timeout:
        return Health(DiagnosticStatus.ERROR, 'frames arrive, but none is published')
    return Health(DiagnosticStatus.OK, f'{summary.fps_out:.3g} frames/s')


def has_namesake(node: Node) -> bool:
    """Return whether the graph has another node of this name."""
    names = node.get_node_names_and_namespaces()
    return bool(names.count((node.get_name(), node.get_namespace())) > 1)


def explain_loss(topic: str, fraction: float, size: int, qos: QoSProfile) -> str:
    """Explain why a fraction of the frames of `size` bytes on a topic is lost; name a remedy."""
    is_reliable = qos.reliability == ReliabilityPolicy.RELIABLE
    causes = []
    if size > LARGE_MESSAGE and _uses_fast_dds():
        causes.append(f'frames of {size / 2**20:.1f} MiB {PROFILE_ADVICE}')
    else:
        causes.append('this machine or the network is too busy')
    if not is_reliable:
        causes.append('a camera that publishes reliably would send them again')
    return f"{fraction:.0%} of the frames on '{topic}' are lost: {', or '.join(causes)}"


def explain_silence(
    node: Node, topic: str, kind: Any, name: str, waited: float, qos: QoSProfile, lost: int = 0
) -> str:
    """
    Explain why no message has arrived on a topic, and how to fix it.

    Parameters
    ----------
    node
        The subscriber.
    topic
        Resolved name.
    kind
        Type of the messages.
    name
        Name of the topic that users remap, like 'image'.
    waited
        Seconds without a message.
    qos
        Profile of the subscription.
    lost
        Messages that the middleware has reported as lost.

    """
    wanted = f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return _explain_absence(node, topic, wanted, name)
    types = sorted({publisher.topic_type for publisher in publishers})
    text = f"no message has arrived on '{topic}' in {waited:.0f} s: "
    if wanted not in types:
        text += f'its type is {types[0]}, but {wanted} is expected'
        if types[0].endswith('/CompressedImage'):
            base = topic.removesuffix('/compressed')
            text += f'; set image_transport:=compressed and {name}:={base}'
        return text
    mismatches = []
    for publisher in publishers:
        compatibility, reason = qos_check_compatible(publisher.qos_profile, qos)
        if compatibility == QoSCompatibility.ERROR:
            mismatches.append(reason)
    if len(mismatches) == len(publishers):
        return text + f'the QoS of its publisher is incompatible ({mismatches[0].strip()})'
    if lost:
        return text + f'{lost} were lost; large frames {PROFILE_ADVICE}'
    strangers = other_users_of_fast_dds() if _uses_fast_dds() else []
    if strangers:
        return text + (
            f"it has a publisher, but Fast DDS passes nothing between processes of different "
            f"users; here run some of uid {', '.join(map(str, strangers))} (docs/node.md)"
        )
    text += f'it has a publisher, which may be idle (ros2 topic hz {topic})'
    return text + (f'; large frames {PROFILE_ADVICE}' if _uses_fast_dds() else '')


def _explain_absence(node: Node, topic: str, kind: str, name: str) -> str:
    """Explain that a topic has no publisher, and list the topics that could be meant."""
    text = f"nobody publishes '{topic}'"
    for other, transport in (
        (f'{topic}/compressed', 'compressed'), (topic.removesuffix('/compressed'), 'raw')
    ):
        if name.endswith('image') and other != topic and node.count_publishers(other):
            return f"{text}, but '{other}' is published: set image_transport:={transport}"
    outputs = f'{node.get_fully_qualified_name()}/'
    others = [
        other
        for other, kinds in node.get_topic_names_and_types()
        if kind in kinds and not other.startswith(outputs) and node.count_publishers(other)
    ]
    return (
        f"{text}; topics with {kind} in the graph: {', '.join(others) or 'none'} "
        f'(choose with {name}:=TOPIC)'
    )


def _uses_fast_dds() -> bool:
    return 'fastrtps' in get_rmw_implementation_identifier()
