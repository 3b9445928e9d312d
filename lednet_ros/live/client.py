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

"""The client of a live node: starts it, sends frames, waits for results, reads diagnostics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
from dataclasses import dataclass
from functools import partial
import json
import math
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lednet_ros.ros.messages import fill_image
from lednet_ros.ros.process import (
    ensure_log_folder,
    keep_large_buffers,
    use_shipped_profile,
)
from lednet_ros.ros.qos import output_qos
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from numpy.typing import NDArray
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from tqdm import tqdm

SEGMENTATION_NODE = 'lednet_ros.ros.segmentation_node'
# The first start on a machine measures all backends, which takes minutes on a busy one.
START_TIMEOUT = 300.0
STOP_TIMEOUT = 10.0
ANSWER_TIMEOUT = 60.0
# Frames without results count as lost when no result has arrived for this long.
DRAIN_SECONDS = 2.0
# Frames per second; well below the capacity of a node for small frames.
RATE = 20.0


class LiveError(RuntimeError):
    """A live node failed or did not respond; the message says how."""


class NodeProcess:
    """
    A node as a separate process, which gets SIGINT at the end of a `with` block.

    Parameters
    ----------
    namespace
        Namespace of the node, like '/demo'.
    parameters
        Parameters of the node.
    program
        The module whose `main` runs the node, and arguments of that module.
    ros_arguments
        ROS arguments, like '--log-level', 'warn'.
    wrapper
        Command that runs the rest of its command line.
    environment
        Environment variables in addition to those of this process.
    quiet
        Keep the output for the message of `check` instead of showing it.

    """

    def __init__(
        self,
        namespace: str,
        parameters: Mapping[str, object] | None = None,
        program: Sequence[str] = (SEGMENTATION_NODE,),
        *,
        ros_arguments: Sequence[str] = (),
        wrapper: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        command = [*wrapper, sys.executable, '-m', 'lednet_ros.ros.process', *program]
        command += ['--ros-args', '-r', f'__ns:={namespace}', *ros_arguments]
        for name, value in (parameters or {}).items():
            # JSON is YAML; a quoted string stays a string, even if it resembles another type.
            command += ['-p', f'{name}:={json.dumps(value, ensure_ascii=False, default=str)}']
        self._log = tempfile.TemporaryFile('w+') if quiet else None  # noqa: SIM115
        self._process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=self._log, stderr=self._log
        )
        self.pid = self._process.pid

    def __enter__(self) -> 'NodeProcess':
        return self

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGINT)
        try:
            self.wait(STOP_TIMEOUT)
        except LiveError:
            self.signal(signal.SIGKILL)
            self._process.wait()
        if self._log is not None:
            self._log.close()

    @property
    def exit_code(self) -> int | None:
        """Return the exit code; None while the process runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raise LiveError, with the end of a quiet node's output, if the process has ended."""
        if self.exit_code is None:
            return
        output = ''
        if self._log is not None:
            self._log.seek(0)
            output = f': {self._log.read()[-2000:]}'
        raise LiveError(f'the node ended with exit code {self.exit_code}{output}')

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; do nothing if the process has ended."""
        self._process.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait until the process has ended; return its exit code."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LiveError(f'the node still runs after {timeout:.0f} s') from None

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used."""
        fields = Path(f'/proc/{self.pid}/stat').read_text().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def resources(self) -> dict[str, Any]:
        """Return resident memory, `rss_mib`, and the number of `threads` and of open `files`."""
        folder = Path(f'/proc/{self.pid}')
        pages = int((folder / 'statm').read_text().split()[1])
        return {
            'rss_mib': pages * os.sysconf('SC_PAGE_SIZE') / 2**20,
            'threads': len(list((folder / 'task').iterdir())),
            'files': len(list((folder / 'fd').iterdir())),
        }


@contextlib.contextmanager
def live_session(
    name: str = 'live_client', local: bool = True
) -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    """
    Make a node and its executor.

    This process and its children use the shipped Fast DDS profile and, if `local` and unless a
    variable says otherwise, stay on this machine.
    """
    if local:
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    use_shipped_profile()
    keep_large_buffers()
    ensure_log_folder()
    # Ctrl-C must interrupt the caller and not shut down the context that it still uses.
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    node = Node(name)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def image_message(pixels: NDArray[Any], encoding: str, stamp: int = 0) -> Image:
    """
    Make a message with a copy of pixels.

    Parameters
    ----------
    pixels
        (height, width) or (height, width, channels), any dtype.
    encoding
        Encoding of the pixels, like 'bgr8'.
    stamp
        Nanoseconds.

    """
    message = Image()
    pixels = np.ascontiguousarray(pixels)
    data = pixels.reshape(*pixels.shape[:2], -1).view(np.uint8)
    fill_image(message, data, encoding, Header(frame_id='camera'))
    set_stamp(message, stamp)
    return message


