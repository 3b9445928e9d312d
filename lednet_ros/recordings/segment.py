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

"""Segmentation of recordings into label images, overlays, videos and bags."""

from collections.abc import Iterator
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
import tempfile
from typing import NamedTuple

import cv2
from lednet_ros.files import make_folder
from lednet_ros.inference.encodings import FrameError
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.bags import (
    BagMessage,
    BagTopic,
    decode_image,
    format_stamp,
    IMAGE_TYPES,
    is_bag,
    make_typestore,
    open_bag,
    SourceError,
)
from lednet_ros.recordings.outputs import (
    BagSink,
    ImageSink,
    Look,
    SegmentedFrame,
    Sink,
    VideoSink,
)
from lednet_ros.recordings.sources import read_frames, RecordedFrame
from lednet_ros.recordings.threads import background, prefetch
from rosbags.convert.converter import convert
from tqdm import tqdm

KINDS = ('labels', 'overlay', 'color', 'video', 'bag')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv')
DEFAULT_RATE = 10.0
MIN_RATE, MAX_RATE = 1.0, 120.0


@dataclass
class Summary:
    """Number of frames that were segmented, and descriptions of what was lost."""

    frames: int = 0
    problems: list[str] = field(default_factory=list)


class _Loaded(NamedTuple):
    """A frame, with its message in a bag."""

    recorded: RecordedFrame
    message: BagMessage | None = None


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

    Reading, the network and writing overlap. An interrupted run leaves a valid output of what it
    has done, a failed run leaves none.

    Parameters
    ----------
    segmenter
        The segmenter.
    source
        See `read_frames`.
    output
        A folder for 'labels', 'overlay' and 'color', with files named like the input's or by
        stamp, like 1600000000.066666667.png; a file for 'video'; a bag's folder for 'bag'.
    kind
        One of `KINDS`; 'bag' requires a bag, whose topics are kept.
    topic
        Image topic of a bag; None selects the only one.
    look
        Appearance of overlays.
    compress
        Make bags smaller, which takes longer.

    Returns
    -------
    Summary
        What was done and what was lost.

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
    summary = Summary()
    with contextlib.ExitStack() as stack:
        if kind == 'bag':
            source = stack.enter_context(_as_ros2(source, output.parent))
        reading = _Reading(source, topic, keep=kind == 'bag')
        sink = _make_sink(kind, output, segmenter.label_map, reading, look or Look(), compress)
        try:
            # The end of the block waits until everything is written.
            with (
                background(sink.write) as write,
                tqdm(desc=source.name, total=reading.count, unit='frame') as bar,
            ):
                for item in prefetch(reading.items()):
                    if isinstance(item, str):
                        summary.problems.append(item)
                    elif isinstance(item, BagMessage):
                        write(item)
                    else:
                        write(_segment(segmenter, item, kind))
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
    """The frames of a recording and, if kept, the other messages of a bag."""

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
                    self.rate = _limit_rate((self.count - 1) / bag.seconds)
        elif source.is_file():
            capture = cv2.VideoCapture(str(source))
            self.rate = _limit_rate(capture.get(cv2.CAP_PROP_FPS) or DEFAULT_RATE)
            capture.release()

    def items(self) -> Iterator[_Loaded | BagMessage | str]:
        """Read frames, messages to keep and descriptions of problems, in order."""
        return self._read_bag(self.image_topic.name) if self.image_topic else self._read_frames()

    def _read_frames(self) -> Iterator[_Loaded | str]:
        try:
            for recorded in read_frames(self._source):
                yield _Loaded(recorded)
        except (SourceError, FrameError) as error:
            yield str(error)

    def _read_bag(self, topic: str) -> Iterator[_Loaded | BagMessage | str]:
        with open_bag(self._source) as bag:
            for message in bag.messages(None if self._keep else [topic]):
                if message.topic != topic:
                    yield message
                    continue
                stamp = message.stamp()
                try:
                    frame = decode_image(message)
                except FrameError as error:
                    yield f'frame at {format_stamp(stamp)} s was left out: {error}'
                    if self._keep:
                        yield message
                    continue
                frame_id = message.content.header.frame_id
                yield _Loaded(RecordedFrame(stamp, frame_id, frame), message)
            if bag.damage:
                yield bag.damage


def _limit_rate(rate: float) -> float:
    """Limit an estimated rate: clocks are set while bags are recorded, some videos count ticks."""
    return min(max(rate, MIN_RATE), MAX_RATE)


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
        return BagSink(output, reading.topics, reading.image_topic, label_map, look, compress)
    if kind == 'video':
        return VideoSink(output, reading.rate, label_map, look)
    return ImageSink(output, kind, label_map, look)


def _segment(segmenter: Segmenter, loaded: _Loaded, kind: str) -> SegmentedFrame:
    result = segmenter.segment(
        [loaded.recorded.frame],
        confidence=kind == 'bag',
        overlay=kind in ('overlay', 'video', 'bag'),
        color=kind == 'color',
    )
    # The next frame overwrites the segmenter's arrays while these are written.
    confidence, overlay, color = (
        None if images is None else images[0].copy()
        for images in (result.confidence, result.overlay, result.color)
    )
    return SegmentedFrame(*loaded, result.labels[0].copy(), confidence, overlay, color)


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
