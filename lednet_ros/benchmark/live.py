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

"""Nodes as processes of their own, and a camera that knows when its results come back."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
from dataclasses import dataclass
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time

from lednet_ros.ros.camera import output_qos
from lednet_ros.ros.messages import fill_image
from lednet_ros.ros.process import keep_large_buffers, use_shipped_profile
import numpy as np
from numpy.typing import NDArray
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

RESULTS = ('labels', 'overlay')
START_TIMEOUT = 120.0
STOP_TIMEOUT = 10.0
# After the last frame, results may still be under way.
DRAIN_SECONDS = 2.0


class BenchmarkError(RuntimeError):
    """A benchmark can't go on; the message says why."""


@dataclass(frozen=True)
class LiveNode:
    """
    A node under test.

    Attributes
    ----------
    namespace
        Where its topics are.
    process
        Its process.

    """

    namespace: str
    process: 'subprocess.Popen[bytes]'

    @property
    def pid(self) -> int:
        """Give the number of the process."""
        return self.process.pid

    def wait(self, timeout: float) -> None:
        """Wait until the process ends."""
        self.process.wait(timeout)

    def cpu_seconds(self) -> float:
        """Give the processor time that the process has used."""
        fields = Path(f'/proc/{self.pid}/stat').read_text().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def memory_mib(self) -> float:
        """Give the resident memory of the process."""
        pages = int(Path(f'/proc/{self.pid}/statm').read_text().split()[1])
        return pages * os.sysconf('SC_PAGE_SIZE') / 2**20

    def threads(self) -> int:
        """Give the number of threads of the process."""
        return len(list(Path(f'/proc/{self.pid}/task').iterdir()))

    def open_files(self) -> int:
        """Give the number of files, sockets and the like that the process has open."""
        return len(list(Path(f'/proc/{self.pid}/fd').iterdir()))


@contextlib.contextmanager
def live_node(
    kind: str,
    network: str,
    namespace: str,
    checkpoint: str,
    input_size: tuple[int, int],
    node_parameters: Sequence[str] = (),
) -> Iterator[LiveNode]:
    """
    Start a node as a process, and stop it at the end.

    Parameters
    ----------
    kind, network, checkpoint, input_size
        See `lednet_ros.benchmark.nodes`.
    namespace
        Where its topics shall be, like '/ours'.
    node_parameters
        More of them, like 'num_threads:=2'.

    """
    command = [
        sys.executable, '-m', 'lednet_ros.benchmark.nodes', kind, network, checkpoint,
        *map(str, input_size), '--ros-args', '-r', f'__ns:={namespace}',
    ]
    for parameter in node_parameters:
        command += ['-p', parameter]
    with tempfile.TemporaryFile('w+') as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield LiveNode(namespace, process)
        finally:
            ended = process.poll() is not None
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if ended:
                log.seek(0)
                raise BenchmarkError(f'{kind} node ended by itself: {log.read()[-2000:]}')


