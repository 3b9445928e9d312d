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

"""`lednet torture`: what the live node survives."""

import argparse
from pathlib import Path

from lednet_ros.cli.parsing import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    text = 'bring faults about on live nodes, then let one run under load'
    parser = subparsers.add_parser('torture', help=text, description=text)
    parser.add_argument(
        '--fault', action='append', default=[], metavar='NAME', help='only this one (repeatable)'
    )
    parser.add_argument('--quick', action='store_true', help='as seldom as the tests do it')
    parser.add_argument(
        '--soak-minutes', type=float, default=2.0, help='0 for no soak (default: 2)'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures to FILE')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the faults, print the tables and write the file; 1 if one was not survived."""
    from lednet_ros.benchmark.tables import print_results
    from lednet_ros.files import make_folder, write_json
    from lednet_ros.live.torture import run_torture

    if options.json:
        # Fails now rather than after the work.
        make_folder(options.json.parent)
    results = run_torture(options.fault, options.quick, options.soak_minutes)
    print_results(results)
    if 'soak' in results:
        print_results(results['soak'])
    if options.json:
        write_json(results, options.json)
    return 0 if all(row['survived'] for row in results['rows']) else 1
