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

"""The client of fault injection, which starts, stops and restarts its node."""

from collections.abc import Mapping, Sequence
import contextlib
from dataclasses import dataclass, field
import signal
import time
from typing import Any

from lednet_ros.benchmark.workload import draw_frames
from lednet_ros.live.client import (
    image_message,
    LiveError,
    NodeClient,
    NodeProcess,
    SEGMENTATION_NODE,
    START_TIMEOUT,
    STOP_TIMEOUT,
)
from lifecycle_msgs.msg import Transition
import numpy as np
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image

FRAME_SIZE = (96, 128)
PARAMETERS = {'input_size': FRAME_SIZE, 'device': 'cpu', 'diagnostics_period': 0.2}


@dataclass(frozen=True)
class Setup:
    """
    Setup of the node.

    Attributes
    ----------
    parameters
        Parameters of the node in addition to `PARAMETERS`.
    program, environment, wrapper
        See `NodeProcess`.
    cameras
        Names of the cameras; by default one unnamed camera.

    """

    parameters: Mapping[str, object] = field(default_factory=dict)
    program: Sequence[str] = (SEGMENTATION_NODE,)
    cameras: Sequence[str] = ('',)
    environment: Mapping[str, str] = field(default_factory=dict)
    wrapper: Sequence[str] = ()


def check(good: object, seen: str) -> None:
    """Raise LiveError with what was seen unless `good` holds."""
    if not good:
        raise LiveError(seen)


class Probe(NodeClient):
    """
    Starts a node, sends frames and records their results.

    Parameters
    ----------
    ros_node, executor, namespace
        See `NodeClient`.
    setup
        Setup of the node.

    """

    def __init__(
        self, ros_node: Node, executor: SingleThreadedExecutor, namespace: str, setup: Setup
    ) -> None:
        frames = draw_frames(FRAME_SIZE, 1)
        super().__init__(ros_node, executor, namespace, None, setup.cameras, frames=frames)
        self.setup = setup
        self._frame = frames[0]
        self._running = contextlib.ExitStack()

    @property
    def is_running(self) -> bool:
        """Return whether the node is running."""
        return self.process is not None and self.process.exit_code is None

    def start(self) -> None:
        """Start the node; wait until it has processed a frame of each camera."""
        values = {**PARAMETERS, **self.setup.parameters}
        if any(self.setup.cameras):
            values['cameras'] = self.setup.cameras
        self.process = self._running.enter_context(
            NodeProcess(
                self.namespace,
                values,
                self.setup.program,
                ros_arguments=['--disable-stdout-logs'],
                wrapper=self.setup.wrapper,
                environment=self.setup.environment,
            )
        )
        if not values.get('autostart', True):
            self.activate()
        self.recover(START_TIMEOUT)

    def stop(self, number: signal.Signals = signal.SIGINT) -> float:
        """Send a signal; return the seconds until the node has ended with exit code 0."""
        started = time.perf_counter()
        self.target.signal(number)
        code = self.target.wait(STOP_TIMEOUT)
        check(code == 0, f'exit code {code} after {number.name}')
        return time.perf_counter() - started

    def restart(self) -> None:
        """Stop the node and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the node if it runs, and remove the topics."""
        self._running.close()
        super().close()

    def make(self, pixels: NDArray[Any] | None = None, encoding: str = 'bgr8') -> Image:
        """Make a message of a frame, by default of the synthetic street."""
        return image_message(self._frame if pixels is None else pixels, encoding)

    def lost(self) -> int:
        """Count the frames that the node was expected to process but did not."""
        return sum(p.expected and not p.complete for p in self.passages.values())

    def activate(self) -> None:
        """Activate the node from any state."""
        state = self.state()
        if state == 'unconfigured':
            check(self.change_state(Transition.TRANSITION_CONFIGURE), 'configure failed')
            state = 'inactive'
        if state == 'inactive':
            check(self.change_state(Transition.TRANSITION_ACTIVATE), 'activate failed')

    def order_frame(self, order: int, number: int = 0) -> Image:
        """Make a frame that requests a failure, see `FaultyBackend`."""
        pixels = np.zeros_like(self._frame)
        pixels[0, 0, :2] = order, number
        return self.make(pixels)
