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

"""The executables as processes: how they end, and what a bad configuration looks like."""

from pathlib import Path
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ros

# The node promises to end within 2 s; a busy machine gets more before the test gives up.
EXIT_TIMEOUT = 20
SECOND_SIGNAL_AFTER = 0.1


def start(module: str, *arguments: str) -> 'subprocess.Popen[str]':
    """Start a module as a process."""
    return subprocess.Popen(
        [sys.executable, '-m', module, '--ros-args', *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ('module', 'sign'),
    [
        ('lednet_ros.ros.segmentation_node', 'segmenting'),
        ('lednet_ros.ros.synthetic_camera', 'publishing'),
    ],
)
def test_a_signal_ends_the_process_cleanly(
    checkpoint: Path, module: str, sign: str, number: signal.Signals
) -> None:
    arguments = ['-p', f'checkpoint:={checkpoint}'] if 'segmentation' in module else []
    with start(module, *arguments) as process:
        assert process.stdout is not None
        output = ''
        while sign not in output:
            line = process.stdout.readline()
            assert line, f'ended early: {output}'
            output += line
        process.send_signal(number)
        # A terminal and ros2 launch both send SIGINT: the second must not disturb the clean-up.
        try:
            rest, _ = process.communicate(timeout=SECOND_SIGNAL_AFTER)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            rest, _ = process.communicate(timeout=EXIT_TIMEOUT)
    assert process.returncode == 0
    assert 'Traceback' not in rest


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        (['-p', 'checkpoint:=/nowhere.safetensors'], '/nowhere.safetensors'),
        (['-p', 'overlay_alpha:=7.0'], 'overlay_alpha'),
        (['-p', 'device:=abacus'], 'abacus'),
    ],
)
def test_a_bad_configuration_ends_with_one_clear_error(arguments: list[str], named: str) -> None:
    with start('lednet_ros.ros.segmentation_node', *arguments) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert named in output
    assert 'Traceback' not in output
    assert len(output.strip().splitlines()) == 1
