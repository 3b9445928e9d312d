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

"""What `lednet doctor` finds on good and on bad machines, without ROS."""

from collections.abc import Callable
import fcntl
from functools import partial
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from lednet_ros import checkpoint, machine
from lednet_ros.files import NO_CACHE, share_directory
from lednet_ros.inference import options
from lednet_ros.live import doctor
from lednet_ros.live.doctor import Check, CHECKS, FAILURE, GOOD, Line, run_check, WARNING
from lednet_ros.ros.distribution import PROFILE_VARIABLES
import pytest
import torch

# Runs the command in an environment that lacks rclpy.
WITHOUT_ROS = """
import sys
sys.modules['rclpy'] = None
from lednet_ros.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
MADE_UP_GPU = 'Made-up GPU, 555.1, 8192 MiB'


def find(name: str) -> dict[str, Line]:
    """Run a check in this process; return its lines by what they are about."""
    return {line.check: line for line in CHECKS[name].find()}


def is_good(line: Line) -> bool:
    """Return whether a finding is good; the others must have a remedy."""
    assert line.finding
    assert (line.status == GOOD) == (not line.remedy)
    return line.status == GOOD


def returning(value: Any) -> Callable[..., Any]:
    """Return a function that always returns a value."""
    return lambda *_, **__: value


# --- The command ----------------------------------------------------------------------------


def test_command_works_without_ros_and_home(tmp_path: Path) -> None:
    gone = ('HOME', 'ROS_HOME', 'ROS_LOG_DIR', 'XDG_CACHE_HOME')
    environment = {name: value for name, value in os.environ.items() if name not in gone}
    report = tmp_path / 'doctor.json'
    command = [sys.executable, '-c', WITHOUT_ROS, 'doctor', '--topic', '/image', '--json']
    done = subprocess.run(
        [*command, report], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stderr
    assert 'Traceback' not in done.stdout + done.stderr
    results = json.loads(report.read_text())
    assert results.keys() == {'version', 'topic', 'failures', 'warnings', 'lines'}
    lines = {content['check']: Line(**content) for content in results['lines']}
    assert len(lines) == len(results['lines'])
    for line in lines.values():
        is_good(line)
        assert line.status in (GOOD, WARNING, FAILURE)
        assert f'{line.status}: {line.finding[:10]}' in done.stdout
    for status, key in ((FAILURE, 'failures'), (WARNING, 'warnings')):
        assert sum(line.status == status for line in lines.values()) == results[key]
    assert lines['ROS'].status == WARNING
    assert lines['frames'].status == FAILURE
    assert lines['logs of ROS'].status == WARNING
    for name in ('lednet_ros', 'Python', 'PyTorch', 'OpenCV, NumPy', 'checkpoint lednet'):
        assert lines[name].status == GOOD


def raise_error() -> Any:
    raise ValueError('no such thing')


def crash() -> None:
    os.write(2, b'last words\n')
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ('fault', 'finding'),
    [
        (raise_error, 'ValueError: no such thing'),
        (crash, 'crashed by SIGKILL: last words'),
        (partial(time.sleep, 600), 'no answer within 2 s'),
        (partial(sys.exit, 3), 'ended with exit code 3'),
    ],
    ids=['raises', 'crashes', 'hangs', 'ends'],
)
def test_checks_that_fail_are_lines(
    fault: Callable[[], object], finding: str, capfd: pytest.CaptureFixture[str]
) -> None:
    good = Line('first', GOOD, 'found before that')

    def check() -> doctor.Lines:
        yield good
        fault()

    first, line = run_check('name', Check(check, WARNING, 'do this'), timeout=2)
    assert first == good
    assert (line.check, line.status, line.remedy) == ('name', WARNING, 'do this')
    assert line.finding.startswith(finding)
    assert not ''.join(capfd.readouterr())


# --- Libraries and devices ------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'module'),
    [('PyTorch', 'torch'), ('OpenCV, NumPy', 'cv2'), ('cv_bridge', 'cv_bridge')],
)
def test_libraries_that_can_not_be_imported(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(map(is_good, run_check(name, CHECKS[name])))
    # Stands in for a library that was compiled for another NumPy.
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(doctor, 'find_spec', returning(object()))
    (line,) = run_check(name, CHECKS[name])
    assert not is_good(line)
    assert line.status == CHECKS[name].status
    assert module in line.finding


@pytest.mark.parametrize(
    ('driver', 'built', 'works', 'status'),
    [
        ('', None, None, GOOD),
        (MADE_UP_GPU, None, None, WARNING),
        (MADE_UP_GPU, '12.8', None, FAILURE),
        (MADE_UP_GPU, '12.8', False, FAILURE),
        (MADE_UP_GPU, '12.8', True, GOOD),
    ],
    ids=['none', 'PyTorch for CPUs', 'not seen', 'no code for it', 'works'],
)
def test_gpu(
    driver: str, built: str | None, works: bool | None, status: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GPU, driver and PyTorch's view of them are mocks: the tests need none."""
    monkeypatch.setattr(doctor, '_find_driver', returning(driver))
    monkeypatch.setattr(torch.version, 'cuda', built)
    for name, value in {
        'is_available': works is not None,
        'device_count': 1,
        'get_device_name': 'Made-up GPU',
        'get_device_capability': (8, 7),
        'get_arch_list': ['sm_90'],
    }.items():
        monkeypatch.setattr(torch.cuda, name, returning(value))
    monkeypatch.setattr(options, 'resolve_device', returning('cuda:0' if works else 'cpu'))
    line = find('GPU')['GPU']
    is_good(line)
    assert line.status == status
    assert driver in line.finding


