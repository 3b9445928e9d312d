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
Start and end of every node process of this package.

    python -m lednet_ros.ros.process MODULE [ARGUMENT ...] [--ros-args ...]

runs `main` of a module, as the executables do: signals are handled before the module, and torch
with it, is imported. Until then they kill the process, so hardly anything may be imported at the
top of this file.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from functools import partial
import gc
import importlib
import os
import signal
import sys
import threading
from typing import NoReturn, TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node

# malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

USAGE = """\
usage: ros2 run lednet_ros {name} [--ros-args [-r TOPIC:=OTHER] [-p PARAMETER:=VALUE] ...]

{description}
"""
# Of the executables, by module.
DESCRIPTIONS = {
    'lednet_ros.ros.segmentation_node': (
        'Segments camera images: image in; ~/labels, ~/confidence, ~/overlay and others out.\n'
        'Parameters: config/segment.yaml. Topics, states and diagnostics: docs/node.md.\n'
        'Launch file: ros2 launch lednet_ros segment.launch.py --show-args'
    ),
    'lednet_ros.ros.synthetic_camera': (
        'Publishes image, camera_info and ground_truth of a synthetic street.\n'
        'Parameters: width, height, seed, speed, rate, encoding, frame_id (docs/node.md).'
    ),
}


def keep_large_buffers() -> None:
    """
    Let malloc keep the memory of large messages instead of returning it after each one.

    Otherwise, page faults make taking a 6 MB image four times slower. Does nothing where the C
    library has no `mallopt`.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 256 << 20)


def log_folder() -> str:
    """Return the folder that ROS logs into; empty where there is none without a home."""
    home = os.environ.get('HOME')
    parent = os.environ.get('ROS_HOME') or (f'{home}/.ros' if home else '')
    return os.environ.get('ROS_LOG_DIR') or (f'{parent}/log' if parent else '')


def ensure_log_folder() -> None:
    """
    Let ROS log into a temporary folder where it can't make its own, and would not start.

    Does nothing where `ROS_LOG_DIR` is set.
    """
    from pathlib import Path
    import tempfile

    if 'ROS_LOG_DIR' in os.environ:
        return
    reason = 'there is no HOME'
    if folder := log_folder():
        usual = Path(folder)
        try:
            usual.mkdir(parents=True, exist_ok=True)
            if os.access(usual, os.W_OK):
                return
        except OSError:
            pass
        reason = f"{usual} can't be written"
    os.environ['ROS_LOG_DIR'] = folder = tempfile.mkdtemp(prefix='ros_log_')
    print(f'ROS logs into {folder}: {reason}', file=sys.stderr)


def remove_leftovers() -> None:
    """Remove shared memory of killed processes, which respawned nodes would fill it with."""
    from lednet_ros.machine import leftovers_of_fast_dds

    if removed := leftovers_of_fast_dds(remove=True):
        size = sum(removed.values()) >> 20
        print(
            f'removed {len(removed)} shared-memory segments of killed processes ({size} MiB)',
            file=sys.stderr,
        )


def use_shipped_profile() -> None:
    """
    Let large images pass whole, from this process and its children.

    Takes effect for participants created later; variables that are already set stay.
    """
    from lednet_ros.files import share_directory
    from lednet_ros.ros.distribution import PROFILE_VARIABLES

    profile = str(share_directory() / 'config' / 'fastdds.xml')
    for variable in PROFILE_VARIABLES:
        os.environ.setdefault(variable, profile)


def run_node(make_node: Callable[[], Node], arguments: Sequence[str] | None = None) -> int:
    """
    Make a node and spin it until it is stopped, by any number of signals at any moment.

    Parameters
    ----------
    make_node
        Makes the node; a ValueError, a RuntimeError or rclpy's error about a parameter from it
        stops the process. If the node has an attribute `exit_code`, a future, the process ends
        with its result.
    arguments
        Command line; None takes that of the process.

    Returns
    -------
    int
        Exit code: that of the node, 0 after SIGINT, SIGTERM or a shutdown, 1 when the node could
        not be made.

    """
    import rclpy
    from rclpy.exceptions import ParameterException
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    starting = interrupted = False

    def stop_starting(*_: object) -> None:
        # Loading and warming up would continue. A later signal must not disturb the clean-up: a
        # terminal and ros2 launch both send SIGINT.
        nonlocal starting, interrupted
        if starting:
            starting, interrupted = False, True
            raise SystemExit(0)

    keep_large_buffers()
    ensure_log_folder()
    remove_leftovers()
    _handle_signals(_exit_at_once)
    try:
        # rclpy's handlers leave gaps in which a signal kills the process.
        rclpy.init(
            args=None if arguments is None else list(arguments),
            signal_handler_options=SignalHandlerOptions.NO,
        )
    except RuntimeError as error:
        print(f'{type(error).__name__}: {error}', file=sys.stderr)
        return 1
    node = None
    try:
        executor = SingleThreadedExecutor()
        # The interpreter writes a byte into this pipe for every signal.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        starting = True
        _handle_signals(stop_starting)
        node = make_node()
        starting = False
        executor.add_node(node)
        # While this thread waits for ROS, no handler of Python's runs.
        threading.Thread(
            target=lambda: os.read(reader, 1) and rclpy.try_shutdown(), daemon=True
        ).start()
        exit_code = getattr(node, 'exit_code', None)
        if exit_code is None:
            executor.spin()
            return 0
        # Not spin_until_future_complete: it adds a callback to the future with every spin.
        while rclpy.ok() and not exit_code.done():
            executor.spin_once()
        return int(exit_code.result() or 0)
    except ExternalShutdownException:
        pass
    except BaseException as error:
        expected = isinstance(error, (ValueError, RuntimeError, ParameterException))
        # What a signal interrupts may raise another error than that of the handler.
        if not interrupted and not expected:
            raise
        if not interrupted and rclpy.ok():
            print(f'{type(error).__name__}: {error}', file=sys.stderr)
            return 1
    finally:
        starting = False
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        _handle_signals(signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
    return 0


def _handle_signals(handler: Callable[..., object] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _exit_at_once(*_: object) -> NoReturn:
    """End the process while there is nothing to clean up yet."""
    os._exit(0)


def _run_main(module: str) -> NoReturn:
    _handle_signals(_exit_at_once)
    if module in DESCRIPTIONS and not {'-h', '--help'}.isdisjoint(sys.argv[1:]):
        name = module.rpartition('.')[2]
        print(USAGE.format(name=name, description=DESCRIPTIONS[module]), end='')
        _end(0)
    try:
        code = importlib.import_module(module).main()
    except SystemExit as end:
        code = end.code
    _end(int(code or 0))


def _end(code: int) -> NoReturn:
    """
    End the process without the interpreter's end.

    That takes half a second, and aborts the process where a thread is still in the network.
    """
    _handle_signals(signal.SIG_IGN)
    try:
        # A node that could not be made leaves the graph when it is collected.
        gc.collect()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


# The executables; setup.py names them.
segmentation_node = partial(_run_main, 'lednet_ros.ros.segmentation_node')
synthetic_camera = partial(_run_main, 'lednet_ros.ros.synthetic_camera')
player = partial(_run_main, 'lednet_ros.live.player')

if __name__ == '__main__':
    _run_main(sys.argv.pop(1))