def set_stamp(message: Any, stamp: int) -> None:
    """Set the stamp of a message's header, in nanoseconds."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)


def stamp_of(message: Any) -> int:
    """Return the stamp of a message's header, in nanoseconds."""
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def pixels_of(message: Image) -> NDArray[np.uint8]:
    """View the bytes of an unpadded image, (height, width) or (height, width, channels)."""
    pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


@dataclass
class Passage:
    """
    A frame that was sent, and the arrival of its results.

    Attributes
    ----------
    camera
        Name of the camera.
    sent, received
        Times of publication and of the last result so far, seconds of `time.perf_counter`.
    missing
        Results that have not arrived yet, like 'labels'.
    expected
        Whether the node is expected to process the frame.

    """

    camera: str
    sent: float
    missing: set[str]
    expected: bool = True
    received: float = math.nan

    @property
    def complete(self) -> bool:
        """Return whether all results have arrived."""
        return not self.missing

    @property
    def latency(self) -> float:
        """Return the seconds from publication to the last result so far."""
        return self.received - self.sent


class NodeClient:
    """
    Publishes to a segmentation node, receives its results and calls its services.

    Parameters
    ----------
    ros_node, executor
        Node and executor of this process; see `live_session`.
    namespace
        Namespace of the segmentation node.
    process
        Process of the segmentation node; None if it runs in this process.
    cameras
        Names of the cameras to publish; '' for a single unnamed camera.
    outputs
        Image topics to receive for each camera, like 'labels'.
    frames
        Default frames of `publish`, sent in rotation: (height, width, 3) uint8 BGR.
    is_compressed
        Whether `send` gets compressed images.
    name
        Name of the segmentation node with its namespace; empty for the usual one in `namespace`.

    Attributes
    ----------
    passages : dict of int to Passage
        The frames that were sent, by stamp in nanoseconds.
    surprises : int
        Results that match no sent frame, or came twice.
    newest : dict of str to Image
        The newest message of each output.
    diagnostics : int
        Number of diagnostics messages of the node that have arrived.
    longest_recovery : float
        Seconds of the slowest call of `recover`.

    """

    def __init__(
        self,
        ros_node: Node,
        executor: SingleThreadedExecutor,
        namespace: str = '',
        process: NodeProcess | None = None,
        cameras: Sequence[str] = ('',),
        outputs: Sequence[str] = ('labels',),
        frames: Sequence[NDArray[np.uint8]] = (),
        is_compressed: bool = False,
        name: str = '',
    ) -> None:
        self.ros_node = ros_node
        self.executor = executor
        self.namespace = namespace
        self.name = name or f'{namespace}/segmentation_node'
        self.process = process
        self.passages: dict[int, Passage] = {}
        self.surprises = 0
        self.newest: dict[str, Image] = {}
        self.diagnostics = 0
        self.longest_recovery = 0.0
        self._outputs = frozenset(outputs)
        self._is_compressed = is_compressed
        self._messages = [image_message(frame, 'bgr8') for frame in frames]
        self._stamp = 10**9
        self._last_arrival = 0.0
        # By name, each with its stamp.
        self._statuses: dict[str, tuple[int, DiagnosticStatus]] = {}
        self._subscriptions: list[Any] = []
        self._cameras: dict[str, Publisher] = {}
        self._output_topics = []
        for camera in cameras:
            self.add_camera(camera)
            for output in outputs:
                topic = '/'.join(filter(None, (self.name, camera, output)))
                self._output_topics.append(topic)
                self.subscribe(Image, topic, partial(self._on_result, output))
        self.subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, QoSProfile(depth=10))

    @property
    def target(self) -> NodeProcess:
        """Return the node's process."""
        assert self.process is not None
        return self.process

    def close(self) -> None:
        """Remove the topics."""
        for subscription in self._subscriptions:
            self.ros_node.destroy_subscription(subscription)
        for camera in list(self._cameras):
            self.remove_camera(camera)

    def add_camera(self, camera: str = '') -> None:
        """Make the publisher of a camera's frames."""
        kind, name = Image, 'image'
        if self._is_compressed:
            kind, name = CompressedImage, 'image/compressed'
        topic = '/'.join(filter(None, (self.namespace, camera, name)))
        self._cameras[camera] = self.ros_node.create_publisher(kind, topic, output_qos())

    def remove_camera(self, camera: str = '') -> None:
        """Remove the publisher of a camera's frames."""
        self.ros_node.destroy_publisher(self._cameras.pop(camera))

    def subscribe(
        self, kind: Any, topic: str, receive: Callable[[Any], object], qos: Any = None, **more: Any
    ) -> None:
        """Subscribe until `close`."""
        made = self.ros_node.create_subscription(kind, topic, receive, qos or output_qos(), **more)
        self._subscriptions.append(made)

    def collect(self, kind: Any, topic: str, qos: Any = None) -> list[Any]:
        """Subscribe; return a list to which each message is appended."""
        messages: list[Any] = []
        self.subscribe(kind, topic, messages.append, qos)
        return messages

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
            The frame; by default the next of `frames`.
        stamp
            Nanoseconds; by default 1 ms after the previous one.
        camera, expected
            See `Passage`.

        Returns
        -------
        int
            The stamp.

        """
        if stamp is None:
            self._stamp += 10**6
            stamp = self._stamp
        if message is None:
            message = self._messages[stamp // 10**6 % len(self._messages)]
        set_stamp(message, stamp)
        self.send(message, stamp, camera, expected)
        return stamp

    def send(
        self,
        message: Any,
        stamp: int,
        camera: str = '',
        expected: bool = True,
        by: Publisher | None = None,
    ) -> Passage:
        """Publish an unchanged or serialized frame and record it by its stamp; see `publish`."""
        passage = Passage(camera, time.perf_counter(), set(self._outputs), expected)
        self.passages[stamp] = passage
        (by or self._cameras[camera]).publish(message)
        return passage

    def pass_one(
        self, message: Image | None = None, stamp: int | None = None,
        timeout: float = ANSWER_TIMEOUT,
    ) -> Passage:
        """Publish a frame, see `publish`, and wait for its results."""
        passage = self.passages[self.publish(message, stamp)]
        self.wait(lambda: passage.complete, timeout, 'returned no results')
        return passage

    def play(
        self,
        rate: float,
        count: int,
        make: Callable[[int], Image] | None = None,
        expected: bool = True,
        label: str | None = None,
    ) -> list[Passage]:
        """
        Publish at a fixed rate from all cameras, then wait for the remaining results.

        Parameters
        ----------
        rate
            Frames per second of each camera.
        count
            Frames of each camera.
        make
            Makes the frames by number; by default they are `frames`.
        expected
            See `Passage`.
        label
            Label of a progress bar; None shows none.

        Returns
        -------
        list of Passage
            All frames in the order of sending.

        """
        start = time.perf_counter()
        passages = []
        for number in tqdm(range(count), label, leave=False, disable=label is None):
            while (left := start + number / rate - time.perf_counter()) > 0:
                self.spin(left)
            for camera in self._cameras:
                message = make(number) if make else None
                passages.append(self.passages[self.publish(message, None, camera, expected)])
        self.settle(passages)
        return passages

    def settle(self, passages: Sequence[Passage]) -> None:
        """Wait until these frames are complete, or no result has arrived for `DRAIN_SECONDS`."""
        self._last_arrival = time.perf_counter()
        while not all(passage.complete for passage in passages):
            if time.perf_counter() > self._last_arrival + DRAIN_SECONDS:
                break
            self.spin(0.1)

    def wait_active(self) -> None:
        """Wait until the node is connected and has processed a frame of each camera."""
        self.wait_connected()
        # One frame a second: a slow node must not start with a queue of them.
        self.recover(START_TIMEOUT, 1.0)
        self.passages.clear()

    def wait_connected(self) -> None:
        """Wait until the node subscribes to every camera and publishes every output."""
        self.connect(*self._cameras.values(), timeout=START_TIMEOUT)
        self.wait(
            lambda: all(self.ros_node.count_publishers(topic) for topic in self._output_topics),
            START_TIMEOUT,
            'was not active',
        )

    def connect(self, *publishers: Publisher, timeout: float = ANSWER_TIMEOUT) -> None:
        """Wait until each publisher has a subscriber."""
        self.wait(
            lambda: all(p.get_subscription_count() for p in publishers), timeout, 'was not active'
        )

    def recover(self, timeout: float = ANSWER_TIMEOUT, period: float = 1 / RATE) -> float:
        """Publish good frames of every camera until one is processed; return the seconds."""
        started = time.perf_counter()
        for camera in self._cameras:
            passages: list[Passage] = []
            due = 0.0
            while not any(passage.complete for passage in passages):
                now = time.perf_counter()
                if now > started + timeout:
                    raise LiveError(f'the node returned no results within {timeout:.0f} s')
                if now >= due:
                    stamp = self.publish(camera=camera, expected=False)
                    passages.append(self.passages[stamp])
                    due = now + period
                self.spin(0.005)
        seconds = time.perf_counter() - started
        self.longest_recovery = max(self.longest_recovery, seconds)
        return seconds

    def spin(self, seconds: float) -> None:
        """Wait for one arrival, up to a time limit; raise LiveError if the node has ended."""
        if self.process is not None:
            self.process.check()
        self.executor.spin_once(timeout_sec=seconds)

    def wait(
        self,
        condition: Callable[[], Any],
        timeout: float = ANSWER_TIMEOUT,
        complaint: str = 'did not reach the expected state',
    ) -> Any:
        """
        Receive until a condition holds.

        Parameters
        ----------
        condition
            Evaluated after each arrival, and at least every 50 ms.
        timeout
            Seconds.
        complaint
            Failure of the node that the error reports after the timeout.

        Returns
        -------
        Any
            The condition's value.

        Raises
        ------
        LiveError
            The node has ended, or the condition did not hold in time.

        """
        deadline = time.perf_counter() + timeout
        while not (value := condition()):
            if time.perf_counter() > deadline:
                raise LiveError(f'the node {complaint} within {timeout:.0f} s')
            self.spin(0.05)
        return value

    def status(self, camera: str | None = None) -> DiagnosticStatus:
        """
        Wait for a new diagnostics status of the node (None) or of a camera.

        Its stamp is later than the call, so the node must use the system's clock.
        """
        now = time.time_ns()
        return self.wait(
            lambda: self.newest_status(camera, now), complaint='sent no diagnostics'
        )

    def newest_status(self, camera: str | None, since: int = 0) -> DiagnosticStatus | None:
        """Return the newest status of the node (None) or of a camera, not older than `since`."""
        name = self.name if camera is None else f"{self.name}: {camera or 'camera'}"
        stamp, status = self._statuses.get(name, (-1, None))
        return status if stamp >= since else None

    def counters(self, camera: str = '', new: bool = True) -> dict[str, int]:
        """Return the counters of a camera's next diagnostics or, unless `new`, the newest ones."""
        status = self.status(camera) if new else self.newest_status(camera)
        pairs = [] if status is None else status.values
        return {pair.key: int(pair.value) for pair in pairs if pair.value.isdecimal()}

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """Call a service of the node; return its response."""
        with self.service(kind, service) as client:
            future = client.call_async(request)
            self.wait(future.done, complaint=f'did not answer {service}')
            return future.result()

    @contextlib.contextmanager
    def service(self, kind: Any, service: str) -> Iterator[Any]:
        """Make a connected client of a service of the node."""
        client = self.ros_node.create_client(kind, f'{self.name}/{service}')
        try:
            self.wait(client.service_is_ready, complaint=f'had no service {service}')
            yield client
        finally:
            self.ros_node.destroy_client(client)

    def state(self) -> str:
        """Return the label of the lifecycle state."""
        return str(self.call(GetState, 'get_state', GetState.Request()).current_state.label)

    def change_state(self, transition: int) -> bool:
        """Request a lifecycle transition; return whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, 'change_state', request).success)

    def _on_result(self, output: str, message: Image) -> None:
        self._last_arrival = time.perf_counter()
        passage = self.passages.get(stamp_of(message))
        if passage is None or output not in passage.missing:
            self.surprises += 1
        else:
            passage.missing.remove(output)
            passage.received = self._last_arrival
        self.newest[output] = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if any(status.name == self.name for status in message.status):
            self.diagnostics += 1
            stamp = stamp_of(message)
            self._statuses.update({status.name: (stamp, status) for status in message.status})
