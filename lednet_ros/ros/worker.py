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

"""The thread that runs the network, next to the executor's thread."""

from collections.abc import Callable, Sequence
import threading
import time

from lednet_ros.inference.backends.base import Outputs, Wanted
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.ros.camera import Camera
from lednet_ros.ros.health import ThrottledLog
from lednet_ros.ros.messages import decode_compressed_image, decode_image
from lednet_ros.ros.slots import Arrival, FrameSlots
from sensor_msgs.msg import Image


class BackendFailure(RuntimeError):
    """The network failed on two backends, one after the other; the message is the last error."""


class InferenceWorker:
    """
    Takes the newest frames, segments them as one batch and lets their cameras fill messages.

    When the network raises, the batch is tried once more on a fresh backend. When that raises
    too, the thread ends with a `failure`.

    Parameters
    ----------
    segmenter
        The network.
    cameras
        The cameras, in the order of the slots.
    slots
        Where frames arrive.
    notify
        Called from the worker's thread when messages are ready to be published, or when the
        thread has ended with a failure.
    log
        For errors and dropped frames.

    Attributes
    ----------
    failure : BackendFailure or None
        Why the thread has ended.
    restarts : int
        How many times the backend was replaced by a fresh one.

    """

    def __init__(
        self,
        segmenter: Segmenter,
        cameras: Sequence[Camera],
        slots: FrameSlots,
        notify: Callable[[], object],
        log: ThrottledLog,
    ) -> None:
        self.failure: BackendFailure | None = None
        self.restarts = 0
        self._segmenter = segmenter
        self._cameras = cameras
        self._slots = slots
        self._notify = notify
        self._log = log
        # The thread's current stage and its start, for a watchdog on another thread.
        self._stage = ('', 0.0)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Let the thread finish its batch and end; return whether it did within `timeout` s."""
        self._stopping = True
        for arrival in self._slots.close():
            self._cameras[arrival.camera].statistics.count('dropped')
        for camera in self._cameras:
            camera.stop_waiting()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def find_overdue_stage(self, bound: float) -> str:
        """Describe the current stage if it has taken `bound` seconds; otherwise return ''."""
        name, since = self._stage
        seconds = time.perf_counter() - since
        if not name or seconds < bound:
            return ''
        return f"stage '{name}' has been running for {seconds:.1f} s (bound: {bound:g} s)"

    def _run(self) -> None:
        while (arrivals := self._slots.take()) is not None:
            self._enter('decode')
            batch = [
                (arrival, frame)
                for arrival in arrivals
                if (frame := self._decode(arrival)) is not None
            ]
            if batch:
                try:
                    self._process(batch)
                except BackendFailure as failure:
                    for arrival, _ in batch:
                        self._cameras[arrival.camera].statistics.count('failed')
                    self._enter('')
                    self.failure = failure
                    self._notify()
                    return
            self._enter('')

    def _process(self, batch: list[tuple[Arrival, Frame]]) -> None:
        topics = [self._cameras[arrival.camera].wanted() for arrival, _ in batch]
        contents = {topic.partition('/')[0] for wanted in topics for topic in wanted}
        results = self._segment(
            [frame for _, frame in batch],
            Wanted('confidence' in contents, 'overlay' in contents, 'color' in contents),
        )
        self._enter('messages')
        for (arrival, frame), wanted, outputs in zip(batch, topics, results, strict=True):
            self._cameras[arrival.camera].fill(wanted, outputs, frame.color_order, arrival)
        self._notify()

    def _segment(self, frames: list[Frame], wanted: Wanted) -> list[Outputs]:
        self._enter('network')
        try:
            return self._segmenter.run(frames, wanted)
        except Exception as error:
            first = repr(error)
        if self._stopping:
            raise BackendFailure(first)
        self._log.error(
            'network', f'the network failed: {first}; trying again on a fresh backend'
        )
        self._enter('restart')
        try:
            self._segmenter.restart()
            self.restarts += 1
            return self._segmenter.run(frames, wanted)
        except Exception as error:
            raise BackendFailure(repr(error)) from error

    def _enter(self, stage: str) -> None:
        self._stage = (stage, time.perf_counter())

    def _decode(self, arrival: Arrival) -> Frame | None:
        camera = self._cameras[arrival.camera]
        try:
            if isinstance(arrival.message, Image):
                return decode_image(arrival.message)
            return decode_compressed_image(arrival.message)
        except FrameError as error:
            camera.statistics.count(f'rejected:{error.reason}')
            self._log.warn(
                f'{camera.name} {error.reason}',
                f"frame of '{camera.image_topic}' dropped: {error}",
            )
        except Exception as error:
            # Out of memory, for example; the next frame may be smaller.
            camera.statistics.count('failed')
            self._log.error('decode', f"frame of '{camera.image_topic}' failed: {error!r}")
        return None
