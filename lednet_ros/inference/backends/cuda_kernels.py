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
Triton kernels for both ends of the network on a CUDA device: one pass in, one pass out.

With `TRITON_INTERPRET=1` in the environment before the first import they run on the CPU, slowly,
which is how they are tested where there is no GPU.
"""

from lednet_ros.inference.backends.base import Outputs, Wanted
from lednet_ros.labels import UNLABELED
import torch
from torch import Tensor
import triton
import triton.language as tl

BLOCK = 256
# Pixels of a program of `_finish`: an area, as these are often of one class.
BLOCK_ROWS, BLOCK_COLUMNS = 8, 32
BLOCK_CELLS = 32


@triton.jit
def corners(place, size):  # type: ignore[no-untyped-def]
    """Return the two neighbors of a position and the weight of the second one."""
    place = tl.maximum(place, 0.0)
    low = tl.minimum(place.to(tl.int32), size - 1)
    high = tl.minimum(low + 1, size - 1)
    return low, high, place - low.to(tl.float32)


@triton.jit
def aligned_corners(index, count, size):  # type: ignore[no-untyped-def]
    """Return the same where an index out of so many is mapped to a size, ends upon ends."""
    return corners(index.to(tl.float32) * ((size - 1) / tl.maximum(count - 1, 1)), size)


@triton.jit
def interpolate(top0, top1, low0, low1, fy, fx):  # type: ignore[no-untyped-def]
    """Interpolate between four neighbors."""
    top = top0 + (top1 - top0) * fx
    low = low0 + (low1 - low0) * fx
    return top + (low - top) * fy


@triton.jit
def _frame_value(  # type: ignore[no-untyped-def]
    frame, y0, y1, fy, x0, x1, fx, width, channel, mask
):
    """Interpolate a channel of a frame between four pixels, rounded to a byte's value."""
    top0 = tl.load(frame + (y0 * width + x0) * 3 + channel, mask=mask, other=0).to(tl.float32)
    top1 = tl.load(frame + (y0 * width + x1) * 3 + channel, mask=mask, other=0).to(tl.float32)
    low0 = tl.load(frame + (y1 * width + x0) * 3 + channel, mask=mask, other=0).to(tl.float32)
    low1 = tl.load(frame + (y1 * width + x1) * 3 + channel, mask=mask, other=0).to(tl.float32)
    return tl.floor(interpolate(top0, top1, low0, low1, fy, fx) + 0.5)


# Frames of other sizes run what is compiled already.
@triton.jit(do_not_specialize=['frame_height', 'frame_width', 'height', 'width'])
def _prepare(  # type: ignore[no-untyped-def]
    frame, out, factors, frame_height, frame_width, height, width,
    SWAP: tl.constexpr, BLOCK: tl.constexpr,
):
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < height * width
    y = pixel // width
    x = pixel % width
    # Half-pixel centers, as `preprocess` has them.
    y0, y1, fy = corners((y.to(tl.float32) + 0.5) * (frame_height / height) - 0.5, frame_height)
    x0, x1, fx = corners((x.to(tl.float32) + 0.5) * (frame_width / width) - 0.5, frame_width)
    for channel in tl.static_range(3):
        source = 2 - channel if SWAP else channel
        value = _frame_value(frame, y0, y1, fy, x0, x1, fx, frame_width, source, mask)
        scale = tl.load(factors + channel)
        shift = tl.load(factors + 3 + channel)
        tl.store(out + pixel * 3 + channel, value * scale - shift, mask=mask)


def prepare(frame: Tensor, swap_colors: bool, factors: Tensor, out: Tensor) -> None:
    """
    Resize, reorder and normalize a frame in one pass.

    Parameters
    ----------
    frame
        (h, w, 3) uint8, contiguous.
    swap_colors
        Exchange the first and third channel (BGR frames).
    factors
        Scale of each color, then shift of each, (6,) float32: `bytes * scale - shift`.
    out
        Receives (H, W, 3), floating point, contiguous: a channels-last image.

    """
    height, width = out.shape[:2]
    grid = (triton.cdiv(height * width, BLOCK),)
    _prepare[grid](
        frame, out, factors, frame.shape[0], frame.shape[1], height, width,
        SWAP=swap_colors, BLOCK=BLOCK,
    )


