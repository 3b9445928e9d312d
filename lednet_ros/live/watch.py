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


"""Watches a running node: its overlays, diagnostics and parameters; sets its parameters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
import contextlib
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
import threading
import time
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from lednet_ros.live.client import live_session, NodeClient, stamp_of
from lednet_ros.ros.parameters import BY_NAME
from lednet_ros.ros.qos import sensor_qos
import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage

# Nothing is subscribed to once nobody has looked for so long.
LOOK_SECONDS = 5.0
SPIN_SECONDS = 0.05
# Seconds between looks at the graph and the parameters, and between label images.
POLL_PERIOD = 1.0
LABELS_PERIOD = 3.0
ANSWER_TIMEOUT = 5.0
# Seconds that the first diagnostics may take.
PATIENCE = 3.0
# Stamps that are older count from their arrival: they are of another clock.
OLDEST_STAMP = 60.0

SETTINGS = ('enabled', 'overlay_alpha', 'min_confidence', 'overlay_classes', 'max_rate')
"""The parameters that can be set."""


@dataclass(frozen=True)
class WatchedCamera:
    """
    One camera of the node.

    Attributes
    ----------
    name
        Name of the camera; empty for the only one.
    version
        `NodeReport.version` when the overlay arrived.
    overlay
        The newest overlay, JPEG; empty before the first.
    age
        Seconds since its stamp.
    status
        The newest diagnostics; None before the first.

    """

    name: str
    version: int = 0
    overlay: bytes = b''
    age: float | None = None
    status: DiagnosticStatus | None = None


@dataclass(frozen=True)
class NodeReport:
    """
    What is known of the node.

    Attributes
    ----------
    version
        Increases with every change.
    trouble
        Why there is nothing to see; empty if the node is there.
    status
        The newest diagnostics of the node; None before the first.
    cameras
        Its cameras.
    pixels
        Number of pixels by class id in the newest label images, (256,) int64.
    settings
        Values of the parameters `SETTINGS`; empty if unknown.

    """

    version: int
    trouble: str
    status: DiagnosticStatus | None
    cameras: Sequence[WatchedCamera]
    pixels: NDArray[np.int64]
    settings: Mapping[str, Any]


class NodeWatch:
    """
    Watches a node while somebody looks, in a thread that owns all of ROS.

    Parameters
    ----------
    name
        Name of the node with its namespace, like '/segmentation_node'.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._changed = threading.Condition()
        self._version = 0
        self._stopping = False
        self._failure = ''
        self._last_look = -LOOK_SECONDS
        self._requests: SimpleQueue[tuple[list[Parameter], Future[None]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name='watch', daemon=True)
        self._look: _Look | None = None

    @property
    def is_looking(self) -> bool:
        """Return whether anything is subscribed to."""
        return self._look is not None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopping = True
        self._thread.join()

    def wait(self, after: int, timeout: float) -> NodeReport:
        """Look: return a report with a higher version, or the newest one after a timeout."""
        with self._changed:
            self._last_look = time.perf_counter()
            self._changed.wait_for(lambda: self._version > after, timeout)
            self._last_look = time.perf_counter()
            trouble = self._failure or f'looking for {self.name}'
            report = NodeReport(self._version, trouble, None, (), np.zeros(256, np.int64), {})
            return report if self._look is None else self._look.report(report)

    def change(self, changes: Mapping[str, Any]) -> None:
        """
        Set parameters of the node, all or none.

        Raises
        ------
        ValueError
            The node refuses them, or doesn't answer.

        """
        parameters = [_to_parameter(name, value) for name, value in changes.items()]
        answer: Future[None] = Future()
        self._requests.put((parameters, answer))
        try:
            answer.result(ANSWER_TIMEOUT)
        except TimeoutError:
            text = f'{self.name} did not answer within {ANSWER_TIMEOUT:.0f} s'
            raise ValueError(text) from None

    @contextlib.contextmanager
    def update(self) -> Iterator[int]:
        """Change what is reported in a `with` block; yields the new version."""
        with self._changed:
            self._version += 1
            yield self._version
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            with live_session('lednet_view') as session:
                while not self._stopping:
                    self._follow(*session)
        except Exception as error:
            with self.update():
                self._failure = f'watching {self.name} failed: {error!r}'
            raise

    def _follow(self, ros_node: Node, executor: SingleThreadedExecutor) -> None:
        executor.spin_once(timeout_sec=SPIN_SECONDS)
        is_watched = time.perf_counter() < self._last_look + LOOK_SECONDS
        if is_watched and self._look is None:
            look = _Look(self, ros_node, executor)
            with self.update():
                self._look = look
        elif self._look is not None and not is_watched:
            look = self._look
            with self.update():
                self._look = None
            look.close()
        if self._look is not None:
            self._look.follow()
        while not self._requests.empty():
            parameters, answer = self._requests.get()
            if self._look is None:
                answer.set_exception(ValueError(f'{self.name} is not looked at'))
            else:
                self._look.set_parameters(parameters, answer)


class _Look:
    """Subscriptions and clients that exist while somebody looks; the watch's thread runs them."""

    def __init__(
        self, watch: NodeWatch, ros_node: Node, executor: SingleThreadedExecutor
    ) -> None:
        self._watch = watch
        self._name = watch.name
        self._node = ros_node
        self._client = NodeClient(ros_node, executor, cameras=(), outputs=(), name=watch.name)
        self._getter = ros_node.create_client(GetParameters, f'{watch.name}/get_parameters')
        self._setter = ros_node.create_client(
            SetParametersAtomically, f'{watch.name}/set_parameters_atomically'
        )
        self._opened = self._heard = time.perf_counter()
        self._diagnostics = 0
        self._next_poll = self._next_labels = 0.0
        self._asked = -ANSWER_TIMEOUT
        self._trouble = f'looking for {self._name}'
        self._values: dict[str, Any] = {}
        self._cameras: dict[str, WatchedCamera] = {}
        # When each overlay arrived, and its age then, seconds.
        self._arrivals: dict[str, tuple[float, float]] = {}
        self._overlays: list[Subscription] = []
        self._labels: dict[str, Subscription] = {}
        self._counted: set[str] = set()
        self._pixels: dict[str, NDArray[np.int64]] = {}

    def close(self) -> None:
        """Remove everything from the graph."""
        self._show_cameras([])
        self._client.close()
        for client in (self._getter, self._setter):
            self._node.destroy_client(client)

    def follow(self) -> None:
        """Do what is due."""
        now = time.perf_counter()
        if self._client.diagnostics != self._diagnostics:
            with self._watch.update():
                self._diagnostics, self._heard = self._client.diagnostics, now
            self._next_poll = min(self._next_poll, now) if self._trouble else self._next_poll
        while self._counted:
            self._node.destroy_subscription(self._labels.pop(self._counted.pop()))
        if now >= self._next_poll:
            self._next_poll = now + POLL_PERIOD
            trouble = self._find_trouble(now)
            if trouble != self._trouble:
                with self._watch.update():
                    self._trouble = trouble
            self._ask(now)
        if now >= self._next_labels and not self._labels:
            # A label image of each camera now and then costs the node less than all of them.
            self._next_labels = now + LABELS_PERIOD
            for camera in self._cameras:
                self._labels[camera] = self._subscribe(
                    camera, 'labels/compressed', self._on_labels
                )

    def set_parameters(self, parameters: Sequence[Parameter], answer: 'Future[None]') -> None:
        """Set parameters all at once; the answer is a ValueError if they are refused."""
        if not self._setter.service_is_ready():
            answer.set_exception(ValueError(f'{self._name} is not running'))
            return

        def on_result(future: Any) -> None:
            result = future.result().result
            if not result.successful:
                answer.set_exception(ValueError(result.reason))
                return
            with self._watch.update():
                self._values |= {each.name: each.value for each in parameters}
            answer.set_result(None)

        request = SetParametersAtomically.Request(
            parameters=[parameter.to_parameter_msg() for parameter in parameters]
        )
        self._setter.call_async(request).add_done_callback(on_result)

    def report(self, empty: NodeReport) -> NodeReport:
        """Return the report; the lock of the watch is held."""
        now = time.perf_counter()
        cameras = []
        for name, camera in self._cameras.items():
            age = None
            if name in self._arrivals:
                arrived, age_then = self._arrivals[name]
                age = now - arrived + age_then
            status = None if self._trouble else self._client.newest_status(name)
            cameras.append(replace(camera, age=age, status=status))
        return replace(
            empty,
            trouble=self._trouble,
            status=None if self._trouble else self._client.newest_status(None),
            cameras=cameras,
            pixels=sum(self._pixels.values(), empty.pixels),
            settings={} if self._trouble else {
                name: self._values[name] for name in SETTINGS if name in self._values
            },
        )

    def _find_trouble(self, now: float) -> str:
        namespace, _, name = self._name.rpartition('/')
        patience = max(PATIENCE, 3 * self._values.get('diagnostics_period', 1.0))
        waited = now - self._heard
        if (name, namespace or '/') in self._node.get_node_names_and_namespaces():
            if self._diagnostics and waited < patience:
                return ''
            text = f'{self._name} starts, hangs or is gone: no diagnostics for {waited:.0f} s'
        else:
            ending = '/overlay/compressed'
            others = {
                topic.removesuffix(ending)
                for topic, _ in self._node.get_topic_names_and_types()
                if topic.endswith(ending) and self._node.count_publishers(topic)
            }
            text = f'{self._name} is not running; this page waits for it'
            if others:
                text += f" (nodes that look alike: {', '.join(sorted(others))})"
        return text if now - self._opened > PATIENCE else f'looking for {self._name}'

    def _ask(self, now: float) -> None:
        """Ask for the parameters, unless an answer is still due."""
        if not self._getter.service_is_ready() or now < self._asked + ANSWER_TIMEOUT:
            return
        self._asked = now
        names = [*SETTINGS, 'cameras', 'diagnostics_period']

        def on_result(future: Any) -> None:
            self._asked = -ANSWER_TIMEOUT
            found = map(parameter_value_to_python, future.result().values)
            values = dict(zip(names, found, strict=False))
            if values != self._values:
                with self._watch.update():
                    self._values = values
            cameras = [name for name in values.get('cameras') or () if name] or ['']
            if cameras != [*self._cameras]:
                self._show_cameras(cameras)

        self._getter.call_async(GetParameters.Request(names=names)).add_done_callback(on_result)

    def _show_cameras(self, names: Sequence[str]) -> None:
        for subscription in (*self._overlays, *self._labels.values()):
            self._node.destroy_subscription(subscription)
        self._labels.clear()
        self._counted.clear()
        with self._watch.update():
            self._cameras = {name: WatchedCamera(name) for name in names}
            self._arrivals.clear()
            self._pixels.clear()
        self._overlays = [
            self._subscribe(name, 'overlay/compressed', self._on_overlay) for name in names
        ]

    def _subscribe(
        self, camera: str, topic: str, receive: Callable[[str, CompressedImage], None]
    ) -> Subscription:
        # The newest frame only, best effort: a slow page must not hold up the robot.
        full = '/'.join(filter(None, (self._name, camera, topic)))
        return self._node.create_subscription(
            CompressedImage, full, partial(receive, camera), sensor_qos()
        )

    def _on_overlay(self, camera: str, message: CompressedImage) -> None:
        age = (time.time_ns() - stamp_of(message)) / 1e9
        with self._watch.update() as version:
            self._arrivals[camera] = (
                time.perf_counter(), age if 0 <= age <= OLDEST_STAMP else 0.0
            )
            self._cameras[camera] = WatchedCamera(camera, version, bytes(message.data))

    def _on_labels(self, camera: str, message: CompressedImage) -> None:
        self._counted.add(camera)
        labels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_GRAYSCALE)
        if labels is not None:
            with self._watch.update():
                self._pixels[camera] = np.bincount(labels.ravel(), minlength=256)


def _to_parameter(name: str, value: Any) -> Parameter:
    if name not in SETTINGS:
        raise ValueError(f"'{name}' can't be set here; allowed: {', '.join(SETTINGS)}")
    kind = BY_NAME[name].type
    if kind is Parameter.Type.DOUBLE and type(value) is int:
        value = float(value)
    try:
        return Parameter(name, kind, value)
    except ValueError:
        shown = kind.name.lower().replace('_', ' ')
        raise ValueError(f'{name} is {value!r}; it must be {shown}') from None
