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

"""Observes the node from outside, as any subscriber would, and records what it receives."""

from collections import deque
from collections.abc import Callable
from functools import partial
import time
from typing import Any

import cv2
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.inference.encodings import decode_message
from lednet_ros.labels import LabelMap
from lednet_ros.live.client import NodeClient, pixels_of, stamp_of
from lednet_ros.live.contact_sheet import Sample, SampleKeeper
from lednet_ros.recordings.bags import IMAGE_TYPE
from lednet_ros.recordings.writers import BagWriter, VideoWriter
import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

RATE_WINDOW = 3.0
# Frames that still lack a result; older ones were dropped by the node.
PENDING = 64


class Monitor:
    """
    Subscribes to the camera and to the node's outputs.

    Parameters
    ----------
    client
        Client of the node.
    label_map
        The classes of the node.
    expects_truth
        Whether the camera publishes `ground_truth`.
    truth_matches
        Whether the ground truth uses the same classes.
    bag, video
        Writers of the recordings; the caller closes them.

    Attributes
    ----------
    samples : SampleKeeper
        Complete frames for the contact sheet.
    confusion : ConfusionMatrix
        Of complete frames with matching ground truth.
    frames_out : int
        Number of label images received.
    frames_complete : int
        Number of frames of which all topics were received.
    latencies : list of float
        Seconds from a frame to its labels, both as received here.
    pixels : ndarray
        Number of pixels of each id over all label images, (256,) int64.
    recent_in, recent_out : deque of float
        Arrival times of the latest frames and label images, seconds.

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
        self.samples = SampleKeeper()
        self.confusion = ConfusionMatrix(label_map)
        self.frames_out = self.frames_complete = 0
        self.latencies: list[float] = []
        self.pixels = np.zeros(256, np.int64)
        self.recent_in: deque[float] = deque()
        self.recent_out: deque[float] = deque()
        self._expected = {'frame', 'labels', 'overlay', *(['truth'] if expects_truth else [])}
        self._truth_matches = truth_matches
        self._bag = bag
        self._video = video
        # What has arrived of each frame, by stamp.
        self._pending: dict[int, dict[str, Any]] = {}
        for topic, handler in (
            (f'{client.namespace}/image', self._on_frame),
            (f'{client.namespace}/ground_truth', self._on_truth),
            (f'{client.name}/labels', self._on_labels),
            (f'{client.name}/overlay', self._on_overlay),
        ):
            # Serialized messages go into the bag unchanged.
            client.subscribe(Image, topic, partial(self._receive, topic, handler), raw=True)

    def rate(self, recent: deque[float]) -> float:
        """Return arrivals per second over the last `RATE_WINDOW` seconds."""
        now = time.perf_counter()
        while recent and now - recent[0] > RATE_WINDOW:
            recent.popleft()
        return len(recent) / RATE_WINDOW

    def _receive(self, topic: str, handler: Callable[[int, Image], None], data: bytes) -> None:
        message = deserialize_message(data, Image)
        stamp = stamp_of(message)
        self._bag.write(topic, IMAGE_TYPE, stamp, data)
        handler(stamp, message)

    def _on_frame(self, stamp: int, message: Image) -> None:
        self.recent_in.append(time.perf_counter())
        self._add(stamp, frame=_bgr(message), seen_at=self.recent_in[-1])

    def _on_truth(self, stamp: int, message: Image) -> None:
        self._add(stamp, truth=pixels_of(message))

    def _on_labels(self, stamp: int, message: Image) -> None:
        now = time.perf_counter()
        labels = pixels_of(message)
        self.frames_out += 1
        self.recent_out.append(now)
        self.pixels += np.bincount(labels.ravel(), minlength=256)
        parts = self._add(stamp, labels=labels)
        if 'seen_at' in parts:
            self.latencies.append(now - parts['seen_at'])

    def _on_overlay(self, stamp: int, message: Image) -> None:
        overlay = _bgr(message)
        self._video.write(stamp, overlay)
        self._add(stamp, overlay=overlay)

    def _add(self, stamp: int, **arrived: Any) -> dict[str, Any]:
        """Add parts of a frame, and take the frame if it is complete; return all its parts."""
        parts = self._pending.setdefault(stamp, {})
        parts |= arrived
        if parts.keys() >= self._expected:
            del self._pending[stamp]
            self.frames_complete += 1
            truth = parts.get('truth') if self._truth_matches else None
            if truth is not None and truth.shape == parts['labels'].shape:
                self.confusion.update(truth, parts['labels'])
            sample = Sample(parts['frame'], parts['overlay'], parts['labels'], truth)
            self.samples.offer(sample)
        elif len(self._pending) > PENDING:
            del self._pending[next(iter(self._pending))]
        return parts


def _bgr(message: Image) -> NDArray[np.uint8]:
    frame = decode_message(message)
    if frame.color_order == 'rgb':
        return cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR)
    return frame.pixels
