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

"""Tests of what the package knows of the machine."""

from collections.abc import Iterator
import fcntl
import os
from pathlib import Path
import subprocess
import sys

from lednet_ros import machine
from lednet_ros.machine import available_cores, int8_sums_saturate, usable_cores
import pytest


@pytest.mark.parametrize(
    ('kind', 'line', 'saturate'),
    [
        ('x86_64', 'flags : fpu sse4_2 avx avx2 fma', True),
        ('x86_64', 'flags : fpu avx2 avx512f avx512bw', True),
        ('x86_64', 'flags : fpu avx2 avx_vnni', False),
        ('x86_64', 'flags : fpu avx2 avx512f avx512_vnni', False),
        ('x86_64', 'flags : fpu avx2 avx512f amx_int8', False),
        # Unknown, as on Windows: the safe answer.
        ('AMD64', '', True),
        ('aarch64', 'Features : fp asimd', False),
    ],
)
def test_int8_sums_saturate_on_x86_without_instructions_for_them(
    kind: str, line: str, saturate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'cpuinfo'
    path.write_text(f'processor : 0\n{line}\n', encoding='utf-8')
    monkeypatch.setattr(machine, 'CPU_INFO', path)
    monkeypatch.setattr('platform.machine', lambda: kind)
    assert int8_sums_saturate() is saturate


@pytest.mark.parametrize(
    ('own', 'files', 'cores'),
    [
        # Version 2, in a container that sees its own group alone.
        ('0::/', {'cpu.max': '200000 100000'}, 2),
        ('0::/', {'cpu.max': 'max 100000'}, 8),
        # Rounded down, but never to nothing.
        ('0::/', {'cpu.max': '290000 100000'}, 2),
        ('0::/', {'cpu.max': '50000 100000'}, 1),
        ('0::/', {'cpu.max': '6400000 100000'}, 8),
        # A service; the strictest of its groups counts.
        (
            '0::/robot.slice/camera.service',
            {
                'robot.slice/cpu.max': '300000 100000',
                'robot.slice/camera.service/cpu.max': 'max 100000',
            },
            3,
        ),
        # Version 1, whose path is the host's and isn't mounted.
        (
            '3:cpuset:/\n2:cpu,cpuacct:/docker/0123\n1:name=systemd:/docker/0123',
            {'cpu/cpu.cfs_quota_us': '400000', 'cpu/cpu.cfs_period_us': '100000'},
            4,
        ),
        (
            '1:cpu:/',
            {'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'},
            8,
        ),
        # Not the processor's.
        ('4:cpuset:/', {'cpu/cpu.cfs_quota_us': '100000', 'cpu/cpu.cfs_period_us': '100000'}, 8),
        ('0::/', {'cpu.max': 'damaged'}, 8),
        ('0::/../../other', {'cpu.max': '200000 100000'}, 2),
        ('', {}, 8),
    ],
)
def test_quota_of_a_container_limits_the_cores(
    own: str, files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, 'CGROUPS', tmp_path)
    monkeypatch.setattr(machine, 'OWN_CGROUPS', tmp_path / 'own')
    monkeypatch.setattr(machine, 'available_cores', lambda: 8)
    (tmp_path / 'own').write_text(own, encoding='utf-8')
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + '\n', encoding='utf-8')
    assert usable_cores() == cores
    assert machine.threads_of_quota() == (cores if cores < 8 else 0)


def test_machine_without_control_groups_has_no_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, 'OWN_CGROUPS', tmp_path / 'missing')
    assert usable_cores() == available_cores()


@pytest.fixture
def one_core_group() -> Iterator[Path]:
    """Make a control group that may keep one core busy."""
    version_2 = (machine.CGROUPS / 'cgroup.controllers').is_file()
    group = machine.CGROUPS / ('' if version_2 else 'cpu') / f'lednet_ros_test_{os.getpid()}'
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f'no control group can be made here: {error}')
    try:
        try:
            if version_2:
                (group / 'cpu.max').write_text('100000 100000', encoding='utf-8')
            else:
                (group / 'cpu.cfs_quota_us').write_text('100000', encoding='utf-8')
        except OSError as error:
            pytest.skip(f'no quota can be set here: {error}')
        yield group
    finally:
        group.rmdir()


SEGMENT = """
import os, sys
from pathlib import Path
(Path(sys.argv[1]) / 'cgroup.procs').write_text(str(os.getpid()))
from lednet_ros.inference.segmenter import Segmenter
import torch
torch.set_num_threads(2)
options = Segmenter.from_checkpoint('lednet', device='cpu', backend='torch_eager').options
print(torch.get_num_threads(), options.num_threads)
options = Segmenter.from_checkpoint(
    'lednet', device='cpu', backend='torch_eager', num_threads=2
).options
print(torch.get_num_threads(), options.num_threads)
"""


@pytest.mark.skipif(available_cores() < 2, reason='a quota of one core would change nothing')
def test_segmenter_takes_no_more_threads_than_a_quota_allows(one_core_group: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-c', SEGMENT, str(one_core_group)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ['1', '1', '2', '2'], done.stderr


def test_only_what_no_process_holds_is_removed_from_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, 'SHARED_MEMORY', tmp_path)
    names = [f'fastrtps_{digit * 16}' for digit in '01'] + ['fastdds_' + 'z' * 16]
    others = {'fastrtps_port7411', 'fastrtps_port7411_el', 'fast_el'}
    for name in others.union(names, (f'{name}_el' for name in names)):
        (tmp_path / name).write_bytes(bytes(100))
    # Killed before it made its segment.
    (tmp_path / f'fastrtps_{"2" * 16}_el').touch()
    with (tmp_path / f'{names[1]}_el').open('rb') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        expected = {names[0]: 100, names[2]: 100, f'fastrtps_{"2" * 16}': 0}
        found = machine.leftovers_of_fast_dds()
        assert {path.name: size for path, size in found.items()} == expected
        assert machine.leftovers_of_fast_dds(remove=True) == found
    assert {path.name for path in tmp_path.iterdir()} == others | {names[1], f'{names[1]}_el'}
    assert machine.leftovers_of_fast_dds().keys() == {tmp_path / names[1]}
