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

"""The client of a live node: starts it, feeds it, waits for it, reads what it reports."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
from dataclasses import dataclass, field
import json
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
from lednet_ros.ros.process import keep_large_buffers, use_shipped_profile
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

SEGMENTATION_NODE = 'lednet_ros.ros.segmentation_node'
START_TIMEOUT = 120.0
STOP_TIMEOUT = 10.0
ANSWER_TIMEOUT = 60.0
# Results of frames that were sent may be under way for so long after the last one came.
DRAIN_SECONDS = 2.0
# Of frames that are sent until one passes; well below what a node can do with small ones.
RATE = 20.0


class LiveError(RuntimeError):
    """A live node did not do its part; the message says what was seen instead."""


class NodeProcess:
    """
    A node as a process of its own, interrupted, as by Ctrl-C, at the end of a `with` block.

    Parameters
    ----------
    namespace
        Of the node, like '/demo'.
    parameters
        Of the node.
    module
        Whose `main` runs the node.
    arguments
        Of the module.
    ros_arguments
        More of them, like '--log-level', 'warn'.
    wrapper
        Command that runs the rest of its line.
    environment
        Variables besides those of this process.
    quiet
        Whether the output is kept for the message of `check`, not shown.

    """

    def __init__(
        self,
        namespace: str,
        parameters: Mapping[str, object] | None = None,
        module: str = SEGMENTATION_NODE,
        arguments: Sequence[str] = (),
        *,
        ros_arguments: Sequence[str] = (),
        wrapper: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        command = [*wrapper, sys.executable, '-m', 'lednet_ros.ros.process', module, *arguments]
        command += ['--ros-args', '-r', f'__ns:={namespace}', *ros_arguments]
        for name, value in (parameters or {}).items():
            # JSON is YAML; a quoted string stays one, whatever it looks like.
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
        """The exit code; None while the process runs."""
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
        """Send a signal; does nothing once the process has ended."""
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

    def memory_mib(self) -> float:
        """Return the resident memory of the process."""
        pages = int(Path(f'/proc/{self.pid}/statm').read_text().split()[1])
        return pages * os.sysconf('SC_PAGE_SIZE') / 2**20

    def threads(self) -> int:
        """Count the threads of the process."""
        return len(list(Path(f'/proc/{self.pid}/task').iterdir()))

    def open_files(self) -> int:
        """Count the files, sockets and similar that the process has open."""
        return len(list(Path(f'/proc/{self.pid}/fd').iterdir()))


@contextlib.contextmanager
def live_session(name: str = 'live_client') -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    """Make a node and its executor, with the shipped Fast DDS profile here and in children."""
    use_shipped_profile()
    keep_large_buffers()
    # Ctrl-C ends what is under way, not this process's part of ROS under its feet.
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
    Make a message of pixels.

    Parameters
    ----------
    pixels
        (height, width) or (height, width, channels), of any type; copied.
    encoding
        What they are, like 'bgr8'.
    stamp
        Nanoseconds.

    """
    message = Image()
    samples = np.ascontiguousarray(pixels)
    data = samples.reshape(*samples.shape[:2], -1).view(np.uint8)
    fill_image(message, data, encoding, Header(frame_id='camera'))
    set_stamp(message, stamp)
    return message


def set_stamp(message: Any, stamp: int) -> None:
    """Set the nanoseconds of a message's header."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)


def stamp_of(message: Any) -> int:
    """Return the nanoseconds of a message's header."""
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def pixels_of(message: Image) -> NDArray[np.uint8]:
    """View the bytes of an unpadded image, (height, width) or (height, width, channels)."""
    pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


