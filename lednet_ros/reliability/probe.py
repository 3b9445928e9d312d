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

"""A camera, a receiver and a remote control of one live node, which is a process of its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
from dataclasses import dataclass, field
import signal
import subprocess
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lednet_ros.benchmark.live import LiveNode
from lednet_ros.benchmark.workload import draw_frames
from lednet_ros.ros.camera import output_qos
from lednet_ros.ros.messages import fill_image
from lednet_ros.ros.process import run_module
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

FRAME_SIZE = (96, 128)
# Well below what the node can do with such frames.
RATE = 20.0
START_TIMEOUT = 120.0
RECOVERY_TIMEOUT = 60.0
SETTLE_TIMEOUT = 3.0
STOP_TIMEOUT = 10.0
QUEUE = 1000
PARAMETERS = {'input_size': '[96,128]', 'device': 'cpu', 'diagnostics_period': '0.2'}


class NotSurvived(Exception):
    """The node didn't do what it must; the message says what was seen instead."""


@dataclass(frozen=True)
class Setup:
    """
    How the node is started.

    Attributes
    ----------
    module
        To run, like `python -m`.
    values
        Of parameters of the node, besides `PARAMETERS`.
    cameras
        Names of cameras; one without a name by default.
    environment
        Variables besides those of this process.
    wrapper
        Command that runs the rest of its line.

    """

    module: str = 'lednet_ros.ros.segmentation_node'
    values: Mapping[str, str] = field(default_factory=dict)
    cameras: Sequence[str] = ('',)
    environment: Mapping[str, str] = field(default_factory=dict)
    wrapper: Sequence[str] = ()


def check(good: object, seen: str) -> None:
    """Raise NotSurvived, with what was seen, unless all is good."""
    if not good:
        raise NotSurvived(seen)


