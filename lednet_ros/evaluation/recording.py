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

"""Evaluation of a segmenter on bags: every frame, once, in order, without ROS."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
import math
from pathlib import Path
import time
from typing import Any

from lednet_ros.evaluation.consistency import Calibration, FlipCounter, Flips
from lednet_ros.evaluation.dataset import by_name, defined, figures_of
from lednet_ros.evaluation.ground_truth import (
    list_label_files,
    match_stamps,
    read_label_file,
    read_label_message,
)
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.bags import (
    Bag,
    BagMessage,
    BagTopic,
    decode_image,
    format_stamp,
    IMAGE_TYPES,
    open_bag,
    SourceError,
)
from lednet_ros.recordings.threads import prefetch
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

STAGES = ('read', 'segment', 'score')
NAMED = 20


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
class FrameFigures:
    """
    Metrics of one frame.

    Attributes
    ----------
    bag
        Name of its bag.
    index
        Place among the images of the bag, from 0.
    stamp
        Nanoseconds of its header.
    label_stamp
        Of its ground truth; None without.
    miou, accuracy
        0 to 1, of this frame alone; NaN without ground truth.
    flips
        Fraction of the still pixels with another label than in the frame before; NaN without any.
    milliseconds
        Time of each of `STAGES`.

    """

    bag: str
    index: int
    stamp: int
    label_stamp: int | None
    miou: float
    accuracy: float
    flips: float
    milliseconds: tuple[float, float, float]


@dataclass
class RecordingResult:
    """
    Result of an evaluation of bags; results of several bags can be added.

    Attributes
    ----------
    confusion, calibration, flips
        Counts of all frames.
    num_parameters
        Of the network.
    frames
        Figures of each frame.
    unmatched_images
        Stamps of frames without ground truth, although there is some.
    unmatched_labels
        Stamps of ground truth without a frame.
    rejected
        Frames that could not be decoded, by reason.
    class_pixels
        Predicted pixels by class id, (256,) int64.
    seconds
        From the first frame to the last, reading included.
    bags, topics
        What was read.
    problems
        What could not be read.

    """

    confusion: ConfusionMatrix
    num_parameters: int
    calibration: Calibration = field(default_factory=Calibration)
    flips: Flips = field(default_factory=Flips)
    frames: list[FrameFigures] = field(default_factory=list)
    unmatched_images: list[int] = field(default_factory=list)
    unmatched_labels: list[int] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    class_pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    seconds: float = 0.0
    bags: list[str] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __add__(self, other: 'RecordingResult') -> 'RecordingResult':
        """Sum the counts, and join the frames in this order."""
        return RecordingResult(
            self.confusion + other.confusion,
            self.num_parameters,
            self.calibration + other.calibration,
            self.flips + other.flips,
            self.frames + other.frames,
            self.unmatched_images + other.unmatched_images,
            self.unmatched_labels + other.unmatched_labels,
            self.rejected + other.rejected,
            self.class_pixels + other.class_pixels,
            self.seconds + other.seconds,
            self.bags + other.bags,
            list(dict.fromkeys(self.topics + other.topics)),
            self.problems + other.problems,
        )


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

    def start_result(self, path: Path, num_parameters: int) -> RecordingResult:
        """Create the empty result of a bag and topics, for a network of this many parameters."""
        return RecordingResult(
            ConfusionMatrix(self._label_map),
            num_parameters,
            unmatched_images=self.unmatched_images,
            unmatched_labels=self.unmatched_labels,
            bags=[str(path)],
            topics=[self.topic.name],
        )

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


class Scorer:
    """
    Adds frames to a result.

    Parameters
    ----------
    result
        Where to.
    path
        The bag.

    """

    def __init__(self, result: RecordingResult, path: Path) -> None:
        self._result = result
        self._path = path
        self._flips = FlipCounter()

    def score(
        self,
        loaded: LoadedFrame,
        labels: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
        milliseconds: float,
    ) -> None:
        """
        Compare a frame's labels with its ground truth and with the frame before.

        Parameters
        ----------
        loaded
            The frame.
        labels, confidence
            (H, W) uint8, of the frame's size.
        milliseconds
            That it took to get them.

        Raises
        ------
        SourceError
            The ground truth has another size, or an id that is no class.

        """
        start = time.perf_counter()
        result = self._result
        own = ConfusionMatrix(result.confusion.label_map)
        if loaded.truth is not None:
            try:
                own.update(loaded.truth, labels)
            except ValueError as error:
                raise SourceError(
                    f'{self._path}: label image at {format_stamp(loaded.label_stamp or 0)} s does '
                    f'not fit frame {loaded.index}: {error}'
                ) from error
            result.confusion += own
            result.calibration.update(loaded.truth, labels, confidence)
        assert loaded.frame is not None
        flipped = self._flips.compare(loaded.frame, labels)
        result.flips += flipped
        result.class_pixels += np.bincount(labels.ravel(), minlength=256)
        elapsed = 1e3 * (time.perf_counter() - start)
        result.frames.append(
            FrameFigures(
                self._path.name, loaded.index, loaded.stamp, loaded.label_stamp, own.miou(),
                own.pixel_accuracy(), flipped.share, (loaded.milliseconds, milliseconds, elapsed),
            )
        )

    def end(self, bag: Bag, reader: RecordingReader, seconds: float) -> None:
        """
        Note what the whole bag has given; raises SourceError if that is nothing.

        Parameters
        ----------
        bag, reader
            Which have been read to their end.
        seconds
            From the first frame to the last.

        """
        result = self._result
        result.seconds = seconds
        if bag.damage:
            result.problems.append(bag.damage)
        if not result.frames:
            rejected = ', '.join(f'{n} {reason}' for reason, n in result.rejected.items())
            raise SourceError(
                f'{self._path}: {reader.topic.name} has no frame that can be used'
                f'{f" (rejected: {rejected})" if rejected else ""}'
            )


def evaluate_bag(
    segmenter: Segmenter,
    path: Path,
    image_topic: str | None = None,
    truth: TruthSource | None = None,
    progress: bool = True,
) -> RecordingResult:
    """
    Segment every frame of a bag once, in order, and compare with its ground truth.

    Parameters
    ----------
    segmenter
        The segmenter; its `output_size` must be None.
    path
        The bag, see `open_bag`.
    image_topic
        None takes the only one.
    truth
        Where the ground truth is; without it there are no accuracies.
    progress
        Show a bar.

    Raises
    ------
    SourceError
        The bag can't be read or has no frame, a topic is missing or not clear, no ground truth
        matches, or a label image does not fit.

    """
    with open_bag(path) as bag:
        reader = RecordingReader(bag, image_topic, truth or TruthSource(), segmenter.label_map)
        result = reader.start_result(path, segmenter.num_parameters)
        frames: Iterable[LoadedFrame] = prefetch(reader.frames())
        if progress:
            frames = tqdm(frames, path.name, total=reader.topic.count, unit='frame')
        scorer = Scorer(result, path)
        start = time.perf_counter()
        for loaded in frames:
            if loaded.frame is None:
                result.rejected[loaded.reason] += 1
                continue
            if not result.frames:
                height, width = loaded.frame.pixels.shape[:2]
                segmenter.warm_up((height, width))
                start = time.perf_counter()
            before = time.perf_counter()
            segmented = segmenter.segment([loaded.frame], overlay=False)
            elapsed = 1e3 * (time.perf_counter() - before)
            assert segmented.confidence is not None
            scorer.score(loaded, segmented.labels[0], segmented.confidence[0], elapsed)
        scorer.end(bag, reader, time.perf_counter() - start)
    return result


def recording_to_dict(result: RecordingResult) -> dict[str, Any]:
    """
    Return the metrics of a result.

    Returns
    -------
    dict
        The figures of `figures_of`, and `confusion_matrix` (rows: true class; columns: predicted
        class, unlabeled), `calibration_error`, `flipped` (fraction of the still pixels),
        `class_shares`, `images`, `fps`, `stages_ms` (p50, p95 and p99 of each stage), `matched`,
        `unmatched_images` and `unmatched_labels` (stamps in nanoseconds), `rejected`,
        `parameters`, `bags`, `topics`, `problems`.

    """
    pixels = result.class_pixels
    shares = pixels[: result.confusion.label_map.num_classes] / max(int(pixels.sum()), 1)
    return {
        **figures_of(result.confusion),
        'confusion_matrix': result.confusion.counts.tolist(),
        'calibration_error': defined(result.calibration.error()),
        'flipped': defined(result.flips.share),
        'class_shares': by_name(result.confusion.label_map.names, shares),
        'images': len(result.frames),
        'fps': len(result.frames) / result.seconds if result.seconds else None,
        'stages_ms': stage_percentiles(result.frames),
        'matched': sum(frame.label_stamp is not None for frame in result.frames),
        'unmatched_images': result.unmatched_images,
        'unmatched_labels': result.unmatched_labels,
        'rejected': dict(result.rejected),
        'parameters': result.num_parameters,
        'bags': result.bags,
        'topics': result.topics,
        'problems': result.problems,
    }


def stage_percentiles(frames: list[FrameFigures]) -> dict[str, dict[str, float]]:
    """Compute p50, p95 and p99 of each stage, in milliseconds."""
    table = np.array([frame.milliseconds for frame in frames]).reshape(-1, len(STAGES))
    if not len(table):
        return {}
    percentiles = np.percentile(table, (50, 95, 99), axis=0).round(3)
    return {
        stage: dict(zip(('p50', 'p95', 'p99'), percentiles[:, k].tolist(), strict=True))
        for k, stage in enumerate(STAGES)
    }


def format_notes(result: RecordingResult) -> str:
    """Format what belongs below the table of accuracies, for a terminal."""
    figures = recording_to_dict(result)
    lines = []
    if figures['calibration_error'] is not None:
        lines.append(f"{'calibration err.':<16}{figures['calibration_error']:>8.4f}")
    if figures['flipped'] is not None:
        lines.append(f"{'flipped labels':<16}{figures['flipped']:>8.4f}   of the still pixels")
    fps = figures['fps'] or math.nan
    lines.append(f"{figures['images']} frames, {fps:.1f} frames/s, reading included")
    for stage, values in figures['stages_ms'].items():
        lines.append(
            f"{stage:<16}{values['p50']:>8.1f} ms   p95 {values['p95']:.1f}, "
            f"p99 {values['p99']:.1f}"
        )
    for what, stamps in (
        ('frames without ground truth', result.unmatched_images),
        ('label images without a frame', result.unmatched_labels),
    ):
        if stamps:
            named = ', '.join(map(format_stamp, stamps[:NAMED]))
            more = ', ...' if len(stamps) > NAMED else ''
            lines.append(f'{len(stamps)} {what}: {named}{more}')
    for reason, count in result.rejected.items():
        lines.append(f'{count} frames rejected: {reason}')
    return '\n'.join([*lines, *result.problems])


def _span(stamps: list[int]) -> str:
    if not stamps:
        return 'nothing'
    return f'{format_stamp(min(stamps))} to {format_stamp(max(stamps))} s'
