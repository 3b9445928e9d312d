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

"""Segments recordings into label images, overlays, videos and bags."""

from collections.abc import Iterator
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
import tempfile
from typing import Protocol

import cv2
from lednet_ros.files import atomic_path, make_folder
from lednet_ros.inference.encodings import FrameError
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.bag_output import SegmentedBagWriter
from lednet_ros.recordings.bags import (
    BagMessage,
    BagTopic,
    decode_image,
    format_stamp,
    IMAGE_TYPES,
    is_bag,
    open_bag,
    SourceError,
)
from lednet_ros.recordings.drawing import draw_boundaries, draw_legend
from lednet_ros.recordings.sources import read_frames, RecordedFrame
from lednet_ros.recordings.threads import background, prefetch
from lednet_ros.recordings.types import make_typestore
from lednet_ros.recordings.writers import VideoWriter
import numpy as np
from numpy.typing import NDArray
from rosbags.convert.converter import convert
from tqdm import tqdm

KINDS = ('labels', 'overlay', 'color', 'video', 'bag')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv')
DEFAULT_RATE = 10.0

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """
    Appearance of overlays.

    Attributes
    ----------
    legend
        Colors and names below images and videos.
    boundaries
        White lines where classes meet.

    """

    legend: bool = False
    boundaries: bool = False


@dataclass
class Summary:
    """
    Summary of a run.

    Attributes
    ----------
    frames
        Number of frames segmented.
    problems
        What was lost.

    """

    frames: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SegmentedFrame:
    """
    A frame with its results, which nothing overwrites.

    Attributes
    ----------
    name
        For files, without their ending.
    recorded
        The frame.
    message
        Where it was in a bag; None elsewhere.
    labels, confidence
        (H, W) uint8; the confidence only for bags.
    overlay
        (H, W, 3) uint8 in the frame's color order; None where it is not wanted.
    color
        (H, W, 3) uint8 RGB; None where it is not wanted.

    """

    name: str
    recorded: RecordedFrame
    message: BagMessage | None
    labels: Pixels
    confidence: Pixels | None
    overlay: Pixels | None
    color: Pixels | None


@dataclass(frozen=True)
class _Item:
    """Item of the reading thread: a frame, a message to keep, or a problem."""

    name: str = ''
    recorded: RecordedFrame | None = None
    message: BagMessage | None = None
    problem: str = ''


class Sink(Protocol):
    """Destination of the results; one thread at a time calls it."""

    def write(self, frame: SegmentedFrame | BagMessage) -> None:
        """Add a frame, or a message of the input bag to be kept."""

    def close(self) -> None:
        """Complete the output."""

    def discard(self) -> None:
        """Leave nothing that is not complete."""