@triton.jit(
    do_not_specialize=['cells', 'columns', 'classes'],
    # The second frame's logits may start anywhere behind those of the first one.
    do_not_specialize_on_alignment=['scores'],
)
def _classify_cells(  # type: ignore[no-untyped-def]
    scores, stride_class, stride_row, stride_column, winners, cells, columns, classes,
    CLASSES: tl.constexpr, BLOCK: tl.constexpr,
):
    """Find the class with the highest logit in each cell."""
    k = tl.arange(0, CLASSES)
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = cell < cells
    place = (cell // columns) * stride_row + (cell % columns) * stride_column
    values = tl.load(
        scores + (k * stride_class)[:, None] + place[None, :],
        mask=(k < classes)[:, None] & mask[None, :], other=float('-inf'),
    ).to(tl.float32)
    tl.store(winners + cell, tl.argmax(values, 0).to(tl.uint8), mask=mask)


@triton.jit(
    do_not_specialize=[
        'rows', 'columns', 'frame_height', 'frame_width', 'height', 'width', 'classes'
    ],
    do_not_specialize_on_alignment=['scores'],
)
def _finish(  # type: ignore[no-untyped-def]
    scores, stride_class, stride_row, stride_column, winners, frame, palette, visible, settings,
    ids, labels, confidence, overlay, color,
    rows, columns, frame_height, frame_width, height, width, classes,
    SWAP: tl.constexpr, SAME_SIZE: tl.constexpr, CONFIDENCE: tl.constexpr,
    OVERLAY: tl.constexpr, COLOR: tl.constexpr, THRESHOLD: tl.constexpr, SOFTMAX: tl.constexpr,
    RENUMBER: tl.constexpr,
    UNLABELED: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):
    y = tl.program_id(1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]
    x = tl.program_id(0) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)[None, :]
    mask = (y < height) & (x < width)
    pixel = y * width + x
    # Aligned corners, as the network's own upsampling has them.
    y0, y1, fy = aligned_corners(y, height, rows)
    x0, x1, fx = aligned_corners(x, width, columns)
    label = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.int32)
    steps = classes
    if not SOFTMAX:
        # Interpolation is convex: a class that wins in all four corners wins between them.
        w00 = tl.load(winners + y0 * columns + x0, mask=mask, other=0).to(tl.int32)
        w01 = tl.load(winners + y0 * columns + x1, mask=mask, other=0).to(tl.int32)
        w10 = tl.load(winners + y1 * columns + x0, mask=mask, other=0).to(tl.int32)
        w11 = tl.load(winners + y1 * columns + x1, mask=mask, other=0).to(tl.int32)
        low = tl.minimum(tl.minimum(w00, w01), tl.minimum(w10, w11))
        high = tl.maximum(tl.maximum(w00, w01), tl.maximum(w10, w11))
        lowest, highest = tl.min(tl.where(mask, low, 255)), tl.max(tl.where(mask, high, 0))
        label += lowest
        steps = tl.where(lowest == highest, 0, classes)
    top0 = scores + y0 * stride_row + x0 * stride_column
    top1 = scores + y0 * stride_row + x1 * stride_column
    low0 = scores + y1 * stride_row + x0 * stride_column
    low1 = scores + y1 * stride_row + x1 * stride_column
    best = tl.full((BLOCK_ROWS, BLOCK_COLUMNS), float('-inf'), tl.float32)
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    for k in range(steps):
        at = k * stride_class
        a = tl.load(top0 + at, mask=mask, other=0).to(tl.float32)
        b = tl.load(top1 + at, mask=mask, other=0).to(tl.float32)
        c = tl.load(low0 + at, mask=mask, other=0).to(tl.float32)
        d = tl.load(low1 + at, mask=mask, other=0).to(tl.float32)
        value = interpolate(a, b, c, d, fy, fx)
        label = tl.where(value > best, k, label)
        higher = tl.maximum(best, value)
        if SOFTMAX:
            total = total * tl.exp(best - higher) + tl.exp(value - higher)
        best = higher
    if RENUMBER:
        label = tl.load(ids + label).to(tl.int32)
    if SOFTMAX:
        probability = 1.0 / total
        if THRESHOLD:
            label = tl.where(probability < tl.load(settings + 1 + label), UNLABELED, label)
        if CONFIDENCE:
            tl.store(confidence + pixel, (probability * 255 + 0.5).to(tl.uint8), mask=mask)
    tl.store(labels + pixel, label.to(tl.uint8), mask=mask)
    if COLOR:
        for channel in tl.static_range(3):
            own = tl.load(palette + label * 3 + channel, mask=mask, other=0)
            tl.store(color + pixel * 3 + channel, own, mask=mask)
    if OVERLAY:
        drawn = tl.load(visible + label, mask=mask, other=0).to(tl.float32)
        share = tl.where(drawn > 0, tl.load(settings), 0.0)
        v0, v1, fv = y, y, 0.0
        u0, u1, fu = x, x, 0.0
        if not SAME_SIZE:
            v0, v1, fv = corners(
                (y.to(tl.float32) + 0.5) * (frame_height / height) - 0.5, frame_height
            )
            u0, u1, fu = corners(
                (x.to(tl.float32) + 0.5) * (frame_width / width) - 0.5, frame_width
            )
        for channel in tl.static_range(3):
            shown = _frame_value(frame, v0, v1, fv, u0, u1, fu, frame_width, channel, mask)
            source = 2 - channel if SWAP else channel
            own = tl.load(palette + label * 3 + source, mask=mask, other=0).to(tl.float32)
            blended = shown * (1 - share) + own * share
            tl.store(
                overlay + pixel * 3 + channel, (blended + 0.5).to(tl.uint8), mask=mask
            )