def test_driver_is_that_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / 'nvidia-smi'
    program.write_text(f'#!/bin/sh\necho {MADE_UP_GPU}\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert doctor._find_driver() == MADE_UP_GPU
    program.write_text('#!/bin/sh\necho no driver >&2; exit 9\n')
    (line,) = run_check('GPU', CHECKS['GPU'])
    assert line.status == FAILURE
    assert line.finding == 'RuntimeError: nvidia-smi: no driver'


def test_compiler_is_needed_by_triton_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, 'find_spec', returning(object()))
    monkeypatch.setattr(doctor, 'DEVICES', tmp_path)
    monkeypatch.setenv('PATH', '')
    assert is_good(find('compiler')['compiler'])
    # Stands in for a driver: the tests need no GPU.
    (tmp_path / 'nvidiactl').touch()
    assert not is_good(find('compiler')['compiler'])


def test_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = find('backends')
    assert 'torch_eager fp32' in lines['backends'].finding
    monkeypatch.setattr(doctor, 'find_spec', returning(None))
    monkeypatch.setattr(doctor.platform, 'machine', returning('x86_64'))
    assert not is_good(find('backends')['OpenVINO'])


def test_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = find('checkpoints')
    assert all(map(is_good, lines.values()))
    assert len(lines) == len(checkpoint.shipped_checkpoints())
    monkeypatch.setattr(checkpoint, 'WEIGHTS_DIRECTORY', tmp_path)
    assert find('checkpoints')['checkpoint lednet'].status == FAILURE
    # What a clone without Git LFS has.
    (tmp_path / 'mine.safetensors').write_text('version https://git-lfs.github.com/spec/v1\n')
    assert find('checkpoints')['checkpoint mine'].status == FAILURE


@pytest.mark.parametrize('name', doctor.OPTIONAL)
def test_optional_packages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for found, good in ((object(), True), (None, False)):
        monkeypatch.setattr(doctor, 'find_spec', returning(found))
        assert is_good(find('optional packages')[f'package {name}']) == good


def test_busy_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for load, good in ((0.5, True), (1000.0, False)):
        monkeypatch.setattr(os, 'getloadavg', returning((load, load, load)))
        assert is_good(find('lednet_ros')['processor']) == good


