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

"""Evaluation of a bag through the live node: a process of its own, over DDS, frame by frame."""

from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
import os
from pathlib import Path
import subprocess
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lednet_ros.evaluation.many_bags import EvaluationSettings
from lednet_ros.evaluation.recording import (
    LoadedFrame,
    RecordingReader,
    RecordingResult,
    Scorer,
)
from lednet_ros.inference.encodings import Frame
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.bags import COMPRESSED_TYPE, open_bag
from lednet_ros.recordings.threads import prefetch
from lednet_ros.ros.camera import output_qos
from lednet_ros.ros.messages import fill_image
from lednet_ros.ros.process import keep_large_buffers, run_module, use_shipped_profile
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from tqdm import tqdm

START_TIMEOUT = 120.0
FRAME_TIMEOUT = 60.0
DIAGNOSTICS_TIMEOUT = 5.0
RESULTS = ('labels', 'confidence')


class ThroughRosError(RuntimeError):
    """The node did not do its part; the message says what."""


@dataclass(frozen=True)
class NodeFigures:
    """
    How the node did.

    Attributes
    ----------
    latencies
        Milliseconds from the call that published a frame to its labels and confidence.
    counters
        What the node's diagnostics count: 'received', 'processed', 'dropped' and what else was
        not zero.

    """

    latencies: list[float]
    counters: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Give p50, p95 and p99 of the latency and the counters."""
        p50, p95, p99 = np.percentile(self.latencies, (50, 95, 99)).round(3).tolist()
        return {'latency_ms': {'p50': p50, 'p95': p95, 'p99': p99}, 'counters': self.counters}


def evaluate_through_ros(
    settings: EvaluationSettings, path: Path, label_map: LabelMap, parameters: int
) -> tuple[RecordingResult, NodeFigures]:
    """
    Send each frame of a bag to a node and wait for its results; nothing is lost.

    Parameters
    ----------
    settings
        The node's network, the topics and the ground truth.
    path
        The bag.
    label_map, parameters
        Of the network.

    Returns
    -------
    result : RecordingResult
        As `evaluate_bag` gives it, to the pixel.
    figures : NodeFigures
        Of the node.

    Raises
    ------
    ThroughRosError
        The node ended, did not start or did not answer.
    SourceError
        See `evaluate_bag`.

    """
    use_shipped_profile()
    keep_large_buffers()
    # Ctrl-C ends the evaluation, not this process's part of ROS under its feet.
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    try:
        with open_bag(path) as bag:
            reader = RecordingReader(bag, settings.image_topic, settings.truth, label_map)
            result = reader.start_result(path, parameters)
            transport = 'compressed' if _is_compressed(reader, bag.is_ros1) else 'raw'
            scorer = Scorer(result, path)
            with _live_node(settings, transport) as link:
                start = time.perf_counter()
                for loaded in tqdm(
                    prefetch(reader.frames()), path.name, reader.topic.count, unit='frame'
                ):
                    if loaded.frame is None:
                        result.rejected[loaded.reason] += 1
                        continue
                    latency = link.send(loaded, loaded.frame)
                    labels, confidence = (_pixels(link.received[name]) for name in RESULTS)
                    scorer.score(loaded, labels, confidence, latency)
                scorer.end(bag, reader, time.perf_counter() - start)
                counters = link.read_counters(len(result.frames))
    finally:
        rclpy.try_shutdown()
    return result, NodeFigures([frame.milliseconds[1] for frame in result.frames], counters)


class _Link:
    """What this process has of the node's topics."""

    def __init__(
        self,
        node: Node,
        process: 'subprocess.Popen[bytes]',
        namespace: str,
        transport: str,
    ) -> None:
        self.received: dict[str, Image] = {}
        self._node = node
        self._process = process
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._counters: dict[str, str] = {}
        self._topic = f'{namespace}/image'
        kind = Image
        if transport == 'compressed':
            self._topic += '/compressed'
            kind = CompressedImage
        self._publisher = node.create_publisher(kind, self._topic, output_qos())
        self._results = [f'{namespace}/segmentation_node/{name}' for name in RESULTS]
        for name, topic in zip(RESULTS, self._results, strict=True):
            node.create_subscription(Image, topic, self._receiver(name), output_qos())
        node.create_subscription(
            DiagnosticArray, '/diagnostics', self._on_diagnostics, QoSProfile(depth=5)
        )
        self._status = f'{namespace}/segmentation_node: camera'.lstrip('/')

    def wait(self) -> None:
        """Wait until the node is active."""
        self._spin_until(
            lambda: self._publisher.get_subscription_count() > 0
            and all(self._node.count_publishers(topic) for topic in self._results),
            START_TIMEOUT,
            'was not active',
        )

    def send(self, loaded: LoadedFrame, frame: Frame) -> float:
        """Publish a frame and wait for its results; gives the milliseconds that it took."""
        self.received.clear()
        message: Image | bytes = loaded.message.data
        if loaded.message.is_ros1:
            message = Image()
            header = Header(
                stamp=Time(nanoseconds=loaded.stamp).to_msg(),
                frame_id=loaded.message.content.header.frame_id,
            )
            fill_image(message, frame.pixels, f'{frame.color_order}8', header)
        start = time.perf_counter()
        self._publisher.publish(message)
        self._spin_until(
            lambda: len(self.received) == len(RESULTS),
            FRAME_TIMEOUT,
            f'gave no results for frame {loaded.index}',
        )
        return 1e3 * (time.perf_counter() - start)

    def read_counters(self, frames: int) -> dict[str, int]:
        """Wait for diagnostics that count all frames, for some time; gives the last ones."""
        with contextlib.suppress(ThroughRosError):
            self._spin_until(
                lambda: int(self._counters.get('processed', -1)) >= frames,
                DIAGNOSTICS_TIMEOUT,
                'sent no diagnostics',
            )
        counted = {name: int(v) for name, v in self._counters.items() if v.isdecimal()}
        return {'dropped': 0, **counted} if counted else {}

    def close(self) -> None:
        """End the spinning."""
        self._executor.shutdown()

    def _receiver(self, name: str) -> Any:
        def receive(message: Image) -> None:
            self.received[name] = message

        return receive

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.lstrip('/') == self._status:
                self._counters = {value.key: value.value for value in status.values}

    def _spin_until(self, condition: Any, timeout: float, complaint: str) -> None:
        deadline = time.perf_counter() + timeout
        while not condition():
            if self._process.poll() is not None:
                raise ThroughRosError(f'the node ended with exit code {self._process.returncode}')
            if time.perf_counter() > deadline:
                raise ThroughRosError(f'the node {complaint} within {timeout:.0f} s')
            self._executor.spin_once(timeout_sec=0.1)


