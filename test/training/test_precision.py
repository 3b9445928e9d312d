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

"""Tests of the precision in which a device trains."""

from pathlib import Path

from lednet_ros import machine
from lednet_ros.training.precision import choose_precision
import pytest
import torch

CPU = torch.device('cpu')


@pytest.mark.parametrize(
    ('line', 'chosen'),
    [
        ('flags : fpu sse4_2 avx avx2 fma', 'fp32'),
        # It would emulate bf16.
        ('flags : fpu avx2 avx512f avx512_vnni', 'fp32'),
        ('flags : fpu avx2 avx512f avx512_bf16', 'bf16'),
        ('flags : fpu avx2 avx512f amx_bf16', 'bf16'),
        ('Features : fp asimd asimddp', 'fp32'),
        ('Features : fp asimd i8mm bf16', 'bf16'),
        ('', 'fp32'),
    ],
)
def test_a_processor_trains_in_bf16_only_if_it_has_it(
    line: str, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'cpuinfo'
    path.write_text(f'processor : 0\n{line}\n', encoding='utf-8')
    monkeypatch.setattr(machine, 'CPU_INFO', path)
    assert choose_precision('auto', CPU) == chosen
    assert choose_precision('bf16', CPU) == 'bf16'
    assert choose_precision('fp32', CPU) == 'fp32'


@pytest.mark.parametrize(('capability', 'chosen'), [((7, 5), 'fp32'), ((8, 7), 'bf16')])
def test_a_gpu_trains_in_bf16_only_if_it_has_it(
    capability: tuple[int, int], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A mock: there is no GPU here.
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    assert choose_precision('auto', torch.device('cuda', 0)) == chosen
