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

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
import time

from lednet_ros.evaluation.ground_truth import (
    list_label_files,
    match_stamps,
    prepare_truth,
    read_label_file,
    read_label_message,
    UnusableLabelError,
)
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.inference.options import Crop
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.bags import (
    Bag,
    BagMessage,
    decode_image,
    format_stamp,
    IMAGE_TYPES,
    open_bag,
    SourceError,
)
import numpy as np
from numpy.typing import NDArray

# Of label images that wait for their frames.
MAX_KEPT_BYTES = 1 << 30
# Label images to try where none can be used: the rest is probably of the same kind.
FIRST_LABELS = 10


@dataclass(frozen=True)
class TruthSource:
    """
    Source of the ground truth, a topic or a folder; none by default.

    Attributes
    ----------
    topic
        Topic of the bag.
    folder
        Folder of files named by stamp, see `list_label_files`.
    slop
        Largest difference of the stamps in nanoseconds.

    """

    topic: str | None = None
    folder: Path | None = None
    slop: int = 0


@dataclass(frozen=True)
class LoadedFrame:
    """
    A frame with its ground truth.

    Attributes
    ----------
    index, stamp, label_stamp
        See `FrameMetrics`.
    message
        The message that holds it.
    frame, reason
        None and the reason if it could not be decoded.
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
    Frames of an open bag with their ground truth.

    `image_topic` None selects the only one that is not the ground truth. The ground truth has the
    ids or colors of the network's classes, and becomes what `prepare_truth` makes of it.

    Attributes
    ----------
    topic : BagTopic
        The topic of the images.
    crop : tuple of float or None
        As given.
    unmatched_images, unmatched_labels : list of int
        Stamps without a counterpart, in nanoseconds.
    unusable_labels : list of str
        Why label images can't be used; their frames have no ground truth.

    Raises
    ------
    SourceError
        A topic is missing or ambiguous, or no ground truth matches.

    """

    def __init__(
        self,
        bag: Bag,
        image_topic: str | None,
        truth: TruthSource,
        label_map: LabelMap,
        crop: Crop | None = None,
    ) -> None:
        self._bag = bag
        self._label_map = label_map
        self.crop = crop
        self._label_topic: str | None = None
        if truth.topic is not None:
            self._label_topic = bag.choose_topic(truth.topic, IMAGE_TYPES, 'label topic').name
        self.topic = bag.choose_topic(image_topic, IMAGE_TYPES, 'image topic', truth.topic)
        self._files = {} if truth.folder is None else list_label_files(truth.folder)
        self.unmatched_images: list[int] = []
        self.unmatched_labels: list[int] = []
        self.unusable_labels: list[str] = []
        self._has_truth = False
        # Index of the ground truth by the index of the image.
        self._matches: dict[int, int] = {}
        self._label_stamps = sorted(self._files)
        if truth.topic is not None or self._files:
            self._match(truth.slop)

    def frames(self) -> Iterator[LoadedFrame]:
        """
        Yield all frames in the order in which they were recorded.

        Raises
        ------
        SourceError
            No label image can be used.

        """
        if self._label_topic is None:
            labels = None
        else:
            labels = _LabelMessages(self._bag.path, self._label_topic, self._matches.values())
        for index, message in enumerate(self._bag.messages([self.topic.name])):
            yield self._load(index, message, labels)
        if labels is not None and not self._bag.damage:
            self._bag.damage = labels.damage

    def _load(
        self, index: int, message: BagMessage, labels: '_LabelMessages | None'
    ) -> LoadedFrame:
        start = time.perf_counter()
        frame, reason = None, ''
        try:
            frame = decode_image(message)
        except FrameError as error:
            reason = error.reason
        label_stamp, truth = self._load_truth(index, labels)
        elapsed = 1e3 * (time.perf_counter() - start)
        return LoadedFrame(
            index, message.stamp(), label_stamp, message, frame, reason, truth, elapsed
        )

    def _load_truth(
        self, index: int, labels: '_LabelMessages | None'
    ) -> tuple[int | None, NDArray[np.uint8] | None]:
        """Return the stamp and the ids of the label image of a frame."""
        match = self._matches.get(index)
        if match is None:
            return None, None
        try:
            if self._files:
                stamp = self._label_stamps[match]
                truth = read_label_file(self._files[stamp], self._label_map.network)
            elif labels is not None and (label := labels.take(match)):
                stamp = self._stamp(label)
                truth = read_label_message(label, self._label_map.network)
            else:
                return None, None
        except UnusableLabelError as error:
            self.unusable_labels.append(str(error))
            tried = min(FIRST_LABELS, len(self._matches))
            if not self._has_truth and len(self.unusable_labels) == tried:
                raise
            return None, None
        self._has_truth = True
        return stamp, prepare_truth(truth, self._label_map, self.crop)

    def _stamp(self, message: BagMessage) -> int:
        """Return the stamp to match: labels of a topic copy even a missing one of their images."""
        return message.stamp() if self._files else message.header_stamp()

    def _match(self, slop: int) -> None:
        """Read all stamps and match them."""
        images: list[int] = []
        labels = [*self._label_stamps]
        topics = [self.topic.name, self._label_topic or self.topic.name]
        for message in self._bag.messages(topics):
            stamps = images if message.topic == self.topic.name else labels
            stamps.append(self._stamp(message))
        self._matches = match_stamps(images, labels, slop)
        if not self._matches:
            raise SourceError(
                f'{self._bag.path}: no ground truth matches: images are from '
                f'{_span(images)}, labels from {_span(labels)}, slop is {slop / 1e9:g} s'
            )
        self.unmatched_images = [s for k, s in enumerate(images) if k not in self._matches]
        taken = set(self._matches.values())
        self.unmatched_labels = [s for k, s in enumerate(labels) if k not in taken]


class _LabelMessages:
    """
    Label images of a topic by index, read apart from the frames.

    Parameters
    ----------
    path, topic
        The bag and the topic.
    wanted
        The indices that will be taken, in any order.

    Attributes
    ----------
    damage
        See `Bag`.

    """

    def __init__(self, path: Path, topic: str, wanted: Collection[int]) -> None:
        self.damage = ''
        self._messages = enumerate(self._read(path, topic))
        self._wanted = set(wanted)
        self._kept: dict[int, BagMessage] = {}
        self._bytes = 0

    def take(self, index: int) -> BagMessage | None:
        """Return a label image; None if it can't be read."""
        while index not in self._kept:
            number, message = next(self._messages, (-1, None))
            if message is None:
                return None
            if number in self._wanted:
                self._kept[number] = message
                self._bytes += len(message.data)
                if self._bytes > MAX_KEPT_BYTES:
                    raise SourceError(
                        f'{message.topic}: {len(self._kept)} label images precede that of the '
                        f'frame; at most {MAX_KEPT_BYTES >> 20} MiB of them are kept'
                    )
        message = self._kept.pop(index)
        self._bytes -= len(message.data)
        return message

    def _read(self, path: Path, topic: str) -> Iterator[BagMessage]:
        with open_bag(path) as bag:
            yield from bag.messages([topic])
            self.damage = bag.damage


def _span(stamps: list[int]) -> str:
    if not stamps:
        return 'nothing'
    return f'{format_stamp(min(stamps))} to {format_stamp(max(stamps))} s'
