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
Tests of the encoder's units in Triton against the units in PyTorch.

Where there is no CUDA device they run in Triton's interpreter (a mock of the GPU, exact but for
rounding); `test/conftest.py` chooses it.
"""

import math
from typing import Any

from lednet_ros.inference.backends import cuda_units
from lednet_ros.inference.backends.cuda_units import (
    TritonDecoder,
    TritonDownsampling,
    TritonUnit,
    units_fit,
    use_triton_units,
)
from lednet_ros.models import build_network, LEDNet
from lednet_ros.models.lednet import AttentionPyramid, ConvBNReLU, DownsamplingUnit, SSnbtUnit
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
# Compiled kernels are for fp16 and bf16; the interpreter is exact.
DTYPE = torch.float16 if DEVICE.type == 'cuda' else torch.float32
CLOSE = 2e-2 if DEVICE.type == 'cuda' else 1e-4
pytestmark = [pytest.mark.gpu] if DEVICE.type == 'cuda' else []


def draw_normalizations(module: nn.Module) -> None:
    """Draw statistics and factors, some of these negative, as a training may find them."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.uniform_(-0.3, 0.3)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(-0.3, 1.5)
            part.bias.data.uniform_(-0.3, 0.3)


@torch.inference_mode()
@pytest.mark.parametrize(
    ('channels', 'dilation', 'shape'),
    [(32, 1, (1, 7, 13)), (64, 2, (2, 9, 5)), (128, 17, (1, 6, 20)), (128, 5, (1, 11, 3))],
)
def test_a_unit_is_that_of_pytorch(
    channels: int, dilation: int, shape: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    unit = SSnbtUnit(channels, 0.1, dilation).eval()
    draw_normalizations(unit)
    count, height, width = shape
    x = torch.randn(count, channels, height, width)
    expected = unit(x)
    unit.fold_batch_norm()
    found = TritonUnit(unit).to(DEVICE, DTYPE)(x.to(DEVICE, DTYPE))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.float().cpu(), expected, atol=CLOSE, rtol=CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize(
    ('channels', 'shape'),
    [
        ((3, 32), (1, 24, 36)),
        ((3, 32), (2, 13, 11)),
        ((32, 64), (2, 9, 14)),
        ((64, 128), (1, 6, 5)),
        ((64, 128), (1, 1, 1)),
    ],
)
def test_downsampling_is_that_of_pytorch(
    channels: tuple[int, int], shape: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    unit = DownsamplingUnit(*channels).eval()
    draw_normalizations(unit)
    count, height, width = shape
    x = torch.randn(count, channels[0], height, width)
    found = TritonDownsampling(unit).to(DEVICE, DTYPE)(x.to(DEVICE, DTYPE))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.float().cpu(), unit(x), atol=CLOSE, rtol=CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize(
    ('classes', 'shape'),
    [
        (20, (1, 8, 8)),
        (11, (3, 9, 13)),
        (1, (2, 17, 8)),
        (15, (1, 40, 70)),
        (255, (1, 10, 11)),
    ],
)
def test_a_decoder_is_that_of_pytorch(classes: int, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    pyramid = AttentionPyramid(128, classes, 1).eval()
    draw_normalizations(pyramid)
    for part in pyramid.modules():
        if isinstance(part, nn.Conv2d) and part.in_channels == 1:
            part.weight.data.uniform_(0.1, 0.4)
        elif isinstance(part, nn.BatchNorm2d) and part.num_features == 1:
            part.reset_running_stats()
            part.weight.data.uniform_(0.8, 1.5)
            part.bias.data.uniform_(0.2, 0.5)
    count, height, width = shape
    x = torch.randn(count, 128, height, width)
    # Otherwise nothing of the pyramid would reach the logits.
    assert pyramid.down3(pyramid.down2(pyramid.down1(x))).max() > 0.1
    expected = pyramid(x)
    for module in list(pyramid.modules()):
        if isinstance(module, ConvBNReLU):
            module.fold_batch_norm()
    found = TritonDecoder(pyramid).to(DEVICE, DTYPE)(x.to(DEVICE, DTYPE))
    assert found.is_contiguous()
    torch.testing.assert_close(found.float().cpu(), expected, atol=CLOSE, rtol=CLOSE)


def test_more_elements_than_32_bits_count_are_refused() -> None:
    unit = SSnbtUnit(32, 0.1, 1).eval()
    unit.fold_batch_norm()
    images = torch.empty((4, 32, 4096, 4096), device='meta')
    with pytest.raises(ValueError, match='4 feature maps of 32x4096x4096 have 2147483648 elem'):
        TritonUnit(unit).to('meta')(images)


@pytest.mark.parametrize(
    ('capability', 'dtype', 'fits'),
    [
        ((8, 0), torch.float16, True),
        ((12, 0), torch.bfloat16, True),
        ((9, 0), torch.float32, False),
        ((7, 5), torch.float16, False),
    ],
)
def test_devices_that_units_fit(
    capability: tuple[int, int],
    dtype: torch.dtype,
    fits: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    assert units_fit(torch.device('cuda', 0), dtype) is fits


@pytest.mark.skipif(torch.cuda.is_available(), reason='runs compiled kernels')
def test_units_fit_the_interpreter() -> None:
    assert units_fit(torch.device('cpu'), torch.float32)


@torch.inference_mode()
@pytest.mark.slow
def test_a_network_keeps_its_scores(small_weights: dict[str, Any]) -> None:
    network = build_network('lednet', 11).eval()
    network.load_state_dict(small_weights)
    assert isinstance(network, LEDNet)
    images = torch.randn(1, 3, 64, 72, generator=torch.Generator().manual_seed(0))
    expected = network.scores(images)
    network.fold_batch_norm()
    use_triton_units(network)
    assert sum(isinstance(layer, TritonUnit) for layer in network.encoder.layers) == 13
    found = network.to(DEVICE, DTYPE).scores(images.to(DEVICE, DTYPE)).float().cpu()
    torch.testing.assert_close(found, expected, atol=10 * CLOSE, rtol=10 * CLOSE)


class Counted:
    """Counts the launches of a kernel."""

    def __init__(self, kernel: Any, launches: list[str]) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: Any) -> Any:
        self.launches.append(self.kernel.__name__)
        return self.kernel[grid]


class TorchOperations(TorchDispatchMode):
    """Lists PyTorch's operations that become kernels, and refuses those that wait."""

    FREE = {'empty', 'new_empty', 'permute', 'view', 'detach', 'as_strided', 'slice', 'select',
        'expand', 'transpose', '_unsafe_view'}

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ('_local_scalar_dense', 'nonzero', '_to_copy'), name
        if name not in self.FREE:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
@pytest.mark.parametrize('count', [1, 2])
def test_a_network_is_34_kernels(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network('lednet', 20).eval()
    network.fold_batch_norm()
    use_triton_units(network)
    kernels: list[str] = []

    class Skipped(Counted):
        """Launches nothing: the interpreter is slow, and results don't matter here."""

        def __getitem__(self, grid: Any) -> Any:
            super().__getitem__(grid)
            return lambda *_, **__: None

    for name in ('_pair', '_downsample', '_pyramid', '_combine'):
        monkeypatch.setattr(cuda_units, name, Skipped(getattr(cuda_units, name), kernels))
    images = torch.zeros(count, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    with TorchOperations(kernels):
        network.scores(images)
    assert len(kernels) == 34, kernels
    assert kernels.count('_pair') == 26


@torch.inference_mode()
@pytest.mark.parametrize('part', ['unit', 'downsampling', 'decoder'])
@pytest.mark.parametrize('shape', [(1, 9, 13), (2, 8, 8)])
def test_kernels_stay_within_their_tensors(
    part: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module: nn.Module
    if part == 'unit':
        unit = SSnbtUnit(64, 0.1, 5).eval()
        unit.fold_batch_norm()
        module, channels = TritonUnit(unit), 64
    elif part == 'downsampling':
        module, channels = TritonDownsampling(DownsamplingUnit(32, 64).eval()), 32
    else:
        pyramid = AttentionPyramid(128, 11, 1).eval()
        for block in list(pyramid.modules()):
            if isinstance(block, ConvBNReLU):
                block.fold_batch_norm()
        module, channels = TritonDecoder(pyramid), 128
    module.to(DEVICE, DTYPE)
    count, height, width = shape
    values = torch.randn(count, height, width, channels, device=DEVICE, dtype=DTYPE)
    margin = 4096
    canaries = []

    def surround(size: int, inside: torch.Tensor | None = None) -> torch.Tensor:
        """Return memory with margins that no kernel may read or write."""
        whole = torch.full((size + 2 * margin,), torch.nan, device=DEVICE, dtype=DTYPE)
        middle = whole[margin : margin + size]
        if inside is not None:
            middle.copy_(inside.flatten())
        canaries.append(whole)
        return middle

    def empty(*size: Any, **options: Any) -> torch.Tensor:
        lengths = size[0] if isinstance(size[0], (tuple, torch.Size)) else size
        middle = surround(math.prod(lengths))
        if options.get('memory_format') is not torch.channels_last:
            return middle.view(lengths)
        images, depth, rows, columns = lengths
        return middle.view(images, rows, columns, depth).permute(0, 3, 1, 2)

    x = surround(values.numel(), values).view(values.shape).permute(0, 3, 1, 2)
    expected = module(x).clone()
    monkeypatch.setattr(torch, 'empty', empty)
    monkeypatch.setattr(torch.Tensor, 'new_empty', lambda self, *size, **_: empty(*size))
    found = module(x)
    assert len(canaries) > 1
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for whole in canaries:
        assert whole[:margin].isnan().all()
        assert whole[-margin:].isnan().all()