def segment_recording(
    segmenter: Segmenter,
    source: Path,
    output: Path,
    kind: str,
    topic: str | None = None,
    look: Look | None = None,
    compress: bool = False,
) -> Summary:
    """
    Segment all frames of a recording.

    Reading, the network and writing overlap. An interrupted run leaves what it has done as a
    valid output, a failed one leaves none.

    Parameters
    ----------
    segmenter
        The segmenter.
    source
        See `read_frames`.
    output
        A folder for 'labels', 'overlay' and 'color', whose files are named as the input's or by
        stamp, like 1600000000.066666667.png; a file for 'video'; a bag's folder for 'bag'.
    kind
        One of `KINDS`. 'bag' needs a bag, whose topics are kept.
    topic
        Image topic of a bag; None takes the only one.
    look
        Appearance of overlays.
    compress
        Make a bag smaller, which takes longer.

    Returns
    -------
    Summary
        How much was done, and what was lost.

    Raises
    ------
    SourceError
        Nothing can be read.
    OSError
        The output can't be written.

    """
    if kind == 'bag' and not is_bag(source):
        raise SourceError(f'{source} is not a bag; only bags can be segmented into bags')
    if output.exists() and output.resolve() == source.resolve():
        raise SourceError(f'{output} is input and output; they must differ')
    make_folder(output.parent)
    look = look or Look()
    summary = Summary()
    with contextlib.ExitStack() as stack:
        if kind == 'bag':
            source = stack.enter_context(_as_ros2(source, output.parent))
        reading = _Reading(source, topic, keep=kind == 'bag')
        sink = _make_sink(kind, output, segmenter.label_map, reading, look, compress)
        try:
            # The end of the block waits until all is written.
            with (
                background(sink.write) as write,
                tqdm(desc=source.name, total=reading.count, unit='frame') as bar,
            ):
                for item in prefetch(reading.items()):
                    if item.problem:
                        summary.problems.append(item.problem)
                    elif item.recorded is None:
                        assert item.message is not None
                        write(item.message)
                    else:
                        write(_segment(segmenter, item, item.recorded, kind))
                        summary.frames += 1
                        bar.update()
        except KeyboardInterrupt:
            sink.close()
            raise
        except BaseException:
            sink.discard()
            raise
        if not summary.frames:
            sink.discard()
            raise SourceError('; '.join(summary.problems) or f'{source} has no frames')
        sink.close()
    return summary


class _Reading:
    """The frames of a recording and, for a bag, everything else in it."""

    def __init__(self, source: Path, topic: str | None, keep: bool) -> None:
        self._source = source
        self._keep = keep
        self.count: int | None = None
        self.rate = DEFAULT_RATE
        self.topics: list[BagTopic] = []
        self.image_topic: BagTopic | None = None
        if is_bag(source):
            with open_bag(source) as bag:
                self.topics = bag.topics
                self.image_topic = bag.choose_topic(topic, IMAGE_TYPES, 'image topic')
                self.count = self.image_topic.count
                if bag.seconds and self.count > 1:
                    self.rate = (self.count - 1) / bag.seconds
        elif source.is_file():
            capture = cv2.VideoCapture(str(source))
            self.rate = capture.get(cv2.CAP_PROP_FPS) or DEFAULT_RATE
            capture.release()

    def items(self) -> Iterator[_Item]:
        """Read all, in order."""
        return self._of_bag() if self.image_topic else self._of_frames()

    def _of_frames(self) -> Iterator[_Item]:
        try:
            for recorded in read_frames(self._source):
                yield _Item(recorded.name or format_stamp(recorded.stamp), recorded)
        except (SourceError, FrameError) as error:
            yield _Item(problem=str(error))

    def _of_bag(self) -> Iterator[_Item]:
        assert self.image_topic is not None
        with open_bag(self._source) as bag:
            for message in bag.messages(None if self._keep else [self.image_topic.name]):
                if message.topic != self.image_topic.name:
                    yield _Item(message=message)
                    continue
                try:
                    frame = decode_image(message)
                except FrameError as error:
                    where = format_stamp(message.header_stamp())
                    yield _Item(problem=f'frame at {where} s was left out: {error}')
                    if self._keep:
                        yield _Item(message=message)
                    continue
                stamp = message.header_stamp()
                frame_id = message.content.header.frame_id
                yield _Item(format_stamp(stamp), RecordedFrame(stamp, frame_id, frame), message)
            if bag.damage:
                yield _Item(problem=bag.damage)


class _PictureSink:
    """A folder of PNG files."""

    def __init__(self, folder: Path, kind: str, label_map: LabelMap, look: Look) -> None:
        make_folder(folder)
        self._folder = folder
        self._kind = kind
        self._label_map = label_map
        self._look = look

    def write(self, frame: SegmentedFrame | BagMessage) -> None:
        assert isinstance(frame, SegmentedFrame)
        if self._kind == 'labels':
            pixels = frame.labels
        elif self._kind == 'color':
            assert frame.color is not None
            pixels = frame.color[..., ::-1]
        else:
            pixels = _decorate(frame, self._label_map, self._look)
        with atomic_path(self._folder / f'{frame.name}.png') as temporary:
            if not cv2.imwrite(str(temporary), pixels):
                raise OSError(f'{temporary} could not be written')

    def close(self) -> None:
        """Do nothing: each file is complete."""

    def discard(self) -> None:
        """Do nothing: each file is complete."""


