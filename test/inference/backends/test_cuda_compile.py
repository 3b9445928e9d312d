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
Tests that the Triton kernels compile for GPUs that need not be there, and suit them.

Triton's own compiler makes the machine code for each of them; no driver is needed. It runs in a
process of its own, as the interpreter is on in this one.
"""

import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest
from triton.backends.nvidia.compiler import get_ptxas

# Shared memory that a block may have, KiB, by compute capability.
SHARED_KIB = {80: 163, 87: 163, 89: 99, 90: 227, 100: 227, 120: 99}
# For each of two types.
VARIANTS = 32


def compile_kernels(target: int, cache: Path) -> list[dict[str, Any]]:
    environment = {
        name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'
    }
    script = Path(__file__).with_name('compile_kernels.py')
    done = subprocess.run(
        [sys.executable, str(script), str(target)],
        env={**environment, 'TRITON_CACHE_DIR': str(cache)},
        capture_output=True, text=True, timeout=600,
    )
    assert done.returncode == 0, done.stderr
    kernels: list[dict[str, Any]] = json.loads(done.stdout)
    return kernels


@pytest.mark.parametrize(
    'target',
    [90, *(pytest.param(target, marks=pytest.mark.slow) for target in (80, 87, 89, 100, 120))],
)
def test_kernels_compile(target: int, tmp_path: Path) -> None:
    try:
        get_ptxas(target)
    except RuntimeError as error:
        pytest.skip(f"Triton's ptxas is not installed: {error}")
    kernels = compile_kernels(target, tmp_path)
    assert {kernel['name'] for kernel in kernels} >= {'_prepare', '_pair', '_finish'}
    assert len(kernels) <= VARIANTS
    bad = [
        kernel for kernel in kernels
        if kernel['spill_stores'] or kernel['spill_loads']
        or kernel['shared'] > SHARED_KIB[target] * 1024
        or kernel['tensor_cores'] != kernel['products']
    ]
    assert not bad
