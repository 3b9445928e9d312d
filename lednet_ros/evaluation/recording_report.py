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

"""Reports of a bag evaluation: per-frame CSV and HTML."""

from collections.abc import Mapping, Sequence
import csv
import math
from pathlib import Path

from lednet_ros.evaluation.recording import format_notes, FrameMetrics, RecordingResult, STAGES
from lednet_ros.evaluation.recording_reader import RecordingReader, TruthSource
from lednet_ros.evaluation.report import FrameResult, to_svg, write_report
from lednet_ros.files import atomic_path
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.recordings.bags import format_stamp, open_bag
from matplotlib.figure import Figure
import numpy as np

COLUMNS = (
    'bag', 'index', 'stamp', 'label_stamp', 'miou', 'pixel_accuracy', 'flipped',
    *(f'{stage}_ms' for stage in STAGES),
)
# Frames to show of the best, the middle and the worst.
SHOWN = 2


def write_csv(result: RecordingResult, path: Path) -> None:
    """Write the metrics per frame; undefined ones are empty."""
    with atomic_path(path) as temporary, temporary.open('w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for frame in result.frames:
            metrics = (frame.miou, frame.accuracy, frame.flips)
            writer.writerow(
                (
                    frame.bag, frame.index, format_stamp(frame.stamp),
                    '' if frame.label_stamp is None else format_stamp(frame.label_stamp),
                    *('' if math.isnan(value) else f'{value:.6f}' for value in metrics),
                    *(f'{value:.3f}' for value in frame.milliseconds),
                )
            )


def write_recording_report(
    path: Path,
    result: RecordingResult,
    segmenter: Segmenter,
    image_topic: str | None,
    truth: TruthSource,
    shortfalls: Sequence[str] | None,
) -> None:
    """
    Write a report in one HTML file, for which some frames are read and segmented again.

    Parameters
    ----------
    path
        The file, replaced in one step.
    result
        The evaluation's result.
    segmenter, image_topic, truth
        The inputs that produced it.
    shortfalls
        The metrics below their limits; None if there are no limits.

    Raises
    ------
    OSError
        The file can't be written.
    SourceError
        A bag can't be read anymore.

    """
    title = ', '.join(Path(bag).name for bag in result.bags[:3])
    if len(result.bags) > 3:
        title += f' and {len(result.bags) - 3} more'
    if shortfalls is not None:
        title += ': fell short' if shortfalls else ': passed'
    details = {'fell short': '\n'.join(shortfalls)} if shortfalls else {}
    details |= {
        'metrics': format_notes(result),
        'bags': '\n'.join(result.bags),
        'topics': ', '.join(result.topics),
        'network': (
            f'{segmenter.network_name}, {segmenter.num_parameters:,} parameters, '
            f'{segmenter.backend} {segmenter.precision}, input '
            f"{'x'.join(map(str, segmenter.input_size))}"
        ),
    }
    frames = result.frames
    metrics = {
        'mIoU': [frame.miou for frame in frames],
        'labels that flipped where the image is still': [frame.flips for frame in frames],
    }
    times = {stage: [f.milliseconds[k] for f in frames] for k, stage in enumerate(STAGES)}
    plots = {'Frame by frame': _plot_lines(metrics, top=1.0)}
    has_truth = any(frame.label_stamp is not None for frame in frames)
    if has_truth:
        plots['Confidence: how often it is right'] = _plot_calibration(result)
    plots['Time'] = _plot_lines(times, 'milliseconds')
    write_report(
        path,
        title,
        [],
        {'Accuracy': result.confusion} if has_truth else {},
        {'Accuracy': _show(result, segmenter, image_topic, truth)} if has_truth else {},
        details,
        plots,
    )


def choose_frames(frames: Sequence[FrameMetrics]) -> list[FrameMetrics]:
    """Choose the best, the middle and the worst frames by mean IoU, the best first."""
    ordered = sorted(
        (frame for frame in frames if not math.isnan(frame.miou)),
        key=lambda frame: (-frame.miou, frame.bag, frame.index),
    )
    middle = max(len(ordered) // 2 - SHOWN // 2, 0)
    places = {*range(SHOWN), *range(middle, middle + SHOWN)}
    places |= {len(ordered) - 1 - k for k in range(SHOWN)}
    return [ordered[place] for place in sorted(places) if 0 <= place < len(ordered)]


def _show(
    result: RecordingResult, segmenter: Segmenter, image_topic: str | None, truth: TruthSource
) -> list[FrameResult]:
    """Read and segment the chosen frames again."""
    chosen = choose_frames(result.frames)
    shown = []
    for path in map(Path, result.bags):
        wanted = {frame.index: frame for frame in chosen if frame.bag == path.name}
        if not wanted:
            continue
        with open_bag(path) as bag:
            reader = RecordingReader(
                bag, image_topic, truth, segmenter.label_map, segmenter.crop
            )
            for loaded in reader.frames():
                metrics = wanted.pop(loaded.index, None)
                if metrics and loaded.frame is not None and loaded.truth is not None:
                    frame = loaded.frame
                    segmented = segmenter.segment([frame], confidence=False, overlay=False)
                    order = 1 if frame.color_order == 'rgb' else -1
                    shown.append(
                        FrameResult(
                            f'{path.name}, frame {loaded.index}, {format_stamp(loaded.stamp)} s',
                            metrics.miou, np.ascontiguousarray(frame.pixels[..., ::order]),
                            loaded.truth, segmented.labels[0].copy(),
                        )
                    )
                if not wanted:
                    break
    return shown


def _plot_lines(
    lines: Mapping[str, Sequence[float]], unit: str = '', top: float | None = None
) -> str:
    """Plot values over the frames, a line for each name."""
    figure = Figure(figsize=(12, 3.2), layout='constrained')
    axes = figure.subplots()
    for name, values in lines.items():
        axes.plot(range(len(values)), values, lw=1, label=name)
    axes.set_xlabel('frame')
    axes.set_ylabel(unit)
    axes.set_ylim(0, top)
    axes.grid(alpha=0.3)
    axes.legend()
    return to_svg(figure)


def _plot_calibration(result: RecordingResult) -> str:
    claimed, right, total = result.calibration.curve()
    figure = Figure(figsize=(5.5, 4), layout='constrained')
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], '--', color='gray', lw=1)
    axes.plot(claimed, right, '-o', ms=4)
    fractions = total / max(int(total.sum()), 1)
    axes.bar(np.arange(len(total)) / len(total), fractions, width=1 / len(total), align='edge',
             alpha=0.2, label='fraction of pixels')
    axes.set_xlabel('confidence')
    axes.set_ylabel('fraction of correct pixels')
    axes.set_title(f'expected calibration error {result.calibration.error():.3f}')
    axes.legend()
    return to_svg(figure)