@dataclass
class Passage:
    """
    A frame on its way.

    Attributes
    ----------
    camera
        Whose it is.
    sent, received
        When it was sent and when its newest result came, seconds of `time.perf_counter`.
    missing
        Results that have not come yet, like 'labels'.
    expected
        Whether the node can be expected to process it.

    """

    camera: str
    sent: float
    missing: set[str]
    expected: bool = True
    received: float = field(default=float('nan'))

    @property
    def complete(self) -> bool:
        """Return whether all results have arrived."""
        return not self.missing

    @property
    def latency(self) -> float:
        """Seconds from the call that published the frame to the newest of its results."""
        return self.received - self.sent


class NodeClient:
    """
    Cameras, a receiver and a remote control of one segmentation node.

    Parameters
    ----------
    ros_node, executor
        Of this process; see `live_session`.
    namespace
        Of the node under test.
    process
        Its process; None for a node in this one.
    cameras
        Names of the cameras that frames are published of; '' is the only one's.
    outputs
        Topics of images to receive of each camera, like 'labels'.
    frames
        What `publish` sends by default, interleaved: (height, width, 3) uint8 BGR.
    is_compressed
        Whether `send` gets messages of compressed images.

    Attributes
    ----------
    passages : dict of int to Passage
        Of the frames that were sent, by stamp in nanoseconds.
    surprises : int
        Results for which no frame was sent, or that came twice.
    newest : dict of str to Image
        The newest message of each output.
    diagnostics : int
        How many diagnostics messages of the node have arrived.

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
    ) -> None:
        self.ros_node = ros_node
        self.executor = executor
        self.namespace = namespace
        self.name = f'{namespace}/segmentation_node'
        self.process = process
        self.passages: dict[int, Passage] = {}
        self.surprises = 0
        self.newest: dict[str, Image] = {}
        self.diagnostics = 0
        self._outputs = frozenset(outputs)
        self._is_compressed = is_compressed
        self._messages = [image_message(frame, 'bgr8') for frame in frames]
        self._stamp = 10**9
        self._last_arrival = 0.0
        # By name, each with the time when it was made.
        self._statuses: dict[str, tuple[int, DiagnosticStatus]] = {}
        self._subscriptions: list[Any] = []
        self._cameras: dict[str, Publisher] = {}
        self._output_topics = []
        for camera in cameras:
            self.add_camera(camera)
            for output in outputs:
                topic = '/'.join(filter(None, (self.name, camera, output)))
                self._output_topics.append(topic)
                self.subscribe(Image, topic, self._receiver(output))
        self.subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, QoSProfile(depth=10))

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
        """Subscribe and return the list that messages will be appended to."""
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
        """Publish a frame as it is, or serialized; note it by its stamp. See `publish`."""
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
        self.wait(lambda: passage.complete, timeout, 'gave no results')
        return passage

    def play(
        self,
        rate: float,
        count: int,
        make: Callable[[int], Image] | None = None,
        expected: bool = True,
        progress: Callable[[int], object] | None = None,
    ) -> list[Passage]:
        """
        Publish at a fixed rate from all cameras, whatever comes back; then wait for the rest.

        Parameters
        ----------
        rate
            Frames per second of each camera.
        count
            Frames of each camera.
        make
            Makes the frames by number; by default they are `frames`.
        expected
            Whether the node can be expected to process them.
        progress
            Called with the number of frames of each camera that have been sent.

        Returns
        -------
        list of Passage
            Of all frames, in the order of sending.

        """
        start = time.perf_counter()
        passages = []
        for number in range(count):
            while (left := start + number / rate - time.perf_counter()) > 0:
                self.spin(left)
            for camera in self._cameras:
                message = make(number) if make else None
                passages.append(self.passages[self.publish(message, None, camera, expected)])
            if progress is not None:
                progress(1)
        self.settle(passages)
        return passages

    def settle(self, passages: Sequence[Passage]) -> None:
        """Wait until all of these frames have come back, or none has for some time."""
        self._last_arrival = time.perf_counter()
        while not all(passage.complete for passage in passages):
            if time.perf_counter() > self._last_arrival + DRAIN_SECONDS:
                break
            self.spin(0.1)

    def wait_active(self) -> None:
        """Wait until the node receives and publishes, and a frame of each camera has passed."""
        self.wait_connected()
        # More than one may be under way then only if that took a second.
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
        """Wait until each of some publishers has a subscriber."""
        self.wait(
            lambda: all(p.get_subscription_count() for p in publishers), timeout, 'was not active'
        )

    def recover(self, timeout: float = ANSWER_TIMEOUT, period: float = 1 / RATE) -> float:
        """Publish good frames of every camera until one has passed; return the seconds."""
        started = time.perf_counter()
        for camera in self._cameras:
            passages: list[Passage] = []
            due = 0.0
            while not any(passage.complete for passage in passages):
                now = time.perf_counter()
                if now > started + timeout:
                    raise LiveError(f'the node gave no results within {timeout:.0f} s')
                if now >= due:
                    stamp = self.publish(camera=camera, expected=False)
                    passages.append(self.passages[stamp])
                    due = now + period
                self.spin(0.005)
        return time.perf_counter() - started

    def spin(self, seconds: float) -> None:
        """Receive for so long, or until something has arrived; raises if the node has ended."""
        if self.process is not None:
            self.process.check()
        self.executor.spin_once(timeout_sec=seconds)

    def wait(
        self,
        condition: Callable[[], Any],
        timeout: float = ANSWER_TIMEOUT,
        complaint: str = 'did not do what was waited for',
    ) -> Any:
        """
        Receive until a condition holds.

        Parameters
        ----------
        condition
            Asked after each arrival, and now and then.
        timeout
            Seconds.
        complaint
            What the node did where that is too long.

        Returns
        -------
        Any
            The condition's value.

        Raises
        ------
        LiveError
            The node has ended, or the time is over.

        """
        deadline = time.perf_counter() + timeout
        while not (value := condition()):
            if time.perf_counter() > deadline:
                raise LiveError(f'the node {complaint} within {timeout:.0f} s')
            self.spin(0.05)
        return value

    def status(self, camera: str | None = None) -> DiagnosticStatus:
        """
        Wait for a diagnostics status of the node (None) or of a camera; return it.

        It is made after the call: by its stamp, so the node must go by the system's clock.
        """
        now = time.time_ns()
        return self.wait(
            lambda: self._newest_status(camera, now), complaint='sent no diagnostics'
        )

    def counters(self, camera: str = '', new: bool = True) -> dict[str, int]:
        """Return what the diagnostics of a camera count; unless `new`, as far as received."""
        status = self.status(camera) if new else self._newest_status(camera)
        pairs = [] if status is None else status.values
        return {pair.key: int(pair.value) for pair in pairs if pair.value.isdecimal()}

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """Call one of the node's services; return its response."""
        with self.service(kind, service) as client:
            future = client.call_async(request)
            self.wait(future.done, complaint=f'did not answer {service}')
            return future.result()

    @contextlib.contextmanager
    def service(self, kind: Any, service: str) -> Iterator[Any]:
        """Make a client of one of the node's services, connected."""
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
        """Ask for a lifecycle transition; return whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, 'change_state', request).success)

    def _newest_status(self, camera: str | None, since: int = 0) -> DiagnosticStatus | None:
        name = self.name if camera is None else f"{self.name}: {camera or 'camera'}"
        stamp, status = self._statuses.get(name, (-1, None))
        return status if stamp >= since else None

    def _receiver(self, output: str) -> Callable[[Image], None]:
        def receive(message: Image) -> None:
            self._last_arrival = time.perf_counter()
            passage = self.passages.get(stamp_of(message))
            if passage is None or output not in passage.missing:
                self.surprises += 1
            else:
                passage.missing.remove(output)
                passage.received = self._last_arrival
            self.newest[output] = message

        return receive

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if any(status.name == self.name for status in message.status):
            self.diagnostics += 1
            stamp = stamp_of(message)
            self._statuses.update({status.name: (stamp, status) for status in message.status})
