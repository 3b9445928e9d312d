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

from lednet_ros.inference.backends.cuda_kernels import aligned_corners, interpolate
from lednet_ros.models import LEDNet
from lednet_ros.models.lednet import AttentionPyramid, ConvBNReLU, DownsamplingUnit, SSnbtUnit
from lednet_ros.models.network import affine
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
        scale, shift = affine(unit.bn)
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


@triton.jit
def _project(  # type: ignore[no-untyped-def]
    x, products, sums, weights, biases, cells, columns,
    CHANNELS: tl.constexpr, TAPS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK: tl.constexpr,
):
    """Multiply features by the first taps' weights, and by those of the class maps, with ReLU."""
    image = tl.program_id(2)
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = cell < cells
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, CHANNELS)
    values = tl.load(
        x + (image * cells + cell)[:, None] * CHANNELS + k[None, :], mask=mask[:, None], other=0
    )
    weight = tl.load(weights + k[:, None] * (tl.num_programs(1) * BLOCK_N) + n[None, :])
    total = tl.dot(values, weight)
    bias = tl.load(biases + n).to(tl.float32)
    total = tl.where((n < TAPS)[None, :], total, tl.maximum(total + bias[None, :], 0.0))
    tl.store(
        products + (image * columns + n)[None, :] * cells + cell[:, None],
        total.to(products.dtype.element_ty),
        mask=mask[:, None] & (n < columns)[None, :],
    )
    if tl.program_id(1) == 0:
        block = image * tl.num_programs(0) + tl.program_id(0)
        tl.store(sums + block * CHANNELS + k, tl.sum(values.to(tl.float32), 0))


