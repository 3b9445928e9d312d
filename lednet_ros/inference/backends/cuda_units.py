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
along the rows. A kernel computes a pair, each program for one of the halves: what lies between the
two convolutions stays on the chip, computed once for each of the second one's taps. The second
kernel of a unit also adds the unit's input and stores the channels shuffled, so that split,
concatenation, addition and shuffle never touch memory.

`TRITON_INTERPRET=1` runs them on the CPU, as in `cuda_kernels`.
"""

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


# Other dilations and frame sizes run what is compiled already.
@triton.jit(do_not_specialize=['pixels', 'height', 'width', 'dilation'])
def _pair(  # type: ignore[no-untyped-def]
    x, residual, out, weights, biases, pixels, height, width, dilation,
    HALF: tl.constexpr, LAST: tl.constexpr, BLOCK: tl.constexpr,
):
    """Convolve a half along one axis, apply ReLU, convolve it along the other one."""
    half = tl.program_id(1)
    left = half == 0
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < pixels
    row, column = (pixel // width) % height, pixel % width
    # The left half begins with the axis of the rows, the right one with that of the columns.
    place1, place2 = tl.where(left, row, column), tl.where(left, column, row)
    size1, size2 = tl.where(left, height, width), tl.where(left, width, height)
    step1 = tl.where(left, width, 1) * dilation
    step2 = tl.where(left, 1, width) * dilation
    k = tl.arange(0, HALF)
    x += half * HALF + k[None, :]
    weights += half * (6 * HALF * HALF) + k[:, None] * HALF + k[None, :]
    biases += half * (2 * HALF) + k[None, :]
    bias = tl.load(biases)
    second = tl.zeros((BLOCK, HALF), tl.float32)
    for outer in range(3):
        shift2 = (outer - 1) * dilation
        inside = mask & (place2 + shift2 >= 0) & (place2 + shift2 < size2)
        source = pixel + (outer - 1) * step2
        first = tl.zeros((BLOCK, HALF), tl.float32)
        for inner in range(3):
            shift1 = (inner - 1) * dilation
            near = inside & (place1 + shift1 >= 0) & (place1 + shift1 < size1)
            values = tl.load(
                x + (source + (inner - 1) * step1)[:, None] * (2 * HALF),
                mask=near[:, None], other=0,
            )
            first = tl.dot(values, tl.load(weights + inner * HALF * HALF), first)
        # The second convolution sees zeros, not biases, beyond the edge.
        first = tl.where(inside[:, None], tl.maximum(first + bias, 0.0), 0.0)
        weight = tl.load(weights + (3 + outer) * HALF * HALF)
        second = tl.dot(first.to(weight.dtype), weight, second)
    second += tl.load(biases + HALF)
    place = pixel[:, None] * (2 * HALF)
    channel = (half * HALF + k)[None, :]
    if LAST:
        second += tl.load(residual + place + channel, mask=mask[:, None], other=0).to(tl.float32)
        # The shuffle of two groups: channels of the halves alternate.
        channel = (2 * k + half)[None, :]
    second = tl.maximum(second, 0.0).to(out.dtype.element_ty)
    tl.store(out + place + channel, second, mask=mask[:, None])


class TritonUnit(nn.Module):
    """
    An SS-nbt unit (paper, figure 2) in two kernels, for inference.

    Parameters
    ----------
    unit
        The trained unit with its normalizations folded.

    """

    weights: Tensor
    biases: Tensor

    def __init__(self, unit: SSnbtUnit) -> None:
        super().__init__()
        self.dilations = 1, int(unit.conv1x3_2_l.dilation[1])
        convs = (
            unit.conv3x1_1_l, unit.conv1x3_1_l, unit.conv1x3_1_r, unit.conv3x1_1_r,
            unit.conv3x1_2_l, unit.conv1x3_2_l, unit.conv1x3_2_r, unit.conv3x1_2_r,
        )
        # Pairs, halves, convolutions; then taps, inputs, outputs.
        weights = torch.stack([conv.weight.detach().flatten(2).permute(2, 1, 0) for conv in convs])
        self.register_buffer('weights', weights.view(2, 2, 2, *weights.shape[1:]))
        biases = torch.stack([_bias(conv) for conv in convs])
        self.register_buffer('biases', biases.view(2, 2, 2, -1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W), channels-last in memory, to the same shape and layout."""
        x = x.contiguous(memory_format=torch.channels_last)
        between, out = _allocate(x, *x.shape[1:]), _allocate(x, *x.shape[1:])
        count, channels, height, width = x.shape
        pixels = count * height * width
        for last, (source, result) in enumerate(((x, between), (between, out))):
            _pair[(triton.cdiv(pixels, BLOCK), 2)](
                source, x, result, self.weights[last], self.biases[last],
                pixels, height, width, self.dilations[last],
                HALF=channels // 2, LAST=bool(last), BLOCK=BLOCK,
                # With fewer warps, wide units spill registers on Ampere and Ada.
                num_warps=8,
            )
        return out


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
    source, plane, out, filters, height, width, out_height, out_width,
    below, below_height, below_width,
    SIZE: tl.constexpr, STRIDE: tl.constexpr, ADD: tl.constexpr, BLOCK: tl.constexpr,
):
    """Convolve a map, or a plane for each tap, with ReLU; may add the map below, upsampled."""
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
            value = tl.load(
                source + tap * plane + near_row * width + near_column, mask=near, other=0.0
            )
            total += value.to(tl.float32) * tl.load(filters + tap).to(tl.float32)
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
    products, maps, filters, height, width, columns, map_stride, BLOCK: tl.constexpr
):
    """Compute the pyramid's maps, too small for more than one program for each image."""
    image = tl.program_id(0)
    products += image * columns * height * width
    height_1, width_1 = (height + 1) // 2, (width + 1) // 2
    height_2, width_2 = (height_1 + 1) // 2, (width_1 + 1) // 2
    height_3, width_3 = (height_2 + 1) // 2, (width_2 + 1) // 2
    attention = maps + image * map_stride
    down1 = attention + height_1 * width_1
    down2 = down1 + height_1 * width_1
    attention2 = down2 + height_2 * width_2
    between = attention2 + height_2 * width_2
    down3 = between + height_3 * width_3
    _filter(products, height * width, down1, filters, height, width, height_1, width_1,
            down1, 1, 1, 7, 2, False, BLOCK)
    _filter(down1, 0, down2, filters + 50, height_1, width_1, height_2, width_2,
            down1, 1, 1, 5, 2, False, BLOCK)
    _filter(down2, 0, between, filters + 76, height_2, width_2, height_3, width_3,
            down1, 1, 1, 3, 2, False, BLOCK)
    _filter(between, 0, down3, filters + 86, height_3, width_3, height_3, width_3,
            down1, 1, 1, 3, 1, False, BLOCK)
    _filter(down2, 0, attention2, filters + 96, height_2, width_2, height_2, width_2,
            down3, height_3, width_3, 5, 1, True, BLOCK)
    _filter(down1, 0, attention, filters + 122, height_1, width_1, height_1, width_1,
            attention2, height_2, width_2, 7, 1, True, BLOCK)


