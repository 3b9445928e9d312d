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
The units of LEDNet's encoder as Triton kernels: two for each unit instead of some twenty.

A unit's half is twice a pair of convolutions with three taps each, one along the columns and one
along the rows. A kernel computes a pair for both halves: what lies between the two convolutions
stays on the chip, computed once for each of the second one's taps. The second kernel of a unit
also adds the unit's input and stores the channels shuffled, so that split, concatenation, addition
and shuffle never touch memory.

`TRITON_INTERPRET=1` runs them on the CPU, as in `cuda_kernels`.
"""

from collections.abc import Sequence

from lednet_ros.models import LEDNet
from lednet_ros.models.lednet import DownsamplingUnit, SSnbtUnit
import torch
from torch import nn, Tensor
from torch.nn import functional
import triton
import triton.language as tl

BLOCK = 64


@triton.jit
def _pair(  # type: ignore[no-untyped-def]
    x, weights, biases, pixel, row, column, mask, height, width, offset,
    HALF: tl.constexpr, DILATION: tl.constexpr, VERTICAL_FIRST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Convolve along one axis, apply ReLU, convolve along the other one, for one half."""
    k = tl.arange(0, HALF)
    square = k[:, None] * HALF + k[None, :]
    first_bias = tl.load(biases + k)
    second = tl.zeros((BLOCK, HALF), tl.float32)
    for outer in range(3):
        shift = (outer - 1) * DILATION
        if VERTICAL_FIRST:
            outer_row = row
            outer_column = column + shift
            outer_pixel = pixel + shift
        else:
            outer_row = row + shift
            outer_column = column
            outer_pixel = pixel + shift * width
        inside = mask & (outer_row >= 0) & (outer_row < height)
        inside = inside & (outer_column >= 0) & (outer_column < width)
        first = tl.zeros((BLOCK, HALF), tl.float32)
        for inner in range(3):
            step = (inner - 1) * DILATION
            if VERTICAL_FIRST:
                near = inside & (outer_row + step >= 0) & (outer_row + step < height)
                source = outer_pixel + step * width
            else:
                near = inside & (outer_column + step >= 0) & (outer_column + step < width)
                source = outer_pixel + step
            values = tl.load(
                x + source[:, None] * (2 * HALF) + offset + k[None, :],
                mask=near[:, None], other=0,
            )
            weight = tl.load(weights + inner * HALF * HALF + square)
            first = tl.dot(values, weight, first)
        # The second convolution sees zeros, not biases, beyond the edge.
        first = tl.where(inside[:, None], tl.maximum(first + first_bias[None, :], 0.0), 0.0)
        weight = tl.load(weights + (3 + outer) * HALF * HALF + square)
        second = tl.dot(first.to(weight.dtype), weight, second)
    return second + tl.load(biases + HALF + k)[None, :]