@triton.jit
def _sum_taps(  # type: ignore[no-untyped-def]
    products, maps, filters, height, width, columns, map_stride,
    SIZE: tl.constexpr, BIAS: tl.constexpr, BLOCK_TAPS: tl.constexpr, BLOCK: tl.constexpr,
):
    """Finish the pyramid's first convolution, of stride 2: add the products of its taps."""
    image = tl.program_id(1)
    out_width = (width + 1) // 2
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < (height + 1) // 2 * out_width
    tap = tl.arange(0, BLOCK_TAPS)
    row = (2 * (place // out_width))[None, :] + (tap // SIZE - SIZE // 2)[:, None]
    column = (2 * (place % out_width))[None, :] + (tap % SIZE - SIZE // 2)[:, None]
    near = mask[None, :] & (tap < SIZE * SIZE)[:, None]
    near = near & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    plane = products + (image * columns + tap)[:, None] * (height * width)
    values = tl.load(plane + row * width + column, mask=near, other=0).to(tl.float32)
    total = tl.sum(values, 0) + tl.load(filters + BIAS).to(tl.float32)
    tl.store(maps + image * map_stride + place, tl.maximum(total, 0.0), mask=mask)


@triton.jit
def _upsampled(  # type: ignore[no-untyped-def]
    source, row, column, mask, height, width, out_height, out_width
):
    """Interpolate a map bilinearly with aligned corners."""
    y0, y1, fy = aligned_corners(row, out_height, height)
    x0, x1, fx = aligned_corners(column, out_width, width)
    top0 = tl.load(source + y0 * width + x0, mask=mask, other=0.0)
    top1 = tl.load(source + y0 * width + x1, mask=mask, other=0.0)
    low0 = tl.load(source + y1 * width + x0, mask=mask, other=0.0)
    low1 = tl.load(source + y1 * width + x1, mask=mask, other=0.0)
    return interpolate(top0, top1, low0, low1, fy, fx)


@triton.jit
def _filter(  # type: ignore[no-untyped-def]
    source, out, filters, height, width, out_height, out_width, below, below_height, below_width,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ADD: tl.constexpr, BLOCK: tl.constexpr,
):
    """Convolve a map of one channel, with ReLU; may add the map below, upsampled."""
    for start in range(0, out_height * out_width, BLOCK):
        place = start + tl.arange(0, BLOCK)
        mask = place < out_height * out_width
        row, column = place // out_width, place % out_width
        total = tl.zeros((BLOCK,), tl.float32) + tl.load(filters + SIZE * SIZE).to(tl.float32)
        for tap in tl.static_range(SIZE * SIZE):
            near_row = row * STRIDE + (tap // SIZE - SIZE // 2)
            near_column = column * STRIDE + (tap % SIZE - SIZE // 2)
            near = mask & (near_row >= 0) & (near_row < height)
            near = near & (near_column >= 0) & (near_column < width)
            value = tl.load(source + near_row * width + near_column, mask=near, other=0.0)
            total += value * tl.load(filters + tap).to(tl.float32)
        total = tl.maximum(total, 0.0)
        if ADD:
            total += _upsampled(
                below, row, column, mask, below_height, below_width, out_height, out_width
            )
        tl.store(out + place, total, mask=mask)
    # All threads of the program see the whole map from here on.
    tl.debug_barrier()


@triton.jit
def _pyramid(  # type: ignore[no-untyped-def]
    maps, filters, sums, branch_weights, branch_biases, branch,
    height, width, map_stride, blocks, classes,
    CHANNELS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):
    """Compute, in one program for each image, what is too small for more: see `TritonDecoder`."""
    image = tl.program_id(0)
    height_1, width_1 = (height + 1) // 2, (width + 1) // 2
    height_2, width_2 = (height_1 + 1) // 2, (width_1 + 1) // 2
    height_3, width_3 = (height_2 + 1) // 2, (width_2 + 1) // 2
    down1 = maps + image * map_stride
    attention = down1 + height_1 * width_1
    down2 = attention + height_1 * width_1
    attention2 = down2 + height_2 * width_2
    between = attention2 + height_2 * width_2
    down3 = between + height_3 * width_3
    _filter(down1, down2, filters, height_1, width_1, height_2, width_2, down1, 1, 1,
            5, 2, False, BLOCK)
    _filter(down2, between, filters + 26, height_2, width_2, height_3, width_3, down1, 1, 1,
            3, 2, False, BLOCK)
    _filter(between, down3, filters + 36, height_3, width_3, height_3, width_3, down1, 1, 1,
            3, 1, False, BLOCK)
    _filter(down2, attention2, filters + 46, height_2, width_2, height_2, width_2,
            down3, height_3, width_3, 5, 1, True, BLOCK)
    _filter(down1, attention, filters + 72, height_1, width_1, height_1, width_1,
            attention2, height_2, width_2, 7, 1, True, BLOCK)
    k = tl.arange(0, CHANNELS)
    total = tl.zeros((CHANNELS,), tl.float32)
    for start in range(0, blocks, BLOCK_ROWS):
        block = start + tl.arange(0, BLOCK_ROWS)
        part = sums + (image * blocks + block)[:, None] * CHANNELS + k[None, :]
        total += tl.sum(tl.load(part, mask=(block < blocks)[:, None], other=0.0), 0)
    mean = total / (height * width)
    for start in range(0, classes, BLOCK_ROWS):
        c = start + tl.arange(0, BLOCK_ROWS)
        own = c < classes
        place = branch_weights + c[:, None] * CHANNELS + k[None, :]
        weight = tl.load(place, mask=own[:, None], other=0).to(tl.float32)
        value = tl.sum(weight * mean[None, :], 1)
        value += tl.load(branch_biases + c, mask=own, other=0).to(tl.float32)
        tl.store(branch + image * classes + c, tl.maximum(value, 0.0), mask=own)


@triton.jit
def _combine(  # type: ignore[no-untyped-def]
    products, maps, branch, out, height, width, map_stride, classes,
    TAPS: tl.constexpr, BLOCK: tl.constexpr,
):
    """Multiply class maps by the upsampled attention; add the global branch."""
    c, image = tl.program_id(1), tl.program_id(2)
    cells = height * width
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = cell < cells
    height_1, width_1 = (height + 1) // 2, (width + 1) // 2
    attention = _upsampled(
        maps + image * map_stride + height_1 * width_1, cell // width, cell % width, mask,
        height_1, width_1, height, width,
    )
    plane = products + (image * (TAPS + classes) + TAPS + c) * cells
    value = attention * tl.load(plane + cell, mask=mask, other=0).to(tl.float32)
    value += tl.load(branch + image * classes + c)
    tl.store(
        out + (image * classes + c) * cells + cell, value.to(out.dtype.element_ty), mask=mask
    )


class TritonDecoder(nn.Module):
    """
    The light attention pyramid (paper, figure 1) in four kernels, for inference.

    The first one multiplies each cell's features by the weights of the class maps and of the 49
    taps of the pyramid's first convolution, and adds up features for the global branch. The
    second one adds those taps where they belong. All other maps are so small that one program for
    each image computes them one after the other. The last one puts attention, class maps and
    global branch together.

    Parameters
    ----------
    pyramid
        The trained decoder of width 1 with its normalizations folded.

    """

    TAPS = 49
    biases: Tensor
    filters: Tensor

    def __init__(self, pyramid: AttentionPyramid) -> None:
        super().__init__()
        parts = (pyramid.mid[0], pyramid.branch1[1], pyramid.down1)
        mid, branch, down1 = (_convolution(part) for part in parts)
        self.classes, self.channels = mid.out_channels, mid.in_channels
        taps = down1.weight.detach().flatten(2).squeeze(0)
        weights = torch.cat((taps, mid.weight.detach().flatten(1).T), dim=1)
        biases = functional.pad(_bias(mid), (self.TAPS, 0))
        padding = (0, -weights.shape[1] % BLOCK)
        self.register_buffer('weights', functional.pad(weights, padding).contiguous())
        self.register_buffer('biases', functional.pad(biases, padding))
        # In the order of `_pyramid`, with its offsets.
        small = (pyramid.down2, *pyramid.down3, pyramid.conv2, pyramid.conv1)
        filters = [
            torch.cat((conv.weight.detach().flatten(), _bias(conv)))
            for conv in map(_convolution, small)
        ]
        self.register_buffer('filters', torch.cat([*filters, _bias(down1)]))
        self.register_buffer('branch_weights', branch.weight.detach().flatten(1).clone())
        self.register_buffer('branch_biases', _bias(branch).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W), channels-last, to logits (N, classes, H, W), contiguous."""
        x = x.contiguous(memory_format=torch.channels_last)
        count, _, height, width = x.shape
        cells, columns = height * width, self.TAPS + self.classes
        sizes = [-(-height // scale) * -(-width // scale) for scale in (2, 4, 8)]
        stride, blocks = 2 * sum(sizes), triton.cdiv(cells, BLOCK)
        products = x.new_empty((count, columns, cells))
        out = x.new_empty((count, self.classes, height, width))
        sums, maps, branch = (
            x.new_empty(shape, dtype=torch.float32)
            for shape in ((count, blocks, self.channels), (count, stride), (count, self.classes))
        )
        _project[(blocks, len(self.biases) // BLOCK, count)](
            x, products, sums, self.weights, self.biases, cells, columns,
            CHANNELS=self.channels, TAPS=self.TAPS, BLOCK_N=BLOCK, BLOCK=BLOCK,
        )
        _sum_taps[(triton.cdiv(sizes[0], 32), count)](
            products, maps, self.filters, height, width, columns, stride,
            SIZE=7, BIAS=len(self.filters) - 1, BLOCK_TAPS=64, BLOCK=32,
        )
        _pyramid[(count,)](
            maps, self.filters, sums, self.branch_weights, self.branch_biases, branch,
            height, width, stride, blocks, self.classes,
            CHANNELS=self.channels, BLOCK_ROWS=32, BLOCK=512, num_warps=16,
        )
        _combine[(triton.cdiv(cells, 256), self.classes, count)](
            products, maps, branch, out, height, width, stride, self.classes,
            TAPS=self.TAPS, BLOCK=256,
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
    pyramid = network.decoder.apn
    if _convolution(pyramid.down1).out_channels == 1:
        network.add_module('decoder', TritonDecoder(pyramid))


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


def _convolution(part: nn.Module) -> nn.Conv2d:
    assert isinstance(part, ConvBNReLU)
    convolution = part.conv[0]
    assert isinstance(convolution, nn.Conv2d)
    return convolution


def _power_of_2(count: int) -> int:
    return int(triton.next_power_of_2(count))
