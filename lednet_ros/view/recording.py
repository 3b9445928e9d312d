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


"""Frames of a recording from any position, with their ground truth."""

import bisect
from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
from pathlib import Path

from lednet_ros.evaluation.ground_truth import (
    list_label_files,
    match_stamps,
    read_label_file,
    read_label_message,
)
from lednet_ros.evaluation.recording_reader import TruthSource
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.bags import (
    Bag,
    BagMessage,
    decode_image,
    IMAGE_TYPES,
    is_bag,
    open_bag,
    SourceError,
)
from lednet_ros.recordings.sources import (
    count_frames,
    FOLDER_RATE,
    list_image_files,
    read_frames,
)
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PlayedFrame:
    """
    A frame at its position.

    Attributes
    ----------
    index
        Position, from 0.
    stamp
        Nanoseconds.
    frame
        The pixels; None if they can't be decoded.
    truth
        (H, W) uint8 ids of the network's classes, or None.
    problem
        What is wrong with the frame or its ground truth; empty if nothing is.

    """

    index: int
    stamp: int
    frame: Frame | None
    truth: NDArray[np.uint8] | None = None
    problem: str = ''


class Recording:
    """
    A bag, a video, a folder of images, an image or a camera.

    Parameters
    ----------
    path, topic
        See `read_frames`.
    truth
        Source of the ground truth; label files of a folder of images have the names of its images.
    label_map
        The classes of the ground truth, those of the network.

    """

    def __init__(
        self, path: Path, topic: str | None, truth: TruthSource, label_map: LabelMap
    ) -> None:
        self.path = path
        self._topic = topic
        self._truth = truth
        self._label_map = label_map
        self._is_bag = is_bag(path)
        # Times of recording of the images of a bag, as far as `scan` has come.
        self._times: list[int] = []
        # Time and stamp of the label message, or the label file, by the index of its image.
        self._label_messages: dict[int, tuple[int, int]] = {}
        self._label_files: dict[int, Path] = {}
        self._expected = 0

    @property
    def count(self) -> int:
        """Return how many frames can be reached; 0 where there is no way back, as in a camera."""
        return len(self._times) if self._is_bag else self._expected

    @property
    def has_truth(self) -> bool:
        """Return whether there is a source of ground truth."""
        return self._truth.topic is not None or self._truth.folder is not None

    def scan(self) -> None:
        """
        Find the positions of all frames and their ground truth; of a bag, all headers are read.

        Raises
        ------
        SourceError
            The recording or its ground truth can't be read.

        """
        if not self._is_bag:
            self._expected = count_frames(self.path)
            return
        stamps: list[int] = []
        labels: list[tuple[int, int]] = []
        with open_bag(self.path) as bag:
            topic, label_topic = self._choose_topics(bag)
            for message in bag.messages([topic, *([label_topic] if label_topic else [])]):
                if message.topic == topic:
                    stamps.append(message.header_stamp() if label_topic else message.stamp())
                    self._times.append(message.time)
                else:
                    labels.append((message.time, message.header_stamp()))
        slop = self._truth.slop
        if label_topic:
            found = match_stamps(stamps, [stamp for _, stamp in labels], slop)
            self._label_messages = {image: labels[label] for image, label in found.items()}
        elif self._truth.folder is not None:
            files = [*list_label_files(self._truth.folder).items()]
            found = match_stamps(stamps, [stamp for stamp, _ in files], slop)
            self._label_files = {image: files[label][1] for image, label in found.items()}

    def frames(self, first: int = 0) -> Iterator[PlayedFrame]:
        """
        Yield the frames from a position on.

        Raises
        ------
        SourceError, FrameError
            See `read_frames`.

        """
        if self._is_bag:
            yield from self._bag_frames(first)
            return
        if images := list_image_files(self.path):
            for index, file in enumerate(images[first:], first):
                yield self._load_image(index, file)
            return
        for index, recorded in enumerate(read_frames(self.path, first=first), first):
            yield PlayedFrame(index, recorded.stamp, recorded.frame)

    def _load_image(self, index: int, path: Path) -> PlayedFrame:
        problems: list[str] = []
        recorded = next(read_frames(path, problems=problems), None)
        truth, folder = None, self._truth.folder
        if folder is not None and (labels := folder / f'{path.stem}.png').is_file():
            truth, problem = self._read_file(labels)
            problems.append(problem)
        return PlayedFrame(
            index,
            round(index / FOLDER_RATE * 1e9),
            recorded and recorded.frame,
            truth,
            '; '.join(filter(None, problems)),
        )

    def _choose_topics(self, bag: Bag) -> tuple[str, str | None]:
        label_topic = self._truth.topic
        if label_topic is not None:
            bag.choose_topic(label_topic, IMAGE_TYPES, 'label topic')
        chosen = bag.choose_topic(self._topic, IMAGE_TYPES, 'image topic', label_topic)
        return chosen.name, label_topic

    def _bag_frames(self, first: int) -> Iterator[PlayedFrame]:
        start, index = None, 0
        # The times of a damaged bag may be in any order.
        if first and self._times == sorted(self._times):
            start = self._times[first]
            index = bisect.bisect_left(self._times, start)
        with contextlib.ExitStack() as stack:
            bag = stack.enter_context(open_bag(self.path))
            topic, label_topic = self._choose_topics(bag)
            labels = None
            if label_topic is not None:
                labels = _LabelMessages(stack.enter_context(open_bag(self.path)), label_topic)
            for message in bag.messages([topic], start):
                if index >= first:
                    yield self._load(index, message, labels)
                index += 1
            if bag.damage:
                raise SourceError(bag.damage)

    def _load(
        self, index: int, message: BagMessage, labels: '_LabelMessages | None'
    ) -> PlayedFrame:
        frame, truth, problem = None, None, ''
        try:
            frame = decode_image(message)
        except FrameError as error:
            problem = str(error)
        if index in self._label_files:
            truth, trouble = self._read_file(self._label_files[index])
            problem = problem or trouble
        elif labels is not None and index in self._label_messages:
            try:
                found = labels.find(*self._label_messages[index])
                truth = None if found is None else read_label_message(found, self._label_map)
            except SourceError as error:
                problem = problem or str(error)
        return PlayedFrame(index, message.stamp(), frame, truth, problem)

    def _read_file(self, path: Path) -> tuple[NDArray[np.uint8] | None, str]:
        try:
            return read_label_file(path, self._label_map), ''
        except SourceError as error:
            return None, str(error)


class _LabelMessages:
    """Label messages of a bag by time; those that follow each other are read in one pass."""

    def __init__(self, bag: Bag, topic: str) -> None:
        self._bag = bag
        self._topic = topic
        self._position = -1
        self._messages: Iterator[BagMessage] = iter(())

    def find(self, time: int, stamp: int) -> BagMessage | None:
        """Return the message with a time of recording and a stamp in nanoseconds."""
        if not 0 <= self._position < time:
            self._messages = self._bag.messages([self._topic], time)
        self._position = time
        for message in self._messages:
            if message.time > time:
                break
            if (message.time, message.header_stamp()) == (time, stamp):
                return message
        self._position = -1
        return None
