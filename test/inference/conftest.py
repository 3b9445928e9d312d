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

"""What the tests of inference share."""

import pytest
import torch


@pytest.fixture
def kernel_device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """
    Return the device on which Triton's kernels run.

    Where there is no GPU, its interpreter runs them on the CPU. All blocks take it about the same
    time, so it gets few and large ones.
    """
    pytest.importorskip('triton')
    if torch.cuda.is_available():
        return torch.device('cuda:0')
    from lednet_ros.inference.backends import cuda_kernels

    for name, size in {
        'BLOCK': 8192, 'BLOCK_ROWS': 64, 'BLOCK_COLUMNS': 128, 'BLOCK_CELLS': 256
    }.items():
        monkeypatch.setattr(cuda_kernels, name, size)
    return torch.device('cpu')
