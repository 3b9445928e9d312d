# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The thread that runs the network, beside the executor's thread."""

from collections import deque
from collections.abc import Callable, Sequence
import threading
from typing import Any

from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.inference.segmenter import Segmentation, Segmenter
from lednet_ros.ros.camera import Camera, Outbox
from lednet_ros.ros.codec import decode_compressed_image, decode_image
from lednet_ros.ros.slots import Arrival, FrameSlots
from sensor_msgs.msg import Image


class InferenceWorker:
    """
    Takes the newest frames, segments them as one batch and fills messages.

    Parameters
    ----------
    segmenter
        The network.
    cameras
        The cameras, in the order of the slots.
    slots
        Where frames arrive.
    jpeg_quality
        Gives the quality of compressed overlays.
    notify
        Called when messages are ready to be published, from the worker's thread.
    warn, error
        Called with a key, by which repetitions are throttled, and a text.

    """

    def __init__(
        self,
        segmenter: Segmenter,
        cameras: Sequence[Camera],
        slots: FrameSlots,
        jpeg_quality: Callable[[], int],
        notify: Callable[[], None],
        warn: Callable[[str, str], None],
        error: Callable[[str, str], None],
    ) -> None:
        self._segmenter = segmenter
        self._cameras = cameras
        self._slots = slots
        self._jpeg_quality = jpeg_quality
        self._notify = notify
        self._warn = warn
        self._error = error
        self._finished: deque[tuple[Camera, Outbox]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Let the batch under way end and stop the thread; waits `timeout` seconds at most."""
        self._stopping = True
        self._slots.close()
        for camera in self._cameras:
            # Wakes a worker that waits for an outbox which nobody is going to publish any more.
            camera.free_outboxes.put(None)
        self._thread.join(timeout)

    def publish_finished(self) -> None:
        """Publish what is ready; called on the executor's thread."""
        while self._finished:
            camera, outbox = self._finished.popleft()
            camera.publish(outbox)

    def _run(self) -> None:
        while (arrivals := self._slots.take()) is not None:
            batch = [
                (arrival, frame)
                for arrival in arrivals
                if (frame := self._decode(arrival)) is not None
            ]
            try:
                if batch:
                    self._process(batch)
            except Exception as error:
                # Whatever went wrong with this batch, the thread must live on for the next one.
                if not self._stopping:
                    for arrival, _ in batch:
                        self._cameras[arrival.camera].statistics.count('failed')
                    self._error('batch', f'a batch of {len(batch)} frames failed: {error!r}')

    def _process(self, batch: list[tuple[Arrival, Frame]]) -> None:
        wanted = [self._cameras[arrival.camera].wanted() for arrival, _ in batch]
        contents = {topic.partition('/')[0] for topics in wanted for topic in topics}
        segmentation = self._segmenter.segment(
            [frame for _, frame in batch],
            confidence='confidence' in contents,
            overlay='overlay' in contents,
            color='color' in contents,
        )
        for index, (arrival, frame) in enumerate(batch):
            camera = self._cameras[arrival.camera]
            outbox = camera.free_outboxes.get()
            if outbox is None:
                return
            try:
                camera.fill(
                    outbox,
                    wanted[index],
                    _results(segmentation, index),
                    f'{frame.color_order}8',
                    self._jpeg_quality(),
                    arrival.message.header,
                    arrival.time,
                )
            except Exception:
                camera.free_outboxes.put(outbox)
                raise
            self._finished.append((camera, outbox))
        self._notify()

    def _decode(self, arrival: Arrival) -> Frame | None:
        camera = self._cameras[arrival.camera]
        try:
            if isinstance(arrival.message, Image):
                return decode_image(arrival.message)
            return decode_compressed_image(arrival.message)
        except FrameError as error:
            camera.statistics.count(f'rejected:{error.reason}')
            self._warn(
                f'{camera.name} {error.reason}',
                f"frame of '{camera.image_topic}' dropped: {error}",
            )
            return None


def _results(segmentation: Segmentation, index: int) -> dict[str, Any]:
    return {
        name: arrays[index]
        for name in ('labels', 'confidence', 'overlay', 'color')
        if (arrays := getattr(segmentation, name)) is not None
    }
