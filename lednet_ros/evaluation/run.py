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

"""The run of `lednet evaluate`: which evaluation it is, what it writes, and the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
import glob
from pathlib import Path
import sys
from typing import Any

from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.datasets import guess_layout, open_labeled
from lednet_ros.evaluation.cityscapes import open_for_submission
from lednet_ros.evaluation.corruptions import corruption_rows, evaluate_corruptions
from lednet_ros.evaluation.dataset import accuracy_rows, evaluate, to_dict
from lednet_ros.evaluation.gate import FAILED, Gate
from lednet_ros.evaluation.ground_truth import list_label_files
from lednet_ros.evaluation.many_bags import evaluate_bags, EvaluationSettings
from lednet_ros.evaluation.multi_scale import MultiScaleSegmenter
from lednet_ros.evaluation.recording import format_notes, recording_to_dict, RecordingResult
from lednet_ros.evaluation.recording_reader import TruthSource
from lednet_ros.files import claim_folder
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.recordings.bags import is_bag, SourceError

FOLDERS_ONLY = ('scales', 'flip', 'submission', 'corruptions')
BAGS_ONLY = (
    'image_topic', 'label_topic', 'labels', 'slop', 'csv', 'report', 'resume', 'through_ros',
    'workers', 'ray_address',
)

LiveEvaluation = Callable[
    [EvaluationSettings, Path, Segmenter], tuple[RecordingResult, dict[str, Any]]
]
"""Evaluates a bag through the live node; returns the result and the metrics of the node."""


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run: the options of `lednet evaluate` of the same names."""

    data: Sequence[str]
    checkpoint: str
    label_map: str | None = None
    options: SegmenterOptions = field(default_factory=SegmenterOptions)
    gate: Gate = field(default_factory=Gate)
    split: str = 'val'
    layout: str = 'auto'
    annotations: str = 'gtFine'
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    submission: str | None = None
    corruptions: bool = False
    image_topic: str | None = None
    label_topic: str | None = None
    labels: Path | None = None
    slop: float = 0.0
    csv: Path | None = None
    report: Path | None = None
    resume: Path | None = None
    through_ros: LiveEvaluation | None = None
    workers: int = 1
    ray_address: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Outcome:
    """
    Outcome of a run.

    Attributes
    ----------
    metrics
        Everything that was measured, for JSON.
    rows
        Table of the accuracies; empty without ground truth.
    corruption_rows
        Table of the accuracies under corruptions; empty unless they were requested.
    notes
        Text below the table.
    shortfalls
        The metrics below their limits.
    exit_code
        Exit code of the command.

    """

    metrics: dict[str, Any]
    rows: list[dict[str, Any]]
    corruption_rows: list[dict[str, Any]]
    notes: str
    shortfalls: list[str]
    exit_code: int


def run_evaluation(settings: RunSettings) -> Outcome:
    """
    Evaluate a folder of labeled frames or bags, and write the requested files.

    Raises
    ------
    ImportError
        Several workers are requested, but ray is not installed.
    OSError
        A file can't be written.
    RuntimeError, ValueError
        The data, the network or a setting can't be used; the message says why.

    """
    paths = expand_names(settings.data)
    exit_code = 0
    if any(is_bag(path) for path in paths):
        _reject(settings, FOLDERS_ONLY, 'folders')
        metrics, notes, exit_code = _evaluate_bags(settings, paths)
    elif len(paths) == 1 and paths[0].is_dir():
        _reject(settings, BAGS_ONLY, 'bags')
        metrics = _evaluate_folder(settings, paths[0])
        notes = f"{metrics['images']} frames, {metrics['fps']:.1f} frames/s"
        if metrics['calibration_error'] is not None:
            notes += f", calibration error {metrics['calibration_error']:.3f}"
        for problem in metrics.get('problems', ()):
            print(f'lost: {problem}', file=sys.stderr)
            exit_code = 1
    else:
        wrong = paths[0]
        reason = 'is not a bag' if wrong.exists() else 'does not exist'
        raise SourceError(
            f'{wrong} {reason}; needed: a folder of frames, or bags (a folder of .mcap or .db3 '
            'files, or a .mcap, .db3 or .bag file)'
        )
    rows = accuracy_rows(metrics) if metrics.get('matched', True) else []
    shortfalls = settings.gate.shortfalls(metrics)
    return Outcome(
        metrics, rows, corruption_rows(metrics.get('corruptions', {})), notes, shortfalls,
        FAILED if shortfalls else exit_code,
    )


