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

"""`lednet train`: train a network by a recipe."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lednet_ros.cli.parsing import (
    add_json_option,
    add_output_option,
    claim_outputs,
    Subparsers,
    write_results,
)


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser('train', help='train a network by a recipe')
    parser.add_argument('recipe', help='YAML file, or the name of one in config/train')
    parser.add_argument('--data', metavar='DIR', help='folder of the data set, or a recording')
    add_output_option(parser, 'folder of the results', required=True, metavar='DIR')
    add_json_option(parser)
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        dest='settings',
        help='change an entry of the recipe, like stages.0.epochs=5 (repeatable)',
    )
    parser.add_argument('--resume', action='store_true', help='continue after the last epoch')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train and print the measured accuracy."""
    from lednet_ros.training.loop import train
    from lednet_ros.training.recipe import load_recipe

    claim_outputs(options, options.json, inputs=[options.data])
    recipe = load_recipe(options.recipe, options.settings)
    root = Path(options.data) if options.data else None
    metrics = train(recipe, root, options.output, options.resume, options.overwrite)
    write_results(options, metrics, lambda: _print(metrics))
    return 0


def _print(metrics: Mapping[str, Mapping[str, Any]]) -> None:
    from lednet_ros.cli.tables import make_console, print_rows

    rows = [
        {'data': name, **{key: value for key, value in found.items() if isinstance(value, float)}}
        for name, found in metrics.items()
    ]
    print_rows(make_console(), rows)
