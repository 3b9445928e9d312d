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
from pathlib import Path

from lednet_ros.cli.parsing import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser('train', help='train a network by a recipe')
    parser.add_argument('recipe', help='YAML file, or the name of one in config/train')
    parser.add_argument('--data', metavar='DIR', help='folder of the data set')
    parser.add_argument('--output', required=True, metavar='DIR', help='folder for the results')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        dest='settings',
        help='change an entry of the recipe, like stages.0.epochs=5 (repeatable)',
    )
    parser.add_argument('--resume', action='store_true', help='go on from the last epoch')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train and print the measured accuracy."""
    from lednet_ros.training.loop import train
    from lednet_ros.training.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.settings)
    root = Path(options.data) if options.data else None
    metrics = train(recipe, root, Path(options.output), options.resume)
    for name, figures in metrics.items():
        numbers = {key: value for key, value in figures.items() if isinstance(value, float)}
        print(f'{name}:', ', '.join(f'{key} {value:.4f}' for key, value in numbers.items()))
    return 0