def _evaluate_folder(settings: RunSettings, folder: Path) -> dict[str, Any]:
    is_averaged = settings.scales != (1.0,) or settings.flip
    if settings.corruptions and (is_averaged or settings.submission):
        raise ValueError(
            '--corruptions is given with --scales, --flip or --submission; only one may be'
        )
    if settings.submission:
        claim_folder(Path(settings.submission), [folder], settings.overwrite)
    source, options = settings.checkpoint, settings.options
    checkpoint = load_checkpoint(source, settings.label_map)
    if settings.submission and options.classes:
        raise ValueError('--submission and --classes are given; a submission has the classes of '
                         'Cityscapes')
    segmenter: Segmenter | MultiScaleSegmenter
    if not is_averaged:
        segmenter = Segmenter(checkpoint, options, source=source)
    else:
        segmenter = MultiScaleSegmenter(
            checkpoint, options, source=source, scales=settings.scales, flip=settings.flip
        )
    settings.gate.check_names(segmenter.label_map.names)
    layout = guess_layout(folder) if settings.layout == 'auto' else settings.layout
    what = (folder, settings.split, segmenter.label_map.network, settings.annotations)
    if layout == 'cityscapes' and settings.submission:
        frames = open_for_submission(*what)
    else:
        frames = open_labeled(layout, *what)
    metrics = to_dict(evaluate(segmenter, frames, settings.submission))
    if settings.corruptions:
        assert isinstance(segmenter, Segmenter)
        metrics['corruptions'] = evaluate_corruptions(segmenter, frames)
    return metrics


def _evaluate_bags(settings: RunSettings, paths: list[Path]) -> tuple[dict[str, Any], str, int]:
    """Evaluate bags; return metrics, notes and exit code."""
    if settings.label_topic and settings.labels:
        raise ValueError('--label-topic and --labels are given; only one may be')
    if settings.labels:
        list_label_files(settings.labels)
    options = settings.options
    if not options.num_threads and (settings.workers > 1 or settings.ray_address):
        # Each of several processes takes one core.
        options = replace(options, num_threads=1)
    truth = TruthSource(settings.label_topic, settings.labels, round(settings.slop * 1e9))
    each = EvaluationSettings(
        settings.checkpoint, settings.label_map, options, settings.image_topic, truth
    )
    segmenter = each.make_segmenter()
    settings.gate.check_names(segmenter.label_map.names)
    failures: dict[str, str] = {}
    node: dict[str, Any] = {}
    total: RecordingResult | None
    if settings.through_ros:
        if len(paths) > 1:
            raise ValueError(f'{len(paths)} bags are given; --through-ros takes one')
        total, node['node'] = settings.through_ros(each, paths[0], segmenter)
    else:
        result = evaluate_bags(
            segmenter, each, paths, settings.resume, settings.workers, settings.ray_address
        )
        total, failures = result.total, result.failures
        for path, reason in failures.items():
            print(f'failed: {path}: {reason}', file=sys.stderr)
        if total is None:
            raise SourceError(f'none of {len(paths)} bags could be evaluated')
    metrics = {**recording_to_dict(total), 'failures': failures, **node}
    if settings.csv or settings.report:
        # Plots take a while to import.
        from lednet_ros.evaluation.recording_report import write_csv, write_recording_report

        if settings.csv:
            write_csv(total, settings.csv)
        if settings.report:
            shortfalls = settings.gate.shortfalls(metrics) if settings.gate else None
            write_recording_report(
                settings.report, total, segmenter, settings.image_topic, truth, shortfalls
            )
    return metrics, format_notes(total), 1 if failures or total.problems else 0


def _reject(settings: RunSettings, names: Sequence[str], data: str) -> None:
    """Raise ValueError for a setting that would have no effect."""
    for each in fields(settings):
        if each.name in names and getattr(settings, each.name) != each.default:
            raise ValueError(f"--{each.name.replace('_', '-')} is given, which is for {data} only")


def expand_names(names: Sequence[str]) -> list[Path]:
    """Expand names and patterns to paths."""
    paths: list[Path] = []
    for name in names:
        # The name of an existing file is no pattern, whatever it looks like.
        matches = [] if Path(name).exists() else sorted(glob.glob(name))  # noqa: PTH207
        paths += [Path(match) for match in matches] or [Path(name)]
    return paths
