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

"""`lednet doctor`: what an issue should contain, and remedies."""

import argparse
from collections.abc import Mapping
from typing import Any

from lednet_ros.cli.parsing import add_json_option, claim_outputs, Subparsers, write_results


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        'doctor',
        help='check this machine: libraries, GPU, ROS, whether frames arrive',
        description='Check this machine, which takes half a minute: libraries, GPU, ROS, folders, '
        'and whether frames arrive. Put its output into an issue. Exit code 1 if a check fails.',
    )
    parser.add_argument(
        '--topic', metavar='TOPIC', help='receive this topic too, and send frames of its size'
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the lines; return 1 if a check failed."""
    from lednet_ros.live.doctor import diagnose

    claim_outputs(options, options.json)
    results = diagnose(options.topic)
    write_results(options, results, lambda: _print(results))
    return 1 if results['failures'] else 0


def _print(results: Mapping[str, Any]) -> None:
    from lednet_ros.cli.tables import make_console, print_rows

    rows = [
        {
            'check': line['check'],
            'finding': f"{line['status']}: {line['finding']}"
            + f"\nremedy: {line['remedy']}" * bool(line['remedy']),
        }
        for line in results['lines']
    ]
    caption = f"{results['failures']} failures, {results['warnings']} warnings"
    print_rows(make_console(), rows, caption=caption)