@contextlib.contextmanager
def _live_node(settings: EvaluationSettings, transport: str) -> Iterator[_Link]:
    """Run the node in a namespace that no other has."""
    namespace = f'/evaluate_{os.getpid()}'
    topic = f'{namespace}/image' + ('/compressed' if transport == 'compressed' else '')
    values = {
        'checkpoint': settings.checkpoint,
        'label_map': settings.label_map or '',
        'device': settings.device,
        'backend': settings.backend,
        'precision': settings.precision,
        'calibration': settings.calibration or '',
        'image_transport': transport,
        # Nothing may be lost on the way.
        f'qos_overrides.{topic}.subscription.reliability': 'reliable',
    }
    arguments = ['--log-level', 'warn']
    for name, value in values.items():
        arguments += ['-p', f"{name}:='{value}'"]
    node = Node('evaluate', namespace=namespace)
    try:
        with run_module('lednet_ros.ros.segmentation_node', namespace, arguments) as process:
            link = _Link(node, process, namespace, transport)
            try:
                link.wait()
                yield link
            finally:
                link.close()
    finally:
        node.destroy_node()


def _is_compressed(reader: RecordingReader, is_ros1: bool) -> bool:
    # Frames of ROS 1 are sent decoded, because their messages are serialized in another way.
    return reader.topic.type == COMPRESSED_TYPE and not is_ros1


def _pixels(message: Image) -> Any:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