def finish(
    scores: Tensor,
    frame: Tensor,
    swap_colors: bool,
    palette: Tensor,
    visible: Tensor,
    settings: Tensor,
    wanted: Wanted,
    out: Outputs,
    threshold: bool = True,
    ids: Tensor | None = None,
) -> None:
    """
    Make labels and images of one frame's scores in one pass.

    Bilinear upsampling, argmax, softmax of the winner, palette and blending happen in registers:
    logits are never written at the output's size.

    Parameters
    ----------
    scores
        Logits (C, h, w), floating point, any strides.
    frame
        (frame_h, frame_w, 3) uint8, contiguous; resized for the overlay where sizes differ.
    swap_colors
        Whether the frame is BGR, and so the overlay.
    palette
        (256, 3) uint8 RGB.
    visible
        0 for ids that overlays don't draw, (256,) uint8.
    settings
        Alpha and the lowest confidence of each id, (257,) float32. These three are read on the
        device, so that they can change without another capture.
    wanted
        What to fill besides the labels.
    out
        Memory on the device.
    threshold
        Whether pixels below the lowest confidence become 255. Without it and without the
        confidence, no softmax is computed, and areas of one class are not interpolated at all.
    ids
        Id of each class, (256,) uint8; None where these are the indexes.

    """
    height, width = out.size
    classes, rows, columns = scores.shape
    labels = out.tensor('labels')
    softmax = threshold or wanted.confidence
    winners = labels
    if not softmax:
        winners = torch.empty(rows * columns, dtype=torch.uint8, device=scores.device)
        _classify_cells[(triton.cdiv(rows * columns, BLOCK_CELLS),)](
            scores, *scores.stride(), winners, rows * columns, columns, classes,
            CLASSES=triton.next_power_of_2(classes), BLOCK=BLOCK_CELLS,
        )
    grid = (triton.cdiv(width, BLOCK_COLUMNS), triton.cdiv(height, BLOCK_ROWS))
    _finish[grid](
        scores, *scores.stride(), winners, frame, palette, visible, settings,
        visible if ids is None else ids,
        labels,
        out.tensor('confidence') if wanted.confidence else labels,
        out.tensor('overlay') if wanted.overlay else labels,
        out.tensor('color') if wanted.color else labels,
        rows, columns, frame.shape[0], frame.shape[1], height, width, classes,
        SWAP=swap_colors, SAME_SIZE=tuple(frame.shape[:2]) == (height, width),
        CONFIDENCE=wanted.confidence, OVERLAY=wanted.overlay, COLOR=wanted.color,
        THRESHOLD=threshold, SOFTMAX=softmax, RENUMBER=ids is not None, UNLABELED=UNLABELED,
        BLOCK_ROWS=BLOCK_ROWS, BLOCK_COLUMNS=BLOCK_COLUMNS,
    )
