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

from collections.abc import Iterator, Sequence
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
import tempfile
from typing import NamedTuple

import cv2
from lednet_ros.files import claim_files, claim_folder, unique_names
from lednet_ros.images import IMAGE_SUFFIXES, open_video
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
from lednet_ros.recordings.sources import list_image_files, read_frames, RecordedFrame
from lednet_ros.recordings.threads import background, prefetch
from rosbags.convert.converter import convert
from tqdm import tqdm

KINDS = ('labels', 'overlay', 'color', 'video', 'bag')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv')
DEFAULT_RATE = 10.0


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
    overwrite: bool = False,
) -> Summary:
    """
    Segment all frames of a recording.

    Reading, the network and writing overlap. An interrupted run leaves a valid output of what it
    has done, a failed run none, except for images: each of them is a result.

    Parameters
    ----------
    segmenter
        The segmenter.
    source
        See `read_frames`.
    output
        A folder for 'labels', 'overlay' and 'color', with files named like the input's (see
        `unique_names`) or by stamp, like 1600000000.066666667.png; of a single image, a PNG file,
        too. A file for 'video'; a bag's folder for 'bag'.
    kind
        One of `KINDS`; 'bag' requires a bag, whose topics are kept.
    topic
        Image topic of a bag; None selects the only one.
    look
        Appearance of overlays.
    compress
        Make bags smaller, which takes longer.
    overwrite
        Allow to replace files, see `claim_output`.

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
    claim_output(source, output, kind, [source], overwrite)
    summary = Summary()
    with contextlib.ExitStack() as stack:
        if kind == 'bag':
            source = stack.enter_context(_as_ros2(source, output.parent))
        reading = _Reading(source, topic, keep=kind == 'bag')
        sink = _make_sink(
            kind, output, segmenter.label_map, reading, look or Look(), compress, overwrite
        )
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
            # Whatever is shorter than a frame is none.
            sink.close() if summary.frames else sink.discard()
            raise
        except BaseException:
            sink.discard()
            raise
        if not summary.frames:
            sink.discard()
            raise SourceError('; '.join(summary.problems) or f'{source} has no frames')
        sink.close()
    return summary


def place_outputs(sources: Sequence[Path], output: Path, kinds: Sequence[str]) -> list[Path]:
    """
    Place the outputs of several recordings in a folder, under names that differ.

    Parameters
    ----------
    sources
        The recordings.
    output
        The folder.
    kinds
        See `segment_recording`; one for each recording.

    Returns
    -------
    list of Path
        For each recording: a PNG file for an image, otherwise what its kind says.

    """
    placed = []
    for source, kind, name in zip(sources, kinds, unique_names(sources), strict=True):
        ending = '.mp4' if kind == 'video' else '.png' if _is_image(source) else ''
        placed.append(output / f'{name}{ending}')
    return placed


def claim_output(
    source: Path, output: Path, kind: str, inputs: Sequence[Path], overwrite: bool = False
) -> None:
    """
    Check that an output of `segment_recording` can be written; see `claim_files` for `inputs`.

    Without `overwrite`, no file may be there. A folder of images named by stamp must be empty,
    because only reading shows the names.

    Raises
    ------
    OSError
        It can't be written.

    """
    if kind == 'bag':
        claim_folder(output, inputs, overwrite, bag=True)
    elif kind == 'video' or _is_png(source, output):
        claim_files([output], inputs, overwrite)
    elif images := [] if is_bag(source) or not source.exists() else list_image_files(source):
        names = unique_names(images)
        claim_files([output / f'{name}.png' for name in names], [*inputs, *images], overwrite)
    else:
        claim_folder(output, inputs, overwrite)


def _is_image(source: Path) -> bool:
    return source.suffix.lower() in IMAGE_SUFFIXES and not source.is_dir()


def _is_png(source: Path, output: Path) -> bool:
    """Return whether the output of an image is a file, not a folder of files."""
    return _is_image(source) and output.suffix.lower() == '.png' and not output.is_dir()


class _Reading:
    """The frames of a recording and, if kept, the other messages of a bag."""

    def __init__(self, source: Path, topic: str | None, keep: bool) -> None:
        self.source = source
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
            with open_video(source) as capture:
                self.rate = capture.get(cv2.CAP_PROP_FPS) or DEFAULT_RATE

    def items(self) -> Iterator[_Loaded | BagMessage | str]:
        """Read frames, messages to keep and descriptions of problems, in order."""
        return self._read_bag(self.image_topic.name) if self.image_topic else self._read_frames()

    def _read_frames(self) -> Iterator[_Loaded | str]:
        problems: list[str] = []
        for recorded in read_frames(self.source, problems=problems):
            yield _Loaded(recorded)
        yield from problems

    def _read_bag(self, topic: str) -> Iterator[_Loaded | BagMessage | str]:
        with open_bag(self.source) as bag:
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


def _make_sink(
    kind: str,
    output: Path,
    label_map: LabelMap,
    reading: _Reading,
    look: Look,
    compress: bool,
    overwrite: bool,
) -> Sink:
    if kind == 'bag':
        assert reading.image_topic is not None
        return BagSink(
            output, reading.topics, reading.image_topic, label_map, look, compress, overwrite
        )
    if kind == 'video':
        return VideoSink(output, reading.rate, label_map, look, overwrite)
    if _is_png(reading.source, output):
        return ImageSink(output.parent, kind, label_map, look, output.stem, overwrite)
    return ImageSink(output, kind, label_map, look, overwrite=overwrite)


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
