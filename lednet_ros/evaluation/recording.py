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

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
import math
from pathlib import Path
import time
from typing import Any

from lednet_ros.evaluation.consistency import Calibration, FlipCounter, Flips
from lednet_ros.evaluation.dataset import accuracy_metrics, by_name, defined
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.evaluation.recording_reader import LoadedFrame, RecordingReader, TruthSource
from lednet_ros.inference.options import find_region
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.bags import format_stamp, open_bag, SourceError
from lednet_ros.recordings.threads import prefetch
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

STAGES = ('read', 'segment', 'score')
NAMED = 20


@dataclass(frozen=True)
class FrameMetrics:
    """
    Metrics of one frame.

    Attributes
    ----------
    bag
        Name of its bag.
    index
        Index among the images of the bag, from 0.
    stamp, label_stamp
        Stamps of the image and of its ground truth in nanoseconds; None without ground truth.
    miou, accuracy
        0 to 1, of this frame alone; NaN without ground truth.
    flips
        Fraction of the still pixels whose label differs from the previous frame's; NaN without
        any.
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
        Parameters of the network.
    frames
        Metrics per frame.
    unmatched_images, unmatched_labels
        Stamps of frames without ground truth, if the bag has any, and the reverse.
    rejected
        Number of frames that could not be decoded, by reason.
    class_pixels
        Predicted pixels by class id, (256,) int64.
    seconds
        From the first frame to the last, reading included.
    bags, topics
        Bags and image topics that were read.
    problems
        Descriptions of the parts of bags that could not be read.

    """

    confusion: ConfusionMatrix
    num_parameters: int
    calibration: Calibration = field(default_factory=Calibration)
    flips: Flips = field(default_factory=Flips)
    frames: list[FrameMetrics] = field(default_factory=list)
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
        names = [each.name for each in fields(self)]
        total = RecordingResult(**{k: getattr(self, k) + getattr(other, k) for k in names})
        total.num_parameters = self.num_parameters
        total.topics = list(dict.fromkeys(total.topics))
        return total


