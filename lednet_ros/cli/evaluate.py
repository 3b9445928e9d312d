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

"""`lednet evaluate`: accuracy on labeled frames, of folders and of bags."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
import glob
from pathlib import Path
import sys
from typing import Any

from lednet_ros.cli.parsing import (
    add_json_option,
    add_layout_arguments,
    add_segmenter_options,
    add_topic_option,
    make_folders,
    read_segmenter_options,
    Subparsers,
    write_results,
)

# Options for one kind of data, with their defaults.
FOLDER_OPTIONS = {'scales': (1.0,), 'flip': False, 'submission': None}
BAG_OPTIONS = {
    'image_topic': None,
    'label_topic': None,
    'labels': None,
    'slop': 0.0,
    'csv': None,
    'report': None,
    'resume': None,
    'through_ros': False,
    'workers': 1,
    'ray_address': None,
}


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser('evaluate', help='measure accuracy on labeled frames')
    parser.add_argument(
        'data',
        nargs='+',
        metavar='DATA',
        help='folder with SPLIT/images and SPLIT/labels, Cityscapes, or bags (names or patterns)',
    )
    add_json_option(parser)
    add_segmenter_options(parser)
    _add_folder_arguments(parser.add_argument_group('folders'))
    _add_bag_arguments(parser.add_argument_group('bags'))
    gate = parser.add_argument_group(
        'verdict', 'figures that fall short are listed, and the exit code is 3'
    )
    gate.add_argument('--min-miou', type=float, metavar='IOU', help='lowest mean IoU, 0 to 1')
    gate.add_argument(
        '--min-iou',
        action='append',
        default=[],
        metavar='CLASS=IOU',
        help='lowest IoU of a class; may be repeated',
    )
    gate.add_argument('--baseline', type=Path, metavar='FILE', help='JSON of an earlier run')
    gate.add_argument(
        '--max-regression',
        type=float,
        default=0.0,
        metavar='IOU',
        help="how far figures may be below the baseline's (default: 0)",
    )
    parser.set_defaults(run=run)


def _add_folder_arguments(group: Any) -> None:
    group.add_argument('--split', default='val', help='part of the data (default: val)')
    add_layout_arguments(group, labeled=True)
    group.add_argument(
        '--scales',
        type=_scales,
        default=(1.0,),
        metavar='S,S...',
        help='average over these sizes of the input, like 0.75,1,1.25 (default: 1)',
    )
    group.add_argument('--flip', action='store_true', help='average over mirrored frames too')
    group.add_argument(
        '--submission',
        metavar='DIR',
        help='also write the label images that the Cityscapes benchmark takes to DIR; '
        'its frames need no labels then',
    )


def _add_bag_arguments(group: Any) -> None:
    add_topic_option(group)
    group.add_argument('--label-topic', metavar='TOPIC', help='ground truth: ids or colors')
    group.add_argument(
        '--labels', type=Path, metavar='DIR', help='ground truth: files SEC.NANOSEC.png'
    )
    group.add_argument(
        '--slop',
        type=float,
        default=0.0,
        metavar='SECONDS',
        help='largest difference of the stamps of image and label (default: 0)',
    )
    group.add_argument('--csv', type=Path, metavar='FILE', help='write the figures of each frame')
    group.add_argument('--report', type=Path, metavar='FILE', help='write an HTML report')
    group.add_argument(
        '--resume', type=Path, metavar='DIR', help='keep results in DIR; skip what is there'
    )
    group.add_argument(
        '--through-ros',
        action='store_true',
        help='send a single bag through the live node, and measure that too',
    )
    group.add_argument(
        '--workers', type=int, default=1, help='processes, by Ray if more than 1 (default: 1)'
    )
    group.add_argument('--ray-address', metavar='ADDRESS', help='of a running Ray cluster')


def run(options: argparse.Namespace) -> int:
    """Evaluate, print the table, write the files and give the verdict."""
    from lednet_ros.evaluation.gate import FAILED, Gate, parse_limit, read_baseline
    from lednet_ros.recordings.bags import is_bag, SourceError

    make_folders(options.json, options.csv, options.report)
    gate = Gate(
        options.min_miou,
        dict(parse_limit(text) for text in options.min_iou),
        None if options.baseline is None else read_baseline(options.baseline),
        options.max_regression,
    )
    paths = _expand(options.data)
    if all(is_bag(path) for path in paths):
        _refuse(options, FOLDER_OPTIONS, 'folders')
        figures, print_tables, code = _evaluate_bags(options, paths, gate)
    elif len(paths) == 1 and paths[0].is_dir():
        _refuse(options, BAG_OPTIONS, 'bags')
        figures, print_tables = _evaluate_folder(options, paths[0], gate)
        code = 0
    else:
        wrong = next(path for path in paths if not is_bag(path))
        reason = 'is not a bag' if wrong.exists() else 'does not exist'
        raise SourceError(
            f'{wrong} {reason}; needed: a folder of frames, or bags (a folder with '
            'metadata.yaml, or a .mcap, .db3 or .bag file)'
        )
    write_results(options, figures, print_tables)
    shortfalls = gate.shortfalls(figures)
    for line in shortfalls:
        print(f'fell short: {line}', file=sys.stderr)
    return FAILED if shortfalls else code


def _evaluate_folder(
    options: argparse.Namespace, folder: Path, gate: Any
) -> tuple[Mapping[str, Any], Callable[[], None]]:
    from lednet_ros.checkpoint import load_checkpoint
    from lednet_ros.datasets import guess_layout, open_labeled
    from lednet_ros.evaluation.cityscapes import open_for_submission
    from lednet_ros.evaluation.dataset import accuracy_rows, evaluate, to_dict
    from lednet_ros.evaluation.multi_scale import MultiScaleSegmenter
    from lednet_ros.files import make_folder
    from lednet_ros.inference.segmenter import Segmenter

    if options.submission:
        make_folder(Path(options.submission))
    checkpoint = load_checkpoint(options.checkpoint, options.label_map)
    gate.check_names(checkpoint.label_map.names)
    settings = read_segmenter_options(options)
    source = options.checkpoint
    segmenter: Segmenter | MultiScaleSegmenter
    if options.scales == (1.0,) and not options.flip:
        segmenter = Segmenter(checkpoint, settings, source=source)
    else:
        segmenter = MultiScaleSegmenter(
            checkpoint, settings, source=source, scales=options.scales, flip=options.flip
        )
    layout = guess_layout(folder) if options.layout == 'auto' else options.layout
    what = (folder, options.split, segmenter.label_map, options.annotations)
    if layout == 'cityscapes' and options.submission:
        frames = open_for_submission(*what)
    else:
        frames = open_labeled(layout, *what)
    result = evaluate(segmenter, frames, options.submission)
    metrics = to_dict(result)

    def print_tables() -> None:
        from lednet_ros.cli.tables import make_console, print_rows

        speed = f'{result.images} frames, {result.fps:.1f} frames/s'
        print_rows(make_console(), accuracy_rows(metrics), caption=speed)

    return metrics, print_tables


def _evaluate_bags(
    options: argparse.Namespace, paths: list[Path], gate: Any
) -> tuple[Mapping[str, Any], Callable[[], None], int]:
    from lednet_ros.evaluation.dataset import accuracy_rows
    from lednet_ros.evaluation.ground_truth import list_label_files
    from lednet_ros.evaluation.many_bags import evaluate_bags, EvaluationSettings
    from lednet_ros.evaluation.recording import format_notes, recording_to_dict
    from lednet_ros.evaluation.recording_reader import TruthSource
    from lednet_ros.recordings.bags import SourceError

    if options.label_topic and options.labels:
        raise ValueError('--label-topic and --labels are given; only one may be')
    if options.labels:
        list_label_files(options.labels)
    chosen = read_segmenter_options(options)
    if not chosen.num_threads and (options.workers > 1 or options.ray_address):
        # Each process of several takes one core.
        chosen = replace(chosen, num_threads=1)
    settings = EvaluationSettings(
        options.checkpoint,
        options.label_map,
        chosen,
        image_topic=options.image_topic,
        truth=TruthSource(options.label_topic, options.labels, round(options.slop * 1e9)),
    )
    segmenter = settings.make_segmenter()
    gate.check_names(segmenter.label_map.names)
    failures: dict[str, str] = {}
    node: dict[str, Any] = {}
    if options.through_ros:
        from lednet_ros.live.replay import evaluate_through_ros

        if len(paths) > 1:
            raise ValueError(f'{len(paths)} bags are given; --through-ros takes one')
        total, node['node'] = evaluate_through_ros(
            settings, paths[0], segmenter.label_map, segmenter.num_parameters
        )
    else:
        found = evaluate_bags(
            segmenter, settings, paths, options.resume, options.workers, options.ray_address
        )
        failures = found.failures
        for path, reason in failures.items():
            print(f'failed: {path}: {reason}', file=sys.stderr)
        if found.total is None:
            raise SourceError(f'none of {len(paths)} bags could be evaluated')
        total = found.total
    figures = {**recording_to_dict(total), 'failures': failures, **node}

    def print_tables() -> None:
        from lednet_ros.cli.tables import make_console, print_rows

        console = make_console()
        if figures['matched']:
            print_rows(console, accuracy_rows(figures))
        print(format_notes(total))
        if node:
            values = node['node']
            row = {**values['latency_ms'], **values['counters']}
            print_rows(console, [row], 'node: latency [ms] and frames')

    if options.csv or options.report:
        # Plots take a while to import.
        from lednet_ros.evaluation.recording_report import write_csv, write_recording_report

        if options.csv:
            write_csv(total, options.csv)
        if options.report:
            limited = gate.min_miou is not None or gate.min_iou or gate.baseline
            write_recording_report(
                options.report,
                total,
                segmenter,
                options.image_topic,
                settings.truth,
                gate.shortfalls(figures) if limited else None,
            )
    return figures, print_tables, 1 if failures or total.problems else 0


def _refuse(options: argparse.Namespace, defaults: Mapping[str, Any], data: str) -> None:
    """Raise ValueError for an option that would have no effect."""
    for name, default in defaults.items():
        if getattr(options, name) != default:
            raise ValueError(f"--{name.replace('_', '-')} is given, which is for {data} only")


def _expand(names: list[str]) -> list[Path]:
    """Expand names and patterns to paths."""
    paths: list[Path] = []
    for name in names:
        # A name that is there is no pattern, whatever it looks like.
        matches = [] if Path(name).exists() else sorted(glob.glob(name))  # noqa: PTH207
        paths += [Path(match) for match in matches] or [Path(name)]
    return paths


def _scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(scale) for scale in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of numbers like 0.75,1,1.25"
        ) from None
