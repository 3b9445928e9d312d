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
Compiles every Triton kernel that a frame needs, for a GPU that need not be there.

    python compile_kernels.py 87

Prints a JSON list with one object for each variant of a kernel: its name, and what it takes.
TRITON_INTERPRET must not be set. `test_cuda_compile.py` runs this in a process of its own.
"""

from collections.abc import Callable
from functools import partial
import json
from pathlib import Path
import re
import subprocess
import sys
import tempfile
from typing import Any

from lednet_ros.inference.backends import cuda_kernels
from lednet_ros.inference.backends.base import Outputs, Wanted
from lednet_ros.inference.backends.cuda_units import use_triton_units
from lednet_ros.models.lednet import lednet
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability
from triton.runtime.jit import KernelInterface

CLASSES = 20
NETWORK_SIZE = (512, 1024)
FRAME_SIZE = (1024, 2048)
OTHER_FRAME_SIZE = (1080, 1921)
PATTERNS = {
    'registers': r'Used (\d+) registers',
    'spill_stores': r'(\d+) bytes spill stores',
    'spill_loads': r'(\d+) bytes spill loads',
}


class Driver:
    """All that compiling asks of a driver."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> GPUTarget:
        return GPUTarget('cuda', self.arch, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def measure(arch: int, compiled: Any) -> dict[str, Any]:
    """Find out what a compiled kernel takes: registers, spills and shared memory in bytes."""
    ptx = compiled.asm['ptx']
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, 'kernel.ptx')
        source.write_text(ptx, 'utf-8')
        # As Triton calls it.
        log = subprocess.run(
            [
                get_ptxas(arch).path, '-v', '--regAllocOptLevel=2',
                f'--gpu-name={sm_arch_from_capability(arch)}', source, '-o', '/dev/null',
            ],
            capture_output=True, text=True, check=True,
        ).stderr
    figures: dict[str, Any] = {
        name: int(found[1]) if (found := re.search(pattern, log)) else 0
        for name, pattern in PATTERNS.items()
    }
    return figures | {
        'shared': compiled.metadata.shared,
        'products': 'tt.dot' in compiled.asm['ttir'],
        'tensor_cores': bool(re.search(r'\bmma\.sync|wgmma\.mma_async|tcgen05\.mma', ptx)),
    }


def launch_frame(network: torch.nn.Module, dtype: torch.dtype, size: tuple[int, int]) -> None:
    """Launch what a frame needs: all results, also of merged classes, or labels and overlay."""
    frame = torch.empty((*size, 3), dtype=torch.uint8)
    images = torch.empty((1, *NETWORK_SIZE, 3), dtype=dtype)
    cuda_kernels.prepare(frame, True, torch.empty(6), images[0])
    scores = network.scores(images.permute(0, 3, 1, 2))
    palette = torch.empty((256, 3), dtype=torch.uint8)
    visible = torch.empty(256, dtype=torch.uint8)
    everything = Wanted(True, True, True)
    for wanted, threshold, ids in (
        (everything, True, None), (Wanted(overlay=True), False, None), (everything, True, visible)
    ):
        cuda_kernels.finish(
            scores[0], frame, True, palette, visible, torch.empty(257), wanted, Outputs(size),
            threshold=threshold, ids=ids,
        )


def main(arch: int) -> None:
    triton.runtime.driver.set_active(Driver(arch))
    found: dict[str, dict[str, Any]] = {}
    known: list[str] = []

    def compile_only(kernel: Any, grid: object, *args: object, **options: object) -> None:
        compiled = kernel.run(*args, grid=grid, warmup=True, **options)
        if compiled.hash not in found:
            assert not known, f'{kernel.__name__} was compiled again for another frame size'
            found[compiled.hash] = {'name': kernel.__name__, **measure(arch, compiled)}

    def launcher(kernel: Any, grid: object) -> Callable[..., None]:
        return partial(compile_only, kernel, grid)

    KernelInterface.__getitem__ = launcher
    network = lednet(CLASSES).eval()
    network.fold_batch_norm()
    use_triton_units(network)
    with torch.inference_mode():
        for size in (FRAME_SIZE, OTHER_FRAME_SIZE):
            for dtype in (torch.float16, torch.bfloat16):
                launch_frame(network.to(dtype), dtype, size)
            known.extend(found)
    print(json.dumps(list(found.values())))


if __name__ == '__main__':
    main(int(sys.argv[1]))