class Scorer:
    """
    Adds the frames of a bag to a result.

    Attributes
    ----------
    result : RecordingResult
        Complete after `end`.

    """

    def __init__(
        self, reader: RecordingReader, path: Path, label_map: LabelMap, num_parameters: int
    ) -> None:
        self.result = RecordingResult(
            ConfusionMatrix(label_map),
            num_parameters,
            unmatched_images=reader.unmatched_images,
            unmatched_labels=reader.unmatched_labels,
            bags=[str(path)],
            topics=[reader.topic.name],
        )
        self._path = path
        self._reader = reader
        self._flips = FlipCounter()

    def score(
        self,
        loaded: LoadedFrame,
        labels: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
        milliseconds: float,
    ) -> None:
        """
        Compare a frame's labels with its ground truth and with the previous frame's labels.

        Parameters
        ----------
        loaded
            The frame, which must be decoded.
        labels, confidence
            (H, W) uint8, of the frame's size.
        milliseconds
            Time of the segmentation.

        Raises
        ------
        SourceError
            The ground truth has another size, or an id that is no class.

        """
        start = time.perf_counter()
        result = self.result
        confusion = ConfusionMatrix(result.confusion.label_map)
        if loaded.truth is not None:
            try:
                confusion.update(loaded.truth, labels)
            except ValueError as error:
                raise SourceError(
                    f'{self._path}: label image at {format_stamp(loaded.label_stamp or 0)} s does '
                    f'not fit frame {loaded.index}: {error}'
                ) from error
            result.confusion += confusion
            result.calibration.update(loaded.truth, labels, confidence)
        assert loaded.frame is not None
        region = find_region(self._reader.crop, labels.shape)
        seen = replace(loaded.frame, pixels=loaded.frame.pixels[region])
        flips = self._flips.compare(seen, labels[region])
        result.flips += flips
        result.class_pixels += np.bincount(labels.ravel(), minlength=256)
        elapsed = 1e3 * (time.perf_counter() - start)
        result.frames.append(
            FrameMetrics(
                self._path.name, loaded.index, loaded.stamp, loaded.label_stamp, confusion.miou(),
                confusion.pixel_accuracy(), flips.share,
                (loaded.milliseconds, milliseconds, elapsed),
            )
        )

    def end(self, damage: str, seconds: float) -> None:
        """
        Complete the result.

        Parameters
        ----------
        damage
            Description of the part of the bag that could not be read; empty if there is none.
        seconds
            From the first frame to the last.

        Raises
        ------
        SourceError
            No frame could be used.

        """
        result = self.result
        result.seconds = seconds
        result.problems += self._reader.unusable_labels
        if damage:
            result.problems.append(damage)
        if not result.frames:
            rejected = ', '.join(f'{n} {reason}' for reason, n in result.rejected.items())
            raise SourceError(
                f'{self._path}: {result.topics[0]} has no frame that can be used'
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
    Segment every frame of a bag once, in order, and compare it with its ground truth.

    Parameters
    ----------
    segmenter
        The segmenter; its `output_size` must be None.
    path
        The bag, see `open_bag`.
    image_topic
        None selects the only one.
    truth
        Source of the ground truth; without it there are no accuracies.
    progress
        Show a progress bar.

    Raises
    ------
    SourceError
        The bag can't be read or has no frame, a topic is missing or ambiguous, no ground truth
        matches, no label image can be used, or one does not fit.

    """
    with open_bag(path) as bag:
        source = truth or TruthSource()
        reader = RecordingReader(bag, image_topic, source, segmenter.label_map, segmenter.crop)
        frames: Iterable[LoadedFrame] = prefetch(reader.frames())
        if progress:
            frames = tqdm(frames, path.name, total=reader.topic.count, unit='frame')
        scorer = Scorer(reader, path, segmenter.label_map, segmenter.num_parameters)
        result = scorer.result
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
        scorer.end(bag.damage, time.perf_counter() - start)
    return result


def recording_to_dict(result: RecordingResult) -> dict[str, Any]:
    """
    Return the metrics of a result.

    Returns
    -------
    dict
        The metrics of `accuracy_metrics`, and `confusion_matrix` (rows: true class; columns:
        predicted class, unlabeled), `calibration_error`, `flipped` (fraction of the still pixels),
        `class_shares`, `images`, `fps`, `stages_ms` (p50, p95 and p99 of each stage), `matched`,
        `unmatched_images` and `unmatched_labels` (stamps in nanoseconds), `rejected`,
        `parameters`, `bags`, `topics`, `problems`.

    """
    names = result.confusion.label_map.names
    pixels = result.class_pixels
    fractions = pixels[[*result.confusion.label_map.ids]] / max(int(pixels.sum()), 1)
    times = np.array([frame.milliseconds for frame in result.frames])
    return {
        **accuracy_metrics(result.confusion),
        'confusion_matrix': result.confusion.counts.tolist(),
        'calibration_error': defined(result.calibration.error()),
        'flipped': defined(result.flips.share),
        'class_shares': by_name(names, fractions),
        'images': len(result.frames),
        'fps': len(result.frames) / result.seconds if result.seconds else None,
        'stages_ms': {stage: _percentiles(times[:, k]) for k, stage in enumerate(STAGES)},
        'matched': sum(frame.label_stamp is not None for frame in result.frames),
        'unmatched_images': result.unmatched_images,
        'unmatched_labels': result.unmatched_labels,
        'rejected': dict(result.rejected),
        'parameters': result.num_parameters,
        'bags': result.bags,
        'topics': result.topics,
        'problems': result.problems,
    }


def _percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    percentiles = np.percentile(values, (50, 95, 99)).round(3).tolist()
    return dict(zip(('p50', 'p95', 'p99'), percentiles, strict=True))


def format_notes(result: RecordingResult) -> str:
    """Format the text below the table of accuracies, for a terminal."""
    metrics = recording_to_dict(result)
    lines = []
    if metrics['calibration_error'] is not None:
        lines.append(f"{'calibration err.':<16}{metrics['calibration_error']:>8.4f}")
    if metrics['flipped'] is not None:
        lines.append(f"{'flipped labels':<16}{metrics['flipped']:>8.4f}   of the still pixels")
    fps = metrics['fps'] or math.nan
    lines.append(f"{metrics['images']} frames, {fps:.1f} frames/s, reading included")
    for stage, values in metrics['stages_ms'].items():
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
