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

from pathlib import Path

from lednet_ros import machine
from lednet_ros.machine import int8_sums_saturate
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