class Probe:
    """
    Starts a node, feeds it, and notes what comes back.

    Parameters
    ----------
    node, executor
        Of this process.
    namespace
        Where the node shall be.
    setup
        How it is started.

    Attributes
    ----------
    sent, received : dict of int to float
        When frames were sent and their labels came back, by stamp in nanoseconds; seconds of
        `time.perf_counter`.
    expected : set of int
        Frames that the node can be expected to process, by stamp.
    longest_recovery : float
        Of all calls of `recover`, seconds.
    surprises : int
        Labels for which no frame was sent, or that came twice.
    last : Image or None
        The newest labels.
    diagnostics : int
        How many diagnostics messages of the node have arrived.

    """

    def __init__(
        self, node: Node, executor: SingleThreadedExecutor, namespace: str, setup: Setup
    ) -> None:
        self.node = node
        self.namespace = namespace
        self.setup = setup
        self.name = f'{namespace}/segmentation_node'
        self.sent: dict[int, float] = {}
        self.received: dict[int, float] = {}
        self.expected: set[int] = set()
        self.longest_recovery = 0.0
        self.surprises = 0
        self.last: Image | None = None
        self.diagnostics = 0
        self.frame = draw_frames(FRAME_SIZE, 1)[0]
        self._executor = executor
        self._stamp = 10**9
        self._running = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._own: list[Callable[[], object]] = []
        self._publishers = {
            camera: node.create_publisher(Image, self._input(camera), output_qos())
            for camera in setup.cameras
        }
        for camera in setup.cameras:
            folder = f'/{camera}' if camera else ''
            self.subscribe(Image, f'{self.name}{folder}/labels', self._on_labels)
        self.subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics)

    def start(self, configure: bool = True) -> None:
        """Start the node; waits until a frame has passed through it."""
        values = {**PARAMETERS, **self.setup.values}
        if any(self.setup.cameras):
            values['cameras'] = f"[{','.join(self.setup.cameras)}]"
        if not configure:
            values['autostart'] = 'false'
        arguments = ['--disable-stdout-logs']
        for name, value in values.items():
            arguments += ['-p', f'{name}:={value}']
        self._process = self._running.enter_context(
            run_module(
                self.setup.module,
                self.namespace,
                arguments,
                wrapper=self.setup.wrapper,
                environment=self.setup.environment,
            )
        )
        if configure:
            self.recover(START_TIMEOUT)
        else:
            self.wait(lambda: self.node.count_publishers(f'{self.name}/transition_event'))

    @property
    def target(self) -> LiveNode:
        """Give the node's process."""
        assert self._process is not None
        return LiveNode(self.namespace, self._process)

    def stop(self, number: signal.Signals = signal.SIGINT) -> float:
        """Send the node a signal; gives the seconds until it has ended, with exit code 0."""
        process = self.target.process
        started = time.perf_counter()
        process.send_signal(number)
        code = self.wait_end(STOP_TIMEOUT)
        check(code == 0, f'exit code {code} after {number.name}')
        return time.perf_counter() - started

    def wait_end(self, timeout: float) -> int:
        """Wait until the node has ended; gives its exit code."""
        process = self.target.process
        deadline = time.perf_counter() + timeout
        while process.poll() is None:
            check(time.perf_counter() < deadline, f'the node still runs after {timeout:.0f} s')
            self.spin(0.02)
        return int(process.returncode)

    def close(self) -> None:
        """Stop the node if it runs, and remove everything."""
        self._running.close()
        for camera in list(self._publishers):
            self.remove_camera(camera)
        for remove in self._own:
            remove()

    def remove_camera(self, camera: str = '') -> None:
        """Remove a camera's publisher."""
        self.node.destroy_publisher(self._publishers.pop(camera))

    def add_camera(self, camera: str = '') -> None:
        """Make the publisher again, and wait for the node to see it."""
        publisher = self.node.create_publisher(Image, self._input(camera), output_qos())
        self._publishers[camera] = publisher
        self.wait(publisher.get_subscription_count)

    def subscribe(self, kind: Any, topic: str, callback: Callable[[Any], object]) -> None:
        """Receive a topic until the end."""
        # Deep enough to lose nothing when this process is slow.
        made = self.node.create_subscription(kind, topic, callback, QUEUE)
        self._own.append(lambda: self.node.destroy_subscription(made))

    def make(self, pixels: NDArray[Any] | None = None, encoding: str = 'bgr8') -> Image:
        """Give a message of a frame; by default of the street."""
        message = Image()
        pixels = self.frame if pixels is None else np.ascontiguousarray(pixels)
        fill_image(message, pixels, encoding, Header(frame_id='camera'))
        return message

    def publish(
        self,
        message: Image | None = None,
        stamp: int | None = None,
        camera: str = '',
        expected: bool = True,
    ) -> int:
        """
        Publish a frame.

        Parameters
        ----------
        message
            The frame; by default of the street.
        stamp
            Nanoseconds; by default later than the one before.
        camera
            Whose it is.
        expected
            Whether the node can be expected to process it.

        Returns
        -------
        int
            The stamp.

        """
        message = message or self.make()
        if stamp is None:
            self._stamp += 10**6
            stamp = self._stamp
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        self.sent[stamp] = time.perf_counter()
        if expected:
            self.expected.add(stamp)
        self._publishers[camera].publish(message)
        return stamp

    def flow(
        self,
        count: int,
        make: Callable[[int], Image] | None = None,
        rate: float = RATE,
        expected: bool = True,
    ) -> list[int]:
        """Publish frames at a rate, then wait for what is under way; gives their stamps."""
        start = time.perf_counter()
        stamps = []
        for number in range(count):
            while (left := start + number / rate - time.perf_counter()) > 0:
                self.spin(left)
            message = make(number) if make else None
            stamps.append(self.publish(message, expected=expected))
        self.settle(stamps)
        return stamps

    def settle(self, stamps: Sequence[int]) -> None:
        """Wait until all of these frames have come back, or nothing can be under way."""
        with contextlib.suppress(NotSurvived):
            self.wait(lambda: all(stamp in self.received for stamp in stamps), SETTLE_TIMEOUT)

    def recover(self, timeout: float = RECOVERY_TIMEOUT) -> float:
        """Publish good frames from every camera until all come back; gives the seconds."""
        started = time.perf_counter()
        for camera in self._publishers:
            stamps: set[int] = set()
            due = 0.0
            while not stamps & self.received.keys():
                now = time.perf_counter()
                check(now < started + timeout, f'no labels within {timeout:.0f} s')
                if self._process is not None:
                    code = self._process.poll()
                    check(code is None, f'the node has ended with exit code {code}')
                if now >= due:
                    stamps.add(self.publish(camera=camera, expected=False))
                    due = now + 1 / RATE
                self.spin(0.005)
        seconds = time.perf_counter() - started
        self.longest_recovery = max(self.longest_recovery, seconds)
        return seconds

    def spin(self, seconds: float) -> None:
        """Receive for so long, or until something has arrived."""
        self._executor.spin_once(timeout_sec=seconds)

    def wait(self, condition: Callable[[], Any], timeout: float = RECOVERY_TIMEOUT) -> Any:
        """Receive until the condition holds; gives its value."""
        deadline = time.perf_counter() + timeout
        while not (value := condition()):
            check(time.perf_counter() < deadline, f'waited in vain for {timeout:.0f} s')
            self.spin(0.02)
        return value

    def status(self, camera: str | None = None) -> DiagnosticStatus:
        """Give a diagnostics status that is newer than this call: the node's or a camera's."""
        name = self.name if camera is None else f"{self.name}: {camera or 'camera'}"
        self._statuses.clear()
        return self.wait(lambda: self._statuses.get(name))

    def counters(self, camera: str | None = '') -> dict[str, str]:
        """Give the values of a status, newer than this call: a camera's or the node's (None)."""
        return {pair.key: pair.value for pair in self.status(camera).values}

    def count(self, event: str, camera: str | None = '') -> int:
        """Give one of the `counters`, 0 where nothing is counted yet."""
        return int(self.counters(camera).get(event, 0))

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """Call one of the node's services; gives its response."""
        with self.client(kind, service) as client:
            future = client.call_async(request)
            self.wait(future.done)
            return future.result()

    def change_state(self, transition: int) -> bool:
        """Ask for a lifecycle transition; gives whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, 'change_state', request).success)

    def state(self) -> str:
        """Give the label of the lifecycle state."""
        return str(self.call(GetState, 'get_state', GetState.Request()).current_state.label)

    @contextlib.contextmanager
    def client(self, kind: Any, service: str) -> Iterator[Any]:
        """Give a client of one of the node's services, connected."""
        client = self.node.create_client(kind, f'{self.name}/{service}')
        try:
            self.wait(client.service_is_ready)
            yield client
        finally:
            self.node.destroy_client(client)

    def _input(self, camera: str) -> str:
        return f'{self.namespace}/{camera}/image' if camera else f'{self.namespace}/image'

    def _on_labels(self, message: Image) -> None:
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if stamp not in self.sent or stamp in self.received:
            self.surprises += 1
        self.received[stamp] = time.perf_counter()
        self.last = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if any(status.name == self.name for status in message.status):
            self.diagnostics += 1
            self._statuses.update({status.name: status for status in message.status})
