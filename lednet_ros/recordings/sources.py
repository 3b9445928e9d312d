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

"""Frames of recordings: bags, videos and folders of images, without ROS."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import itertools
from pathlib import Path
import time

import cv2
from lednet_ros import MAX_IMAGE_PIXELS
from lednet_ros.datasets.frames import DatasetError, imread, list_images
from lednet_ros.files import unique_names
from lednet_ros.images import IMAGE_SUFFIXES, open_video
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.recordings.bags import (
    decode_image,
    IMAGE_TYPES,
    is_bag,
    open_bag,
    SourceError,
)
import numpy as np

FOLDER_RATE = 10.0
# Longer gaps between stamps are shortened where frames are played.
LONGEST_GAP = 5.0
# Containers that count their frames; for others OpenCV multiplies duration and rate.
COUNTING_SUFFIXES = ('.mp4', '.m4v', '.mov', '.avi')
# Sound may be longer than the frames, and the last frame is shown for a while.
TAIL_SECONDS = 1.0


@dataclass(frozen=True)
class RecordedFrame:
    """
    A frame of a recording.

    Attributes
    ----------
    stamp
        Nanoseconds: the header's stamp in bags, or the time of recording where it is 0; the clock
        of cameras; the container's time in videos; counted from 0 in folders.
    frame_id
        The header's in bags, otherwise 'camera'.
    frame
        The pixels.
    name
        Name of its file, see `unique_names`; empty in bags and videos.

    """

    stamp: int
    frame_id: str
    frame: Frame
    name: str = ''


class Timeline:
    """
    Time since the first frame, whatever the stamps claim: clocks are set, and drivers forget them.

    Parameters
    ----------
    interval
        Seconds that a step backward, or of nothing, counts as.
    longest
        Seconds that a step forward counts as at most.

    """

    def __init__(self, interval: float = 1 / FOLDER_RATE, longest: float = LONGEST_GAP) -> None:
        self._interval = interval
        self._longest = longest
        self._last: int | None = None
        self._seconds = 0.0

    def advance(self, stamp: int) -> float:
        """Return the seconds of the next frame by its stamp in nanoseconds."""
        if self._last is not None:
            step = (stamp - self._last) / 1e9
            self._seconds += min(step, self._longest) if step > 0 else self._interval
        self._last = stamp
        return self._seconds


def read_frames(
    path: Path, topic: str | None = None, problems: list[str] | None = None, first: int = 0
) -> Iterator[RecordedFrame]:
    """
    Read the frames of a recording, in order.

    Parameters
    ----------
    path
        A bag (see `open_bag`), a video, a camera like `/dev/video0`, an image, or a folder of
        images, which are read in the order of their names at 10 frames per second.
    topic
        Image topic of a bag; None selects the only one.
    problems
        Descriptions of what can't be read are added here, and reading goes on; None raises the
        first as an error.
    first
        Index of the first frame, from 0.

    Yields
    ------
    RecordedFrame
        The frames.

    Raises
    ------
    SourceError
        The recording is missing, unreadable or damaged, or not exactly one topic fits. Readable
        frames of a damaged bag come first.
    FrameError
        A frame is damaged.

    """
    if not path.exists():
        raise SourceError(f'{path} does not exist')
    frames: Iterator[RecordedFrame | SourceError | FrameError]
    if is_bag(path):
        frames = itertools.islice(_read_bag(path, topic), first, None)
    elif images := list_image_files(path):
        frames = itertools.islice(_read_images(images), first, None)
    else:
        frames = _read_video(path, first)
    return _without_problems(frames, problems)


def count_frames(path: Path) -> int:
    """Return how many frames a folder, an image or a video claims to have; 0 for a camera."""
    if images := list_image_files(path):
        return len(images)
    if path.is_char_device():
        return 0
    with open_video(path) as capture:
        return max(round(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)


def list_image_files(path: Path) -> list[Path]:
    """
    List the images of a folder, or the one that `path` is; empty for anything else.

    Raises
    ------
    SourceError
        A folder has no images.

    """
    if not path.is_dir():
        return [path] if path.suffix.lower() in IMAGE_SUFFIXES else []
    try:
        return list_images(path)
    except DatasetError as error:
        raise SourceError(str(error)) from error


def _without_problems(
    items: Iterator[RecordedFrame | SourceError | FrameError], problems: list[str] | None
) -> Iterator[RecordedFrame]:
    for item in items:
        if isinstance(item, RecordedFrame):
            yield item
        elif problems is None:
            raise item
        else:
            problems.append(str(item))


def _read_bag(
    path: Path, topic: str | None
) -> Iterator[RecordedFrame | SourceError | FrameError]:
    with open_bag(path) as bag:
        chosen = bag.choose_topic(topic, IMAGE_TYPES, 'image topic')
        for message in bag.messages([chosen.name]):
            try:
                frame = decode_image(message)
            except FrameError as error:
                yield error
                continue
            yield RecordedFrame(message.stamp(), message.content.header.frame_id, frame)
        if bag.damage:
            yield SourceError(bag.damage)


def _read_video(path: Path, first: int) -> Iterator[RecordedFrame | SourceError]:
    is_camera = path.is_char_device()
    with open_video(path) as capture:
        if not capture.isOpened():
            raise SourceError(f'{path} is neither a bag, an image nor a video that OpenCV reads')
        width, height = (
            round(capture.get(side))
            for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width * height > MAX_IMAGE_PIXELS:
            raise SourceError(
                f'{path} is {width}x{height}; at most {MAX_IMAGE_PIXELS} pixels are allowed'
            )
        rate = capture.get(cv2.CAP_PROP_FPS) or FOLDER_RATE
        expected = 0 if is_camera else round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        interval = round(1e9 / rate)
        index, stamp, longest = first, (first - 1) * interval, interval
        last = -1
        if first:
            capture.set(cv2.CAP_PROP_POS_FRAMES, first)
            last = 0
        while True:
            is_read, pixels = capture.read()
            if not is_read:
                break
            before = stamp
            if is_camera:
                stamp = time.time_ns()
            else:
                # Exact where the rate varies, too; some containers have no times.
                elapsed = 1e6 * capture.get(cv2.CAP_PROP_POS_MSEC)
                stamp = last = round(elapsed) if elapsed > last else stamp + interval
                longest = max(longest, stamp - before)
            yield RecordedFrame(stamp, 'camera', Frame(np.asarray(pixels, np.uint8), 'bgr'))
            index += 1
        missing = expected / rate - (stamp + longest) / 1e9
        # Some containers count one frame too many.
        if index + 1 < expected and (
            path.suffix.lower() in COUNTING_SUFFIXES or missing > TAIL_SECONDS
        ):
            yield SourceError(f'{path} ends after {index} of {expected} frames')


def _read_images(files: Sequence[Path]) -> Iterator[RecordedFrame | SourceError]:
    for index, (file, name) in enumerate(zip(files, unique_names(files), strict=True)):
        try:
            pixels = imread(file, cv2.IMREAD_COLOR)
        except DatasetError as error:
            yield SourceError(str(error))
            continue
        if pixels is None:
            yield SourceError(f'{file} is not a readable image')
            continue
        frame = Frame(np.asarray(pixels, np.uint8), 'bgr')
        yield RecordedFrame(round(index / FOLDER_RATE * 1e9), 'camera', frame, name)
