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
from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

from lednet_ros.cli.parsing import (
    add_json_option,
    add_layout_arguments,
    add_segmenter_options,
    add_topic_option,
    add_truth_options,
    claim_outputs,
    read_segmenter_options,
    Subparsers,
    write_results,
)

if TYPE_CHECKING:
    from lednet_ros.evaluation.run import Outcome


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
        'verdict', 'metrics below their limits are listed, and the exit code is 3'
    )
    gate.add_argument('--min-miou', type=float, metavar='IOU', help='lowest mean IoU, 0 to 1')
    gate.add_argument(
        '--min-iou',
        action='append',
        default=[],
        metavar='CLASS=IOU',
        help='lowest IoU of a class (repeatable)',
    )
    gate.add_argument('--baseline', type=Path, metavar='FILE', help='JSON of an earlier run')
    gate.add_argument(
        '--max-regression',
        type=float,
        default=0.0,
        metavar='IOU',
        help="how far metrics may be below the baseline's (default: 0)",
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
        '--corruptions',
        action='store_true',
        help='also with the frames darkened, overexposed, noisy, blurred ...',
    )
    group.add_argument(
        '--submission',
        metavar='DIR',
        help='also write the label images of a Cityscapes submission to DIR; '
        'its frames need no labels then',
    )


def _add_bag_arguments(group: Any) -> None:
    add_topic_option(group)
    add_truth_options(group)
    group.add_argument('--csv', type=Path, metavar='FILE', help='write the metrics per frame')
    group.add_argument('--report', type=Path, metavar='FILE', help='write an HTML report')
    group.add_argument(
        '--resume', type=Path, metavar='DIR', help='store results in DIR; skip bags stored there'
    )
    group.add_argument(
        '--through-ros',
        action='store_true',
        help='send a single bag through the live node, and measure the node too',
    )
    group.add_argument(
        '--workers', type=int, default=1, help='processes, by Ray if more than 1 (default: 1)'
    )
    group.add_argument('--ray-address', metavar='ADDRESS', help='address of a Ray cluster')


def run(options: argparse.Namespace) -> int:
    """Evaluate, print the table, write the files and return the verdict."""
    from lednet_ros.evaluation.gate import Gate, parse_limit, read_baseline
    from lednet_ros.evaluation.run import expand_names, run_evaluation, RunSettings

    claim_outputs(
        options, options.json, options.csv, options.report,
        inputs=[
            *expand_names(options.data), options.labels, options.baseline, options.checkpoint,
            options.label_map,
        ],
    )
    gate = Gate(
        options.min_miou,
        dict(map(parse_limit, options.min_iou)),
        options.baseline and read_baseline(options.baseline),
        options.max_regression,
    )
    named = {k: v for k, v in vars(options).items() if k in RunSettings.__dataclass_fields__}
    named |= {'through_ros': _evaluate_live if options.through_ros else None, 'gate': gate}
    outcome = run_evaluation(RunSettings(**named, options=read_segmenter_options(options)))
    write_results(options, outcome.metrics, lambda: _print(outcome))
    for line in outcome.shortfalls:
        print(f'fell short: {line}', file=sys.stderr)
    return outcome.exit_code


def _print(outcome: 'Outcome') -> None:
    from lednet_ros.cli.tables import make_console, print_rows

    console = make_console()
    if outcome.rows:
        print_rows(console, outcome.rows)
    if outcome.corruption_rows:
        print_rows(console, outcome.corruption_rows)
    print(outcome.notes)
    if node := outcome.metrics.get('node'):
        row = {**node['latency_ms'], **node['counters']}
        print_rows(console, [row], 'node: latency [ms] and frames')


def _evaluate_live(settings: Any, path: Path, segmenter: Any) -> tuple[Any, dict[str, Any]]:
    from lednet_ros.live.replay import evaluate_through_ros

    return evaluate_through_ros(
        settings, path, segmenter.label_map, segmenter.num_parameters
    )


def _scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(scale) for scale in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of numbers like 0.75,1,1.25"
        ) from None