class _VideoSink:
    """A video of overlays."""

    def __init__(self, path: Path, rate: float, label_map: LabelMap, look: Look) -> None:
        self._writer = VideoWriter(path, rate)
        self._label_map = label_map
        self._look = look
        self.close = self._writer.close
        self.discard = self._writer.discard

    def write(self, frame: SegmentedFrame | BagMessage) -> None:
        assert isinstance(frame, SegmentedFrame)
        pixels = _decorate(frame, self._label_map, self._look)
        self._writer.write(frame.recorded.stamp, pixels)


class _BagSink:
    """The input bag with the results added."""

    def __init__(self, writer: SegmentedBagWriter, look: Look) -> None:
        self._writer = writer
        self._look = look
        self.close = writer.close
        self.discard = writer.discard

    def write(self, frame: SegmentedFrame | BagMessage) -> None:
        if isinstance(frame, BagMessage):
            self._writer.keep(frame)
            return
        assert frame.message is not None
        assert frame.confidence is not None
        assert frame.overlay is not None
        if self._look.boundaries:
            draw_boundaries(frame.overlay, frame.labels)
        self._writer.keep(frame.message)
        self._writer.add(
            frame.message,
            frame.recorded.frame.color_order,
            frame.labels,
            frame.confidence,
            frame.overlay,
        )


def _make_sink(
    kind: str,
    output: Path,
    label_map: LabelMap,
    reading: _Reading,
    look: Look,
    compress: bool,
) -> Sink:
    if kind == 'bag':
        assert reading.image_topic is not None
        writer = SegmentedBagWriter(
            output, reading.topics, reading.image_topic, label_map, compress
        )
        return _BagSink(writer, look)
    if kind == 'video':
        return _VideoSink(output, reading.rate, label_map, look)
    return _PictureSink(output, kind, label_map, look)


def _segment(
    segmenter: Segmenter, item: _Item, recorded: RecordedFrame, kind: str
) -> SegmentedFrame:
    result = segmenter.segment(
        [recorded.frame],
        confidence=kind == 'bag',
        overlay=kind in ('overlay', 'video', 'bag'),
        color=kind == 'color',
    )
    # The next frame overwrites the segmenter's arrays while these are written.
    confidence, overlay, color = (
        None if images is None else images[0].copy()
        for images in (result.confidence, result.overlay, result.color)
    )
    return SegmentedFrame(
        item.name, recorded, item.message, result.labels[0].copy(), confidence, overlay, color
    )


def _decorate(frame: SegmentedFrame, label_map: LabelMap, look: Look) -> Pixels:
    """Return the overlay as BGR, with the legend and boundaries that `look` requests."""
    assert frame.overlay is not None
    pixels = frame.overlay
    if frame.recorded.frame.color_order == 'rgb':
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    if look.boundaries:
        draw_boundaries(pixels, frame.labels)
    if look.legend:
        pixels = np.vstack([pixels, draw_legend(label_map, pixels.shape[1])])
    return pixels


@contextlib.contextmanager
def _as_ros2(source: Path, folder: Path) -> Iterator[Path]:
    """Provide a bag as a ROS 2 bag; a ROS 1 bag is converted for the duration of the block."""
    with open_bag(source) as bag:
        is_ros1 = bag.is_ros1
    if not is_ros1:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix='.part', dir=folder) as temporary:
        converted = Path(temporary) / source.stem
        typestore = make_typestore()
        convert(
            [source], converted, 'mcap', 8, None, 'file', None, typestore, [], [], [], []
        )
        yield converted