@triton.jit
def _combine(  # type: ignore[no-untyped-def]
    products, biases, maps, branch, out, height, width, map_stride, classes,
    TAPS: tl.constexpr, BLOCK: tl.constexpr,
):
    """Multiply class maps by the upsampled attention; add the global branch."""
    c, image = tl.program_id(1), tl.program_id(2)
    cells = height * width
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = cell < cells
    attention = _upsampled(
        maps + image * map_stride, cell // width, cell % width, mask,
        (height + 1) // 2, (width + 1) // 2, height, width,
    )
    plane = products + (image * (TAPS + classes) + TAPS + c) * cells
    value = tl.load(plane + cell, mask=mask, other=0).to(tl.float32)
    value = tl.maximum(value + tl.load(biases + c).to(tl.float32), 0.0) * attention
    value += tl.maximum(tl.load(branch + image * classes + c).to(tl.float32), 0.0)
    tl.store(
        out + (image * classes + c) * cells + cell, value.to(out.dtype.element_ty), mask=mask
    )


class TritonDecoder(nn.Module):
    """
    The light attention pyramid (paper, figure 1) in five kernels, for inference.

    One product multiplies each cell's features by the weights of the class maps and of the 49
    taps of the pyramid's first convolution, which are added up where they belong. All maps of the
    pyramid are so small that one program for each image computes them one after the other. The
    last kernel puts attention, class maps and global branch together.

    Parameters
    ----------
    pyramid
        The trained decoder of width 1 with its normalizations folded.

    """

    TAPS = 49
    weights: Tensor
    branch_weights: Tensor
    branch_biases: Tensor

    def __init__(self, pyramid: AttentionPyramid) -> None:
        super().__init__()
        parts = (pyramid.mid[0], pyramid.branch1[1], pyramid.down1)
        mid, branch, down1 = (_convolution(part) for part in parts)
        self.classes = mid.out_channels
        taps = down1.weight.detach().flatten(2).squeeze(0).T
        self.register_buffer('weights', torch.cat((taps, mid.weight.detach().flatten(1))))
        self.register_buffer('biases', _bias(mid).clone())
        # In the order of `_pyramid`, with its offsets; its first taps are multiplied already.
        small = (pyramid.down2, *pyramid.down3, pyramid.conv2, pyramid.conv1)
        filters = [torch.ones(self.TAPS), _bias(down1)]
        for conv in map(_convolution, small):
            filters += [conv.weight.detach().flatten(), _bias(conv)]
        self.register_buffer('filters', torch.cat(filters))
        self.register_buffer('branch_weights', branch.weight.detach().flatten(1).T.contiguous())
        self.register_buffer('branch_biases', _bias(branch).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W), channels-last, to logits (N, classes, H, W), contiguous."""
        x = x.contiguous(memory_format=torch.channels_last)
        count, _, height, width = x.shape
        cells, columns = height * width, self.TAPS + self.classes
        stride = 2 * sum(-(-height // scale) * -(-width // scale) for scale in (2, 4, 8))
        features = x.permute(0, 2, 3, 1).view(count, cells, -1).transpose(1, 2)
        products = torch.bmm(self.weights.expand(count, -1, -1), features)
        branch = torch.addmm(self.branch_biases, x.mean((2, 3)), self.branch_weights)
        maps = x.new_empty((count, stride), dtype=torch.float32)
        out = x.new_empty((count, self.classes, height, width))
        _pyramid[(count,)](
            products, maps, self.filters, height, width, columns, stride, BLOCK=512, num_warps=16,
        )
        _combine[(triton.cdiv(cells, 256), self.classes, count)](
            products, self.biases, maps, branch, out, height, width, stride, self.classes,
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