# --- Folders --------------------------------------------------------------------------------


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('LEDNET_ROS_CACHE', str(tmp_path))
    (tmp_path / 'verdict.json').write_text('{}')
    assert '1 files, 0 MiB, 1 verdicts' in find('cache')['cache'].finding
    monkeypatch.setenv('LEDNET_ROS_CACHE', '/dev/null/cache')
    (line,) = run_check('cache', CHECKS['cache'])
    assert not is_good(line)
    # Stands in for a user without a home.
    monkeypatch.setattr(doctor, 'cache_folder', returning(NO_CACHE))
    (line,) = run_check('cache', CHECKS['cache'])
    assert 'no home' in line.finding


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'new' / 'logs'))
    lines = find('permissions')
    assert is_good(lines['folder'])
    assert is_good(lines['logs of ROS'])
    program = tmp_path / 'program'
    program.touch(0o755)
    monkeypatch.setenv('ROS_LOG_DIR', str(program / 'logs'))
    assert not is_good(find('permissions')['logs of ROS'])
    for name in ('ROS_LOG_DIR', 'ROS_HOME', 'HOME'):
        monkeypatch.delenv(name, raising=False)
    assert 'no HOME' in find('permissions')['logs of ROS'].finding


def test_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, 'DEVICES', tmp_path)
    assert is_good(find('permissions')['cameras'])
    (tmp_path / 'video0').touch()
    assert is_good(find('permissions')['cameras'])
    # The tests may run as root, who may do all.
    monkeypatch.setattr(os, 'access', returning(False))
    lines = find('permissions')
    assert 'video0' in lines['cameras'].finding
    assert not is_good(lines['cameras'])
    assert not is_good(lines['folder'])


# --- Shared memory, sockets, variables ------------------------------------------------------


@pytest.mark.parametrize(
    ('free', 'status'), [(8 << 30, GOOD), (100 << 20, WARNING), (40 << 20, FAILURE)]
)
def test_space_of_shared_memory(
    free: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The machine's own can't be filled.
    usage = shutil._ntuple_diskusage(64 << 30, 0, free)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, 'disk_usage', returning(usage))
    line = find('shared memory')['shared memory']
    is_good(line)
    assert line.status == status


def test_files_in_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, 'SHARED_MEMORY', tmp_path)
    lock = tmp_path / 'fastrtps_0123456789abcdef_el'
    lock.touch()
    (tmp_path / 'fastrtps_0123456789abcdef').write_bytes(bytes(3 << 20))
    (tmp_path / 'fastrtps_port7411').touch()
    with lock.open('rb') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = find('shared memory')
    assert is_good(lines['leftovers'])
    assert is_good(lines['other users'])
    lines = find('shared memory')
    assert not is_good(lines['leftovers'])
    assert '1 segments of processes that have ended, 3 MiB' in lines['leftovers'].finding
    # A file of another user needs root.
    monkeypatch.setattr(os, 'geteuid', returning(os.getuid() + 1))
    assert f'uid {os.getuid()}' in find('shared memory')['other users'].finding


@pytest.mark.parametrize(('size', 'good'), [('8388608', True), ('212992', False), (None, False)])
def test_socket_buffers(
    size: str | None, good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'rmem_max'
    if size:
        path.write_text(size)
    monkeypatch.setattr(doctor, 'LARGEST_SOCKET_BUFFER', path)
    (line,) = run_check('UDP buffers', CHECKS['UDP buffers'])
    assert is_good(line) == good


def test_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert doctor._check_profile().status == WARNING
    shipped = str(share_directory() / 'config' / 'fastdds.xml')
    assert shipped in doctor._check_profile().remedy
    monkeypatch.setenv(PROFILE_VARIABLES[0], shipped)
    monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
    assert is_good(doctor._check_profile())
    assert 'FASTDDS_BUILTIN_TRANSPORTS=UDPv4' in doctor._check_profile().finding
    monkeypatch.setenv(PROFILE_VARIABLES[1], '/no/such/file.xml')
    assert doctor._check_profile().status == FAILURE
