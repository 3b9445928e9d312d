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

"""`lednet torture`: fault injection into live nodes, then a soak test."""

import argparse

from lednet_ros.cli.parsing import add_json_option, claim_outputs, Subparsers, write_results


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    text = 'inject faults into live nodes, then run one under load'
    parser = subparsers.add_parser('torture', help=text, description=text)
    parser.add_argument(
        '--fault', action='append', default=[], metavar='NAME', help='only this one (repeatable)'
    )
    parser.add_argument(
        '--quick', action='store_true', help='inject each fault as few times as the tests do'
    )
    parser.add_argument(
        '--soak-minutes', type=float, default=2.0, help='0 skips the soak test (default: 2)'
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Inject the faults and print the tables; return 1 if the node did not survive one."""
    from lednet_ros.cli.tables import print_results
    from lednet_ros.live.faults import run_torture

    claim_outputs(options, options.json)
    results = run_torture(options.fault, options.quick, options.soak_minutes)
    parts = [results, *([results['soak']] if 'soak' in results else [])]
    write_results(options, results, lambda: [print_results(part) for part in parts])
    return 0 if all(row['survived'] for row in results['rows']) else 1
