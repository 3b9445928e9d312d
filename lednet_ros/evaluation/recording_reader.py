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

"""Frames of a bag with their ground truth, matched by stamp."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import time

from lednet_ros.evaluation.ground_truth import (
    list_label_files,
    match_stamps,
    read_label_file,
    read_label_message,
)
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.bags import (
    Bag,
    BagMessage,
    BagTopic,
    decode_image,
    format_stamp,
    IMAGE_TYPES,
    SourceError,
)
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TruthSource:
    """
    Source of the ground truth; none by default.

    Attributes
    ----------
    topic
        Of the bag.
    folder
        With files named by stamp, see `list_label_files`.
    slop
        Largest difference of the stamps in nanoseconds.

    """

    topic: str | None = None
    folder: Path | None = None
    slop: int = 0


@dataclass(frozen=True)
class LoadedFrame:
    """
    A frame with its ground truth, as the reading thread leaves it.

    Attributes
    ----------
    index, stamp, label_stamp
        See `FrameFigures`.
    message
        Where it was in the bag.
    frame
        None if it could not be decoded.
    reason
        Why not; empty otherwise.
    truth
        (H, W) uint8 class ids, or None.
    milliseconds
        Time to read it.

    """

    index: int
    stamp: int
    label_stamp: int | None
    message: BagMessage
    frame: Frame | None
    reason: str
    truth: NDArray[np.uint8] | None
    milliseconds: float


class RecordingReader:
    """
    Frames of a bag with their ground truth.

    Parameters
    ----------
    bag
        The open bag.
    image_topic
        None takes the only one that is not the ground truth.
    truth
        Where the ground truth is.
    label_map
        Its classes.

    Attributes
    ----------
    topic : BagTopic
        Of the images.
    unmatched_images, unmatched_labels : list of int
        Stamps without a partner.

    Raises
    ------
    SourceError
        A topic is missing or not clear, or no ground truth matches.

    """

    def __init__(
        self, bag: Bag, image_topic: str | None, truth: TruthSource, label_map: LabelMap
    ) -> None:
        self._bag = bag
        self._label_map = label_map
        self._truth_topic: BagTopic | None = None
        if truth.topic is not None:
            self._truth_topic = bag.choose_topic(truth.topic, IMAGE_TYPES, 'label topic')
        self.topic = bag.choose_topic(image_topic, IMAGE_TYPES, 'image topic', truth.topic)
        self._files = {} if truth.folder is None else list_label_files(truth.folder)
        self.unmatched_images: list[int] = []
        self.unmatched_labels: list[int] = []
        # The place of the ground truth by the place of the image.
        self._matches: dict[int, int] = {}
        self._label_stamps = sorted(self._files)
        if self._files or self._truth_topic:
            self._match(truth)

    def frames(self) -> Iterator[LoadedFrame]:
        """Read all frames in the order of their recording."""
        waiting: deque[tuple[int, BagMessage]] = deque()
        labels: dict[int, BagMessage] = {}
        wanted = set(self._matches.values()) if self._truth_topic else set()
        images_seen = labels_seen = 0
        for message in self._bag.messages(self._names()):
            if message.topic == self.topic.name:
                waiting.append((images_seen, message))
                images_seen += 1
            else:
                if labels_seen in wanted:
                    labels[labels_seen] = message
                labels_seen += 1
            # A frame waits for its ground truth, and those behind it with it.
            while waiting:
                match = self._matches.get(waiting[0][0])
                if self._truth_topic and match is not None and match not in labels:
                    break
                yield self._load(*waiting.popleft(), labels)
        for index, message in waiting:
            yield self._load(index, message, labels)

    def _names(self) -> list[str]:
        return [self.topic.name, *([self._truth_topic.name] if self._truth_topic else [])]

    def _load(
        self, index: int, message: BagMessage, labels: dict[int, BagMessage]
    ) -> LoadedFrame:
        start = time.perf_counter()
        frame, reason = None, ''
        try:
            frame = decode_image(message)
        except FrameError as error:
            reason = error.reason
        truth, label_stamp = None, None
        match = self._matches.get(index)
        if match is not None and self._files:
            label_stamp = self._label_stamps[match]
            truth = read_label_file(self._files[label_stamp], self._label_map)
        elif match in labels:
            label = labels.pop(match)
            label_stamp = label.header_stamp()
            truth = read_label_message(label, self._label_map)
        elapsed = 1e3 * (time.perf_counter() - start)
        return LoadedFrame(
            index, message.header_stamp(), label_stamp, message, frame, reason, truth, elapsed
        )

    def _match(self, truth: TruthSource) -> None:
        """Read all stamps and match them."""
        images: list[int] = []
        labels: list[int] = []
        for message in self._bag.messages(self._names()):
            stamps = images if message.topic == self.topic.name else labels
            stamps.append(message.header_stamp())
        if self._files:
            labels = self._label_stamps
        self._matches = match_stamps(images, labels, truth.slop)
        if not self._matches:
            raise SourceError(
                f'{self._bag.path}: no ground truth matches: images are from '
                f'{_span(images)}, labels from {_span(labels)}, slop is {truth.slop / 1e9:g} s'
            )
        self.unmatched_images = [s for k, s in enumerate(images) if k not in self._matches]
        taken = set(self._matches.values())
        self.unmatched_labels = [s for k, s in enumerate(labels) if k not in taken]


def _span(stamps: list[int]) -> str:
    if not stamps:
        return 'nothing'
    return f'{format_stamp(min(stamps))} to {format_stamp(max(stamps))} s'
