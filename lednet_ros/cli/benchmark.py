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

"""`lednet benchmark`: speed, compared with the alternatives."""

import argparse
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from lednet_ros.cli.parsing import add_json_option, claim_outputs, Subparsers, write_results

SIZE: dict[str, Any] = {'type': int, 'nargs': 2, 'metavar': ('H', 'W')}


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser('benchmark', help='measure speed')
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='KIND')
    pipeline = _add(kinds, 'pipeline', 'frames to results, in this process')
    pipeline.add_argument(
        '--classes', type=int, default=20, help='outputs of the network (default: 20)'
    )
    pipeline.add_argument('--device', default='auto', help='auto, cpu or cuda')
    transport = _add(kinds, 'transport', 'message in to messages out, without a network')
    models = _add(kinds, 'models', 'all networks side by side, frames to labels')
    models.add_argument(
        '--data', type=Path, metavar='CAMVID', help='also measure accuracy on its split val'
    )
    models.add_argument(
        '--backend',
        action='append',
        dest='backends',
        default=argparse.SUPPRESS,
        help='backend to time (repeatable; default: all)',
    )
    for single in (pipeline, transport, models):
        single.add_argument('--rounds', type=int, default=20, help='default: 20')
    node = _add(kinds, 'node', 'the live node over DDS, at several rates and at its peak')
    cameras = _add(kinds, 'cameras', 'the live node with 1, 2, 4 and 6 cameras')
    soak = _add(kinds, 'soak', 'the live node over a long time: memory and latency')
    soak.add_argument('--minutes', type=float, default=30.0, help='duration (default: 30)')
    soak.add_argument('--rate', type=float, default=30.0, help='frames per second (default: 30)')
    for live in (transport, node, cameras):
        live.add_argument(
            '--seconds', type=float, default=10.0, help='duration of a measurement (default: 10)'
        )
    for one in (pipeline, node, cameras, soak):
        one.add_argument('--checkpoint', default='lednet', help='default: lednet')
    for one in (pipeline, node, cameras, soak, models):
        one.add_argument('--input-size', default=(512, 1024), **SIZE)
        one.add_argument('--threads', type=int, default=0, help='CPU threads (default: all)')


def _add(kinds: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(name, help=text, description=text)
    parser.add_argument('--frame-size', default=(1024, 2048), **SIZE)
    add_json_option(parser)
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw them (png, svg or pdf)')
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables and write the files."""
    from lednet_ros.benchmark.plots import plot_results
    from lednet_ros.cli.tables import print_results

    claim_outputs(options, options.json, options.plot)
    measure = _load(options.kind)
    # The options have the names of the parameters.
    given = {k: v for k, v in vars(options).items() if k in signature(measure).parameters}
    sizes = {k: tuple(v) for k, v in given.items() if k.endswith('_size')}
    results = measure(**given | sizes)
    write_results(options, results, lambda: print_results(results))
    if options.plot:
        plot_results(results, options.plot)
    return 0


def _load(kind: str) -> Callable[..., dict[str, Any]]:
    """Import the function that measures a kind; only live nodes need ROS."""
    if kind == 'pipeline':
        from lednet_ros.benchmark.pipeline import run_pipeline

        return run_pipeline
    if kind == 'models':
        from lednet_ros.benchmark.models import run_models

        return run_models
    from lednet_ros.live import benchmarks

    return {
        'transport': benchmarks.run_transport,
        'node': benchmarks.run_node,
        'cameras': benchmarks.run_cameras,
        'soak': benchmarks.run_soak,
    }[kind]