@triton.jit
def _half_unit(  # type: ignore[no-untyped-def]
    x, residual, out, left_weights, left_biases, right_weights, right_biases,
    pixels, height, width,
    HALF: tl.constexpr, DILATION: tl.constexpr, LAST: tl.constexpr, BLOCK: tl.constexpr,
):
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < pixels
    column = pixel % width
    row = (pixel // width) % height
    left = _pair(
        x, left_weights, left_biases, pixel, row, column, mask, height, width, 0,
        HALF, DILATION, True, BLOCK,
    )
    right = _pair(
        x, right_weights, right_biases, pixel, row, column, mask, height, width, HALF,
        HALF, DILATION, False, BLOCK,
    )
    k = tl.arange(0, HALF)
    place = pixel[:, None] * (2 * HALF) + k[None, :]
    inside = mask[:, None]
    if LAST:
        left += tl.load(residual + place, mask=inside, other=0).to(tl.float32)
        right += tl.load(residual + place + HALF, mask=inside, other=0).to(tl.float32)
        # The shuffle of two groups: channels of the halves in turns.
        both = tl.interleave(tl.maximum(left, 0.0), tl.maximum(right, 0.0))
        whole = pixel[:, None] * (2 * HALF) + tl.arange(0, 2 * HALF)[None, :]
        tl.store(out + whole, both.to(out.dtype.element_ty), mask=inside)
    else:
        tl.store(out + place, tl.maximum(left, 0.0).to(out.dtype.element_ty), mask=inside)
        tl.store(
            out + place + HALF, tl.maximum(right, 0.0).to(out.dtype.element_ty), mask=inside
        )


class TritonUnit(nn.Module):
    """
    An SS-nbt unit (paper, figure 2) in two kernels, for inference.

    Parameters
    ----------
    unit
        The trained unit with its normalizations folded.

    """

    def __init__(self, unit: SSnbtUnit) -> None:
        super().__init__()
        self.dilation = int(unit.conv1x3_2_l.dilation[1])
        self.width = unit.conv1x3_2_l.out_channels
        pairs = {
            'left_1': (unit.conv3x1_1_l, unit.conv1x3_1_l),
            'right_1': (unit.conv1x3_1_r, unit.conv3x1_1_r),
            'left_2': (unit.conv3x1_2_l, unit.conv1x3_2_l),
            'right_2': (unit.conv1x3_2_r, unit.conv3x1_2_r),
        }
        for name, convs in pairs.items():
            self.register_buffer(f'{name}_weights', _taps(convs))
            self.register_buffer(f'{name}_biases', _biases(convs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W), channels-last in memory, to the same shape and layout."""
        x = x.contiguous(memory_format=torch.channels_last)
        between, out = _allocate(x, *x.shape[1:]), _allocate(x, *x.shape[1:])
        self._launch(x, x, between, '1', 1)
        self._launch(between, x, out, '2', self.dilation)
        return out

    def _launch(self, x: Tensor, residual: Tensor, out: Tensor, pair: str, dilation: int) -> None:
        count, _, height, width = x.shape
        pixels = count * height * width
        weights = [
            getattr(self, f'{side}_{pair}_{kind}')
            for side in ('left', 'right')
            for kind in ('weights', 'biases')
        ]
        _half_unit[(triton.cdiv(pixels, BLOCK),)](
            x, residual, out, *weights, pixels, height, width,
            HALF=self.width, DILATION=dilation, LAST=pair == '2', BLOCK=BLOCK,
        )


@triton.jit
def _downsample(  # type: ignore[no-untyped-def]
    x, out, weights, scales, biases, pixels, in_height, in_width, height, width,
    CHANNELS: tl.constexpr, CONVOLVED: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_POOLED: tl.constexpr, BLOCK: tl.constexpr,
):
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < pixels
    column = 2 * (pixel % width)
    row = 2 * ((pixel // width) % height)
    source = (pixel // (width * height) * in_height + row) * in_width + column
    n = tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK, BLOCK_N), tl.float32)
    # Taps and their channels in one row: one product for the three channels of an image.
    for start in range(0, 9 * CHANNELS, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        down, right = k // CHANNELS // 3 - 1, k // CHANNELS % 3 - 1
        near_row, near_column = row[:, None] + down[None, :], column[:, None] + right[None, :]
        near = mask[:, None] & (k < 9 * CHANNELS)[None, :] & (near_row >= 0)
        near = near & (near_row < in_height) & (near_column >= 0) & (near_column < in_width)
        offset = (down * in_width + right) * CHANNELS + k % CHANNELS
        values = tl.load(x + source[:, None] * CHANNELS + offset[None, :], mask=near, other=0)
        weight = tl.load(weights + k[:, None] * BLOCK_N + n[None, :])
        total = tl.dot(values, weight, total)
    bias = tl.load(biases + n, mask=n < CONVOLVED, other=0).to(tl.float32)
    place = pixel[:, None] * (CONVOLVED + CHANNELS)
    tl.store(
        out + place + n[None, :],
        tl.maximum(total + bias[None, :], 0.0).to(out.dtype.element_ty),
        mask=mask[:, None] & (n < CONVOLVED)[None, :],
    )
    p = tl.arange(0, BLOCK_POOLED)
    own = (p < CHANNELS)[None, :]
    highest = tl.full((BLOCK, BLOCK_POOLED), float('-inf'), tl.float32)
    for tap in tl.static_range(4):
        down, right = tap // 2, tap % 2
        near = mask & (row + down < in_height) & (column + right < in_width)
        values = tl.load(
            x + (source + down * in_width + right)[:, None] * CHANNELS + p[None, :],
            mask=near[:, None] & own, other=float('-inf'),
        )
        highest = tl.maximum(highest, values.to(tl.float32))
    scale = tl.load(scales + p, mask=p < CHANNELS, other=1).to(tl.float32)
    bias = tl.load(biases + CONVOLVED + p, mask=p < CHANNELS, other=0).to(tl.float32)
    pooled = tl.maximum(highest * scale[None, :] + bias[None, :], 0.0)
    tl.store(
        out + place + CONVOLVED + p[None, :], pooled.to(out.dtype.element_ty),
        mask=mask[:, None] & own,
    )


class TritonDownsampling(nn.Module):
    """
    A downsampling unit (paper, section 2) in one kernel, for inference.

    Parameters
    ----------
    unit
        The trained unit; its normalization is merged into the convolution and the pooling.

    """

    def __init__(self, unit: DownsamplingUnit) -> None:
        super().__init__()
        scale, shift = _affine(unit.bn)
        self.channels, self.convolved = unit.conv.in_channels, unit.conv.out_channels
        self.block_k = max(_power_of_2(self.channels), 32)
        self.block_n = _power_of_2(self.convolved)
        weight = unit.conv.weight.detach() * scale[: self.convolved, None, None, None]
        weight = weight.permute(2, 3, 1, 0).flatten(0, 2)
        rows = -len(weight) % self.block_k
        weight = functional.pad(weight, (0, self.block_n - self.convolved, 0, rows))
        self.register_buffer('weights', weight.contiguous())
        self.register_buffer('scales', scale[self.convolved :].clone())
        shift[: self.convolved] += _bias(unit.conv) * scale[: self.convolved]
        self.register_buffer('biases', shift)

    def forward(self, x: Tensor) -> Tensor:
        """
        Map features to half their size.

        Parameters
        ----------
        x
            (N, in_channels, H, W), channels-last in memory.

        Returns
        -------
        Tensor
            (N, out_channels, ceil(H/2), ceil(W/2)), channels-last in memory.

        """
        x = x.contiguous(memory_format=torch.channels_last)
        height, width = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
        out = _allocate(x, self.convolved + self.channels, height, width)
        pixels = len(x) * height * width
        _downsample[(triton.cdiv(pixels, BLOCK),)](
            x, out, self.weights, self.scales, self.biases, pixels, *x.shape[2:], height, width,
            CHANNELS=self.channels, CONVOLVED=self.convolved, BLOCK_K=self.block_k,
            BLOCK_N=self.block_n, BLOCK_POOLED=_power_of_2(self.channels), BLOCK=BLOCK,
        )
        return out


def units_fit(device: torch.device, dtype: torch.dtype) -> bool:
    """
    Say whether a device runs these kernels well.

    They need tensor cores that the compiler knows, from Ampere on: in float32 or on Turing a
    kernel takes minutes to compile and spills its registers.

    Parameters
    ----------
    device
        A CUDA device, or the CPU, which has them in Triton's interpreter only.
    dtype
        Of the network.

    """
    if device.type != 'cuda':
        return bool(triton.knobs.runtime.interpret)
    half = dtype in (torch.float16, torch.bfloat16)
    return half and torch.cuda.get_device_capability(device) >= (8, 0)


def use_triton_units(network: LEDNet) -> None:
    """Replace the parts of a network whose normalizations are folded, in place."""
    encoder = network.encoder
    for parent in (encoder, encoder.layers):
        for name, layer in parent.named_children():
            if isinstance(layer, DownsamplingUnit):
                setattr(parent, name, TritonDownsampling(layer))
            elif isinstance(layer, SSnbtUnit):
                setattr(parent, name, TritonUnit(layer))


def _allocate(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """
    Allocate (N, channels, height, width), channels-last, with dtype and device of a batch.

    Raises
    ------
    ValueError
        It would have 2^31 elements or more: kernels count them in 32 bits.

    """
    count = len(x) * channels * height * width
    if count >= 2**31:
        raise ValueError(
            f'{len(x)} feature maps of {channels}x{height}x{width} have {count} elements; '
            f'Triton kernels take fewer than {2**31}'
        )
    return torch.empty(
        (len(x), channels, height, width), dtype=x.dtype, device=x.device,
        memory_format=torch.channels_last,
    )


def _taps(convs: Sequence[nn.Conv2d]) -> Tensor:
    """Return the weights of two convolutions as (6, inputs, outputs)."""
    return torch.cat(
        [conv.weight.detach().flatten(2).permute(2, 1, 0) for conv in convs]
    ).contiguous()


def _biases(convs: Sequence[nn.Conv2d]) -> Tensor:
    """Return the biases of two convolutions, (2, outputs)."""
    return torch.stack([_bias(conv) for conv in convs])


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias.detach()


def _affine(normalization: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what a normalization multiplies channels by, and what it adds then."""
    mean, variance = normalization.running_mean, normalization.running_var
    assert mean is not None
    assert variance is not None
    scale = normalization.weight.detach() / (variance + normalization.eps).sqrt()
    return scale, normalization.bias.detach() - mean * scale


def _power_of_2(count: int) -> int:
    return int(triton.next_power_of_2(count))
