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

"""
The `lednet` command: argument parsing only.

Each command imports what it needs when it runs, so that `lednet --help` stays fast.
"""

import argparse
from collections.abc import Sequence
import logging
import sys

from lednet_ros import __version__
from lednet_ros.cli import (
    benchmark,
    check_data,
    demo,
    evaluate,
    export,
    info,
    quantize,
    segment,
    torture,
    train,
    tune,
    view,
)

COMMANDS = (
    info, evaluate, segment, view, check_data, train, export, quantize, tune, benchmark, torture,
    demo,
)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command and its subcommands."""
    parser = argparse.ArgumentParser(
        prog='lednet', description='LEDNet semantic segmentation for ROS 2.'
    )
    parser.add_argument('--version', action='version', version=f'lednet_ros {__version__}')
    subparsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command with these arguments, by default the process's, and return its exit code.

    0 is success, 1 an error that was printed, 2 a usage error, 3 of `evaluate` a metric below its
    limit, 130 an interrupt.
    """
    options = build_parser().parse_args(arguments)
    # Measuring what is fastest takes a while at the first start, and reports what it does.
    logging.basicConfig(format='%(message)s')
    logging.getLogger('lednet_ros').setLevel(logging.INFO)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 130
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        # The package's errors say what is wrong; a traceback would bury that.
        print(f'lednet {options.command}: {error}', file=sys.stderr)
        return 1
