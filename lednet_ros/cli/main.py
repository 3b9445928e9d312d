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
from collections.abc import Iterator, Sequence
import contextlib
import io
import logging
import os
import signal
import sys
import threading

from lednet_ros import __version__
from lednet_ros.cli import (
    benchmark,
    check_data,
    demo,
    doctor,
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

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COMMANDS = (
    info, evaluate, segment, view, check_data, train, export, quantize, tune, benchmark, torture,
    demo, doctor,
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
    limit, 128 + N the end by signal N, like 130 by Ctrl-C.
    """
    options = build_parser().parse_args(arguments)
    # Not for --help, which it would slow down.
    from lednet_ros.files import describe_outputs, forget_outputs

    # Names that aren't UTF-8 can't be printed as they are.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    # A progress bar that can't redraw itself, as in a log, is appended each time. tqdm reads this
    # when it is imported.
    if not sys.stderr.isatty():
        os.environ.setdefault('TQDM_MININTERVAL', '10')
    # Measuring what is fastest takes a while at the first start, and reports what it does.
    logging.basicConfig(format='%(message)s')
    logging.getLogger('lednet_ros').setLevel(logging.INFO)
    forget_outputs()
    received: list[int] = []
    try:
        with _interrupted_by_signals(received):
            return int(options.run(options))
    except KeyboardInterrupt:
        outputs = describe_outputs()
        print(f'lednet {options.command}: interrupted', outputs, sep='; ' * bool(outputs),
              file=sys.stderr)
        return 128 + (received or [signal.SIGINT])[0]
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        if outputs := describe_outputs():
            print(outputs, file=sys.stderr)
        # The package's errors say what is wrong; a traceback would bury that.
        print(f'lednet {options.command}: {error}', file=sys.stderr)
        return 1


@contextlib.contextmanager
def _interrupted_by_signals(received: list[int]) -> Iterator[None]:
    """Raise KeyboardInterrupt at the first signal; later ones don't disturb the clean-up."""

    def interrupt(number: int, _: object) -> None:
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt

    before = {}
    # Python's handlers can't end a worker of torchrun that waits for the others in C++.
    is_worker = 'LOCAL_RANK' in os.environ
    if threading.current_thread() is threading.main_thread() and not is_worker:
        # What is ignored, as by nohup, stays so.
        before = {
            each: handler
            for each in ENDING
            if (handler := signal.getsignal(each)) != signal.SIG_IGN
        }
    try:
        for each in before:
            signal.signal(each, interrupt)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
