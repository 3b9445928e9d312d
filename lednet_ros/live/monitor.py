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

"""Watches the node from outside, as any subscriber would, and records what it sees."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
import time

import cv2
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.labels import LabelMap
from lednet_ros.live.client import NodeClient, pixels_of, stamp_of
from lednet_ros.live.contact_sheet import Sample, SampleKeeper
from lednet_ros.recordings.bags import IMAGE_TYPE
from lednet_ros.recordings.writers import BagWriter, VideoWriter
from lednet_ros.ros.messages import decode_image
from lednet_ros.ros.statistics import percentiles_ms
import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

RATE_WINDOW = 3.0
# Frames whose results are still awaited; older ones were dropped by the node.
PENDING = 64


@dataclass
class FrameRecord:
    """Messages received for one stamp."""

    seen_at: float = 0.0
    frame: NDArray[np.uint8] | None = None
    truth: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint8] | None = None
    overlay: NDArray[np.uint8] | None = None


@dataclass
class Figures:
    """
    Content of the table.

    Attributes
    ----------
    frames_out
        Label images seen.
    latencies
        Seconds from the frame to its labels, both as seen by the monitor.
    pixels
        Pixels of each id over all label images, (256,).
    recent_in, recent_out
        When the newest frames and label images were seen, seconds.

    """

    frames_out: int = 0
    latencies: list[float] = field(default_factory=list)
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    recent_in: deque[float] = field(default_factory=deque)
    recent_out: deque[float] = field(default_factory=deque)

    def latency_ms(self) -> tuple[float, float, float]:
        """Return the 50th, 95th and 99th percentile in milliseconds."""
        return percentiles_ms(self.latencies)

    def rate(self, recent: deque[float]) -> float:
        """Return events per second over the last seconds."""
        now = time.perf_counter()
        while recent and now - recent[0] > RATE_WINDOW:
            recent.popleft()
        return len(recent) / RATE_WINDOW


class Monitor:
    """
    Subscribes to the camera and to the node's outputs.

    Parameters
    ----------
    client
        Of the node.
    label_map
        The classes of the node.
    expects_truth
        Whether the camera publishes `ground_truth`.
    truth_matches
        Whether the ground truth uses the same classes.
    bag, video
        Where to record; the caller closes them.

    """

    def __init__(
        self,
        client: NodeClient,
        label_map: LabelMap,
        expects_truth: bool,
        truth_matches: bool,
        bag: BagWriter,
        video: VideoWriter,
    ) -> None:
        self.figures = Figures()
        self.samples = SampleKeeper()
        self.confusion = ConfusionMatrix(label_map)
        self._expects_truth = expects_truth
        self._truth_matches = truth_matches
        self._bag = bag
        self._video = video
        self._pending: dict[int, FrameRecord] = {}
        for topic, handler in (
            (f'{client.namespace}/image', self._on_frame),
            (f'{client.namespace}/ground_truth', self._on_truth),
            (f'{client.name}/labels', self._on_labels),
            (f'{client.name}/overlay', self._on_overlay),
        ):
            # Serialized messages go into the bag as they came.
            client.subscribe(Image, topic, partial(self._receive, topic, handler), raw=True)

    def _receive(self, topic: str, handler: Callable[[int, Image], None], data: bytes) -> None:
        message = deserialize_message(data, Image)
        stamp = stamp_of(message)
        self._bag.write(topic, IMAGE_TYPE, stamp, data)
        handler(stamp, message)

    def _on_frame(self, stamp: int, message: Image) -> None:
        record = self._record(stamp)
        record.seen_at = time.perf_counter()
        record.frame = _bgr(message)
        self.figures.recent_in.append(record.seen_at)
        self._finish(stamp, record)

    def _on_truth(self, stamp: int, message: Image) -> None:
        record = self._record(stamp)
        record.truth = pixels_of(message)
        self._finish(stamp, record)

    def _on_labels(self, stamp: int, message: Image) -> None:
        now = time.perf_counter()
        record = self._record(stamp)
        record.labels = pixels_of(message)
        self.figures.frames_out += 1
        self.figures.recent_out.append(now)
        self.figures.pixels += np.bincount(record.labels.ravel(), minlength=256)
        if record.seen_at:
            self.figures.latencies.append(now - record.seen_at)
        self._finish(stamp, record)

    def _on_overlay(self, stamp: int, message: Image) -> None:
        record = self._record(stamp)
        record.overlay = _bgr(message)
        self._video.write(stamp, record.overlay)
        self._finish(stamp, record)

    def _record(self, stamp: int) -> FrameRecord:
        record = self._pending.setdefault(stamp, FrameRecord())
        while len(self._pending) > PENDING:
            self._pending.pop(next(iter(self._pending)))
        return record

    def _finish(self, stamp: int, record: FrameRecord) -> None:
        """Take a frame whose parts have all arrived."""
        if record.frame is None or record.labels is None or record.overlay is None:
            return
        if record.truth is None and self._expects_truth:
            return
        del self._pending[stamp]
        truth = record.truth if self._truth_matches else None
        if truth is not None and truth.shape == record.labels.shape:
            self.confusion.update(truth, record.labels)
        self.samples.offer(Sample(record.frame, record.overlay, record.labels, truth))


def _bgr(message: Image) -> NDArray[np.uint8]:
    frame = decode_image(message)
    if frame.color_order == 'rgb':
        return cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR)
    return frame.pixels
