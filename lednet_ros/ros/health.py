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
from lednet_ros.ros.statistics import Summary
from rclpy.node import Node

LOG_PERIOD = 5.0
NO_FRAMES_AFTER = 5.0


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
        log = self._logger.info if record.levelno < logging.WARNING else self._logger.warning
        self.newest = record.getMessage()
        log(self.newest)


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


def explain_silence(node: Node, topic: str, transport: str, waited: float) -> str:
    """
    Explain why no frame has arrived on a topic in `waited` seconds, and how to fix it.

    The topic's name is resolved; its transport is 'raw' or 'compressed'.
    """
    if node.count_publishers(topic):
        return (
            f"'{topic}' has a publisher, but no frame has arrived in {waited:.0f} s; large frames "
            "need the Fast DDS profile config/fastdds.xml in the camera's process (docs/node.md)"
        )
    kind = f"sensor_msgs/msg/{transport.replace('raw', '').title()}Image"
    outputs = node.get_fully_qualified_name()
    others = [
        name
        for name, kinds in node.get_topic_names_and_types()
        if kind in kinds and not name.startswith(outputs) and node.count_publishers(name)
    ]
    return (
        f"nobody publishes '{topic}'; image topics in the graph: {', '.join(others) or 'none'} "
        '(choose with the launch argument image:=TOPIC)'
    )
