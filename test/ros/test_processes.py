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

"""The executables as processes: signals, exit codes and configuration errors."""

from collections.abc import Sequence
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import threading
import time

from child_process import ChildProcess
from lednet_ros.inference.tuning import SWITCH
from lednet_ros.machine import leftovers_of_fast_dds
import pytest

pytestmark = pytest.mark.ros

NODE = 'lednet_ros.ros.segmentation_node'
# The node must end within 2 s; a busy machine gets more time.
EXIT_TIMEOUT = 60


def start(
    module: str, *arguments: str, options: Sequence[str] = ()
) -> ChildProcess:
    """Start a module like its executable, with options for the interpreter."""
    command = [sys.executable, *options, '-m', 'lednet_ros.ros.process', module]
    return ChildProcess(
        [*command, '--ros-args', *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: ChildProcess, sign: str) -> None:
    """Read the output of a process until the sign appears."""
    assert process.stdout is not None
    output = ''
    while sign not in output:
        line = process.stdout.readline()
        assert line, f'ended early: {output}'
        output += line


def end_with_signals(process: ChildProcess, number: signal.Signals) -> None:
    """Send a signal repeatedly until the process ends; check that it ends cleanly."""
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.append(process.stdout.read()))
    reader.start()
    deadline = time.perf_counter() + EXIT_TIMEOUT
    while process.poll() is None:
        assert time.perf_counter() < deadline
        process.send_signal(number)
        # A terminal and ros2 launch both send SIGINT; a user may lose patience.
        reader.join(0.01)
    reader.join()
    assert process.returncode == 0, output
    assert 'Traceback' not in output[0]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ('module', 'sign'), [(NODE, 'segmenting'), ('lednet_ros.ros.synthetic_camera', 'publishing')]
)
def test_signals_end_the_process_cleanly(
    checkpoint: Path, module: str, sign: str, number: signal.Signals
) -> None:
    arguments = ['-p', f'checkpoint:={checkpoint}'] if module == NODE else []
    with start(module, *arguments) as process:
        read_until(process, sign)
        end_with_signals(process, number)


@pytest.mark.parametrize('home', ['', '/proc/nobody'])
def test_a_user_without_a_home_can_run_a_node(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('HOME', 'ROS_HOME', 'ROS_LOG_DIR'):
        monkeypatch.delenv(name, raising=False)
    if home:
        monkeypatch.setenv('HOME', home)
    with start('lednet_ros.ros.synthetic_camera') as process:
        read_until(process, 'ROS logs into ')
        read_until(process, 'publishing')
        end_with_signals(process, signal.SIGTERM)


def segments_of(process: ChildProcess) -> set[Path]:
    maps = Path(f'/proc/{process.pid}/maps').read_text()
    return {Path(name) for name in re.findall(r'/dev/shm/fast(?:rtps|dds)_[0-9a-z]{16}\b', maps)}


def test_a_start_removes_what_killed_processes_left_in_shared_memory() -> None:
    camera = 'lednet_ros.ros.synthetic_camera'
    with start(camera, '-r', '__ns:=/one') as killed:
        read_until(killed, 'publishing')
        # Before there is another process whose memory it receives from.
        left = segments_of(killed)
        assert left
        with start(camera, '-r', '__ns:=/two') as alive:
            read_until(alive, 'publishing')
            kept = segments_of(alive) - left
            assert kept
            assert not leftovers_of_fast_dds().keys() & (left | kept)
            killed.kill()
            killed.wait()
            # Nodes of other tests may start at the moment, and remove them.
            assert {path for path in left if path.exists()} <= leftovers_of_fast_dds().keys()
            with start(camera) as following:
                read_until(following, 'publishing')
                end_with_signals(following, signal.SIGTERM)
            locks = [path.with_name(f'{path.name}_el') for path in left]
            assert not [path for path in (*left, *locks) if path.exists()]
            assert all(path.exists() for path in kept)
            end_with_signals(alive, signal.SIGTERM)


@pytest.mark.parametrize('package', ['lednet_ros.files', 'numpy', 'torch', 'openvino'])
def test_signals_end_a_process_during_imports(package: str, checkpoint: Path) -> None:
    # lednet_ros.files comes first, openvino when the node is configured.
    pytest.importorskip(package)
    with start(NODE, '-p', f'checkpoint:={checkpoint}', options=['-X', 'importtime']) as process:
        read_until(process, f' {package}')
        end_with_signals(process, signal.SIGTERM)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_process_that_measures_backends(
    checkpoint: Path, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('openvino')
    monkeypatch.delenv(SWITCH)
    monkeypatch.setenv('LEDNET_ROS_CACHE', str(tmp_path))
    with start(NODE, '-p', f'checkpoint:={checkpoint}') as process:
        read_until(process, "backend 'auto': reference")
        end_with_signals(process, number)
    # It didn't wait for the verdict.
    assert not list(tmp_path.glob('*.json'))


@pytest.mark.parametrize('module', [NODE, 'lednet_ros.ros.synthetic_camera'])
def test_help_is_printed_and_nothing_started(module: str) -> None:
    with start(module, '--help') as process:
        output, _ = process.communicate(timeout=EXIT_TIMEOUT)
    assert process.returncode == 0
    assert output.startswith(f"usage: ros2 run lednet_ros {module.rpartition('.')[2]} ")
    assert 'INFO' not in output


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        (['-p', 'checkpoint:=/nowhere.safetensors'], '/nowhere.safetensors'),
        (['-p', 'overlay_alpha:=7.0'], 'overlay_alpha'),
        (['-p', 'device:=abacus'], 'abacus'),
    ],
)
def test_bad_configuration_ends_with_one_error(arguments: list[str], named: str) -> None:
    with start(NODE, *arguments) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert 'Traceback' not in output
    # Fast DDS may have logged messages, too.
    assert len([line for line in output.splitlines() if named in line]) == 1
    assert len([line for line in output.splitlines() if 'error' in line.lower()]) == 1


def test_process_ends_cleanly_while_a_thread_computes(tmp_path: Path) -> None:
    (tmp_path / 'busy.py').write_text("""
import threading
import torch


def main():
    started = threading.Event()

    def compute():
        matrix = torch.ones(1000, 1000)
        while True:
            matrix @ matrix
            started.set()

    threading.Thread(target=compute, daemon=True).start()
    started.wait()
    return 0
""")
    with ChildProcess(
        [sys.executable, '-m', 'lednet_ros.ros.process', 'busy'],
        env=os.environ | {'PYTHONPATH': f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    ) as process:
        assert process.wait(EXIT_TIMEOUT) == 0


def test_spinning_adds_no_callbacks_to_the_exit_code() -> None:
    script = """
import sys
from lednet_ros.ros.process import run_node
from rclpy.node import Node
from rclpy.task import Future


class Counted(Future):
    added = 0

    def add_done_callback(self, callback):
        Counted.added += 1
        super().add_done_callback(callback)


class Ticking(Node):
    def __init__(self):
        super().__init__('ticking')
        self.exit_code = Counted()
        self.ticks = 0
        self.create_timer(0.001, self.tick)

    def tick(self):
        self.ticks += 1
        if self.ticks == 300:
            self.exit_code.set_result(5)


code = run_node(Ticking)
print(Counted.added)
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=EXIT_TIMEOUT
    )
    assert done.returncode == 5, done.stderr
    assert int(done.stdout) < 10
