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

"""The thread that builds and runs the network, next to the executor's thread."""

from collections.abc import Callable, Sequence, Set
from concurrent.futures import Future, wait
from dataclasses import dataclass
from queue import SimpleQueue
import threading
import time
from typing import Any

from lednet_ros.inference.backends.base import Outputs, Wanted
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.ros.camera import Camera, LATE_TOPICS, Outbox
from lednet_ros.ros.health import ThrottledLog
from lednet_ros.ros.messages import decode_image
from lednet_ros.ros.slots import Arrival, FrameSlots

POLL_PERIOD = 0.02


# Batches that may fail in a row, outside the network.
MAX_ERRORS = 3


class WorkerFailure(RuntimeError):
    """The worker can't go on; the message says why."""


class InferenceThread:
    """
    A thread on which the network is built, warmed up and run.

    All three must be done by one thread: PyTorch plans convolutions for each thread. A network
    that hangs doesn't keep the process from ending.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name='inference', daemon=True).start()

    def call(self, task: Callable[[], Any], while_waiting: Callable[[], object]) -> Any:
        """
        Run a task, wait for its end and return its result or raise its exception.

        Every `POLL_PERIOD` s, `while_waiting` is called on the caller's thread.
        """
        future = self.submit(task)
        # Waiting on a condition, where two signals arrive at once, can lose what the handler of
        # the first one raises to end the process.
        while not future.done():
            time.sleep(POLL_PERIOD)
            while_waiting()
        return future.result()

    def submit(self, task: Callable[[], Any]) -> 'Future[Any]':
        """Start a task after those before it; return the future of its result."""
        future: Future[Any] = Future()
        self._tasks.put((future, task))
        return future

    def close(self) -> None:
        """Let the thread end after the tasks that were submitted."""
        self._tasks.put(None)

    def _run(self) -> None:
        while (item := self._tasks.get()) is not None:
            future, task = item
            # What waits for the future may rely on this thread holding nothing any more: a network
            # on a GPU is freed with its last reference.
            del item
            try:
                result = task()
            except BaseException as error:
                del task
                future.set_exception(error)
            else:
                del task
                future.set_result(result)
                del result
            del future


@dataclass(eq=False)
class _Job:
    """A frame under way, and its results."""

    camera: Camera
    frame: Frame
    outbox: Outbox
    outputs: Outputs

    @property
    def contents(self) -> set[str]:
        """Return the images to compute."""
        return _contents(self.outbox.topics)


class InferenceWorker:
    """
    Takes the newest frames, segments them as one batch and lets their cameras fill messages.

    When the network raises, the batch is tried once more on a fresh backend. When that raises
    too, or several batches in a row fail elsewhere, it ends with a `failure`.

    Parameters
    ----------
    thread
        The thread that built the network, which runs the worker.
    segmenter
        The network.
    cameras
        The cameras, in the order of the slots.
    slots
        Where frames arrive.
    notify
        Called from the thread when messages are ready to be published, or when the worker has
        ended with a failure.
    log
        For errors and dropped frames.

    Attributes
    ----------
    failure : WorkerFailure or None
        Why the worker has ended.
    restarts : int
        How many times the backend was replaced by a fresh one.

    """

    def __init__(
        self,
        thread: InferenceThread,
        segmenter: Segmenter,
        cameras: Sequence[Camera],
        slots: FrameSlots,
        notify: Callable[[], object],
        log: ThrottledLog,
    ) -> None:
        self.failure: WorkerFailure | None = None
        self.restarts = 0
        self._thread = thread
        self._segmenter = segmenter
        self._cameras = cameras
        self._slots = slots
        self._notify = notify
        self._log = log
        # The thread's current stage and its start, for a watchdog on another thread.
        self._stage = ('', 0.0)
        self._stopping = False
        self._done: list[Future[Any]] = []

    def start(self) -> None:
        """Start to take frames."""
        self._done.append(self._thread.submit(self._run))

    def stop(self, timeout: float) -> bool:
        """Finish the batch in progress and end; return whether that took at most `timeout` s."""
        self._stopping = True
        for arrival in self._slots.close():
            self._cameras[arrival.camera].statistics.count('dropped')
        for camera in self._cameras:
            camera.stop_waiting()
        return not wait(self._done, timeout).not_done

    def find_overdue_stage(self, bound: float) -> str:
        """Describe the current stage if it has taken `bound` seconds; otherwise return ''."""
        name, since = self._stage
        seconds = time.perf_counter() - since
        if not name or seconds < bound:
            return ''
        return f"stage '{name}' has been running for {seconds:.1f} s (bound: {bound:g} s)"

    def _run(self) -> None:
        errors = 0
        while self.failure is None:
            batch: list[_Job] = []
            try:
                if (arrivals := self._slots.take()) is None:
                    return
                for arrival in arrivals:
                    self._enter('decode')
                    if (job := self._begin(arrival)) is not None:
                        batch.append(job)
                self._process(batch)
                errors = 0
            except Exception as error:
                for job in batch:
                    job.camera.fail(job.outbox, error)
                errors += 1
                if isinstance(error, WorkerFailure):
                    self.failure = error
                elif errors == MAX_ERRORS:
                    self.failure = WorkerFailure(f'{errors} batches in a row failed: {error!r}')
                else:
                    self._log.error('worker', f'a batch failed: {error!r}')
                self._notify()
            self._enter('')

    def _process(self, batch: list[_Job]) -> None:
        # ~/camera_info alone doesn't need the network.
        jobs = [job for job in batch if job.contents]
        if jobs:
            wanted = _wanted(set[str]().union(*(job.contents for job in jobs)))
            results = self._segment([job.frame for job in jobs], wanted)
            for job, outputs in zip(jobs, results, strict=True):
                job.outputs = outputs
        self._enter('messages')
        late = [job for job in batch if job.outbox.topics & LATE_TOPICS]
        for job in batch:
            self._fill(job, job.outbox.topics - LATE_TOPICS, job not in late)
        self._notify()
        for job in late:
            self._enter('messages')
            self._fill(job, job.outbox.topics & LATE_TOPICS, True)
        if late:
            self._notify()

    def _fill(self, job: _Job, topics: Set[str], is_last: bool) -> None:
        if job.outbox.closed:
            return
        try:
            self._segmenter.draw([job.frame], [job.outputs], _wanted(_contents(topics)))
            job.camera.fill(job.outbox, topics, job.outputs, job.frame.color_order, is_last)
        except Exception as error:
            # A frame that can't be put into a message mustn't stop those that can.
            job.camera.fail(job.outbox, error)

    def _segment(self, frames: list[Frame], wanted: Wanted) -> list[Outputs]:
        self._enter('network')
        try:
            return self._segmenter.run(frames, wanted)
        except Exception as error:
            first = repr(error)
        if self._stopping:
            raise WorkerFailure(f'the network failed: {first}')
        self._log.error(
            'network', f'the network failed: {first}; trying again on a fresh backend'
        )
        self._enter('restart')
        try:
            self._segmenter.restart()
            self.restarts += 1
            return self._segmenter.run(frames, wanted)
        except Exception as error:
            raise WorkerFailure(f'the network failed on two backends: {error!r}') from error

    def _enter(self, stage: str) -> None:
        self._stage = (stage, time.perf_counter())

    def _begin(self, arrival: Arrival) -> _Job | None:
        camera = self._cameras[arrival.camera]
        try:
            frame = decode_image(arrival.message)
            outbox = camera.begin(arrival)
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
        else:
            if outbox is not None:
                height, width, _ = frame.pixels.shape
                size = self._segmenter.output_size or (height, width)
                return _Job(camera, frame, outbox, Outputs(size))
        return None


def _contents(topics: Set[str]) -> set[str]:
    """Return the images that topics need."""
    return {topic.partition('/')[0] for topic in topics} - {'camera_info'}


def _wanted(contents: Set[str]) -> Wanted:
    return Wanted('confidence' in contents, 'overlay' in contents, 'color' in contents)
