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

"""What every node process of this package does at its start and at its end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import ctypes
import os
import signal
import subprocess
import sys

from lednet_ros.files import share_directory
import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

# malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

STOP_TIMEOUT = 5.0
# The second is the name from Fast DDS 3 on.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


def keep_large_buffers() -> None:
    """
    Make malloc keep the memory of large messages instead of returning it after each one.

    Without this, taking a 6 MB image costs four times as much in page faults. Does nothing where
    the C library has no `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 256 << 20)


def use_shipped_profile() -> None:
    """
    Let this process and its children talk on this machine only, and pass large images whole.

    Takes effect for participants that are made later; what the environment already says, stays.
    """
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    profile = str(share_directory() / 'config' / 'fastdds.xml')
    for variable in PROFILE_VARIABLES:
        os.environ.setdefault(variable, profile)


@contextlib.contextmanager
def run_module(
    module: str,
    namespace: str,
    ros_arguments: Sequence[str] = (),
    arguments: Sequence[str] = (),
    wrapper: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator['subprocess.Popen[bytes]']:
    """
    Run a node as a process; it is interrupted, as by Ctrl-C, at the end of the block.

    Parameters
    ----------
    module
        To run, like `python -m`.
    namespace
        Of its nodes.
    ros_arguments
        After `--ros-args`, like '-p', 'device:=cpu'.
    arguments
        Its own ones.
    wrapper
        Command that runs the rest of its line.
    environment
        Variables besides those of this process.

    """
    command = [*wrapper, sys.executable, '-m', module, *arguments]
    command += ['--ros-args', '-r', f'__ns:={namespace}', *ros_arguments]
    with subprocess.Popen(command, env={**os.environ, **(environment or {})}) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()


def run_node(make_node: Callable[[], Node], arguments: Sequence[str] | None = None) -> int:
    """
    Make a node and spin it until it is told to stop.

    Parameters
    ----------
    make_node
        Makes the node; a ValueError, a RuntimeError or rclpy's error about a parameter from it
        stops the process.
    arguments
        Command line; None takes the process's own.

    Returns
    -------
    int
        Exit code: 0 after SIGINT, SIGTERM or a shutdown, 1 when the node could not be made.

    """
    starting = True

    def stop_starting(*_: object) -> None:
        # rclpy's own handler, which is called too, ends the spin. Loading and warming up would go
        # on, and a second SIGINT (a terminal and ros2 launch both send it) disturb the clean-up.
        nonlocal starting
        if starting:
            starting = False
            raise SystemExit(0)

    keep_large_buffers()
    signal.signal(signal.SIGINT, stop_starting)
    signal.signal(signal.SIGTERM, stop_starting)
    try:
        rclpy.init(args=None if arguments is None else list(arguments))
    except RuntimeError as error:
        print(f'{type(error).__name__}: {error}', file=sys.stderr)
        return 1
    node = None
    try:
        # Before the node: made after a signal has shut the context down, it would fail noisily.
        executor = SingleThreadedExecutor()
        node = make_node()
        starting = False
        executor.add_node(node)
        executor.spin()
    except ExternalShutdownException:
        pass
    except (ValueError, RuntimeError, ParameterException) as error:
        if rclpy.ok():
            print(f'{type(error).__name__}: {error}', file=sys.stderr)
            return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        # The interpreter takes some 0.5 s to end, without handlers: a signal would kill it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return 0