@dataclass
class Passage:
    """When a frame was sent and when its results came back, seconds; 0 for not at all."""

    camera: int
    sent: float
    labels: float = 0.0
    overlay: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether all results have come back."""
        return bool(self.labels and self.overlay)

    @property
    def latency(self) -> float:
        """Seconds from the call that published the frame to the last of its results."""
        return max(self.labels, self.overlay) - self.sent


class Driver:
    """
    Cameras for one node: publishes frames and notes when labels and overlays come back.

    Parameters
    ----------
    node
        Of this process.
    executor
        Spins the node.
    target
        The node under test.
    frames
        What to publish, in turns: (height, width, 3) uint8 BGR.
    cameras
        Their names; one camera without a name by default.

    Attributes
    ----------
    passages : dict of int to Passage
        Of the frames that were sent since the last start of `play`.
    surprises : int
        Results that are of none of these frames, or came twice.

    """

    def __init__(
        self,
        node: Node,
        executor: SingleThreadedExecutor,
        target: LiveNode,
        frames: Sequence[NDArray[np.uint8]],
        cameras: Sequence[str] = ('',),
    ) -> None:
        self.target = target
        self.passages: dict[int, Passage] = {}
        self._executor = executor
        self._publishers = []
        self._subscriptions = {}
        self._node = node
        self.surprises = 0
        self._number = 0
        self._messages = []
        for frame in frames:
            message = Image()
            fill_image(message, frame, 'bgr8', Header(frame_id='camera'))
            self._messages.append(message)
        for camera in cameras:
            folder = f'/{camera}' if camera else ''
            self._publishers.append(
                node.create_publisher(Image, f'{target.namespace}{folder}/image', output_qos())
            )
            for result in RESULTS:
                topic = f'{target.namespace}/segmentation_node{folder}/{result}'
                self._subscriptions[topic] = node.create_subscription(
                    Image, topic, self._receiver(result), output_qos()
                )

    def close(self) -> None:
        """Remove the topics."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)

    def wait(self) -> None:
        """
        Wait until the node receives and all its results are received, and one frame has passed.

        Raises
        ------
        BenchmarkError
            That didn't happen in time.

        """
        deadline = time.perf_counter() + START_TIMEOUT
        while not (
            all(publisher.get_subscription_count() for publisher in self._publishers)
            and all(self._node.count_publishers(topic) for topic in self._subscriptions)
        ):
            self._spin(deadline, f'{self.target.namespace} did not start')
        for camera in range(len(self._publishers)):
            while True:
                # The first frames may go before the far side has matched.
                stamp = self.publish(camera)
                again = time.perf_counter() + 1.0
                while time.perf_counter() < again and not self.passages[stamp].complete:
                    self._spin(deadline, f'{self.target.namespace} gave no results')
                if self.passages[stamp].complete:
                    break
        self.passages.clear()

    def publish(self, camera: int = 0) -> int:
        """Publish the next frame; give the number by which its passage is noted."""
        self._number += 1
        message = self._messages[self._number % len(self._messages)]
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self._number, 1000)
        self.passages[self._number] = Passage(camera, time.perf_counter())
        self._publishers[camera].publish(message)
        return self._number

    def pass_one(self, timeout: float = 10.0) -> float:
        """Publish a frame and wait for its results; gives the latency in seconds, or NaN."""
        stamp = self.publish()
        deadline = time.perf_counter() + timeout
        while not self.passages[stamp].complete:
            if time.perf_counter() > deadline:
                return float('nan')
            self._executor.spin_once(timeout_sec=0.1)
        return self.passages[stamp].latency

    def play(
        self,
        rate: float,
        seconds: float,
        progress: Callable[[int], object] | None = None,
    ) -> list[Passage]:
        """
        Publish at a fixed rate from all cameras, whatever comes back.

        Parameters
        ----------
        rate
            Frames per second of each camera.
        seconds
            How long.
        progress
            Called with the number of rounds that have passed.

        Returns
        -------
        list of Passage
            Of all frames, in the order of sending.

        """
        self.passages.clear()
        rounds = round(rate * seconds)
        start = time.perf_counter()
        for number in range(rounds):
            due = start + number / rate
            while (left := due - time.perf_counter()) > 0:
                self._executor.spin_once(timeout_sec=left)
            for camera in range(len(self._publishers)):
                self.publish(camera)
            if progress is not None:
                progress(1)
        end = time.perf_counter() + DRAIN_SECONDS
        while time.perf_counter() < end and not all(p.complete for p in self.passages.values()):
            self._executor.spin_once(timeout_sec=0.1)
        return list(self.passages.values())

    def _receiver(self, result: str) -> Callable[[Image], None]:
        def receive(message: Image) -> None:
            stamp = message.header.stamp
            passage = self.passages.get(stamp.sec * 1000 + stamp.nanosec)
            if passage is None or getattr(passage, result):
                self.surprises += 1
            else:
                setattr(passage, result, time.perf_counter())

        return receive

    def _spin(self, deadline: float, complaint: str) -> None:
        if self.target.process.poll() is not None:
            raise BenchmarkError(f'{self.target.namespace} has ended')
        if time.perf_counter() > deadline:
            raise BenchmarkError(f'{complaint} within {START_TIMEOUT:.0f} s')
        self._executor.spin_once(timeout_sec=0.05)


@contextlib.contextmanager
def benchmark_session() -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    """Give a node and its executor, with the shipped Fast DDS profile here and in children."""
    use_shipped_profile()
    keep_large_buffers()
    # Ctrl-C ends the benchmark, not this process's part of ROS under its feet.
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    node = Node('benchmark_camera')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
