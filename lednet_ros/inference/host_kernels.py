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
Compiled loops over the pixels of one frame on the CPU: logits to labels, labels to images.

Numba compiles them at their first call and caches the result on disk. They release Python's lock,
so `run_rows` can share the rows of a frame among threads. The first two arguments of every kernel
are the first row to compute and the one after the last.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import functools
import itertools
from pathlib import Path
from typing import Any, TypeVar

from lednet_ros.labels import UNLABELED
from lednet_ros.machine import usable_cores
import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar('Function', bound=Callable[..., Any])
# Taylor polynomial of 2**f for f in -0.5..0.5; its largest relative error is 3e-6.
EXP2 = (1.0, 0.6931472, 0.24022651, 0.05550411, 0.009618129, 0.001333355)
# Added to a float32, it leaves the nearest integer in the low bits.
ROUNDER = np.float32(1.5 * 2**23)
# More threads than this would wait for memory.
MAX_THREADS = 4
# Fewer rows aren't worth waking a thread for.
MIN_ROWS = 128


@functools.cache
def _threads() -> tuple[int, ThreadPoolExecutor]:
    count = min(usable_cores(), MAX_THREADS)
    return count, ThreadPoolExecutor(max_workers=count, thread_name_prefix='rows')


def run_rows(kernel: Callable[..., Any], height: int, *arguments: Any) -> None:
    """
    Call a kernel for all rows of a frame, in several threads where that pays.

    Parameters
    ----------
    kernel
        One of this module's.
    height
        Number of rows.
    arguments
        The kernel's arguments after the rows.

    """
    count, pool = _threads()
    parts = min(count, max(height // MIN_ROWS, 1))
    bounds = [height * part // parts for part in range(parts + 1)]
    others = [
        pool.submit(kernel, first, last, *arguments)
        for first, last in itertools.pairwise(bounds[1:])
    ]
    # This thread works too.
    kernel(bounds[0], bounds[1], *arguments)
    for other in others:
        other.result()


def _compiled(function: Function) -> Function:
    # Contractions and reciprocals only: sums keep their order, NaN and infinity their meaning.
    fastmath = {'contract', 'arcp', 'nsz'}
    options: dict[str, Any] = {'nogil': True, 'fastmath': fastmath, 'error_model': 'numpy'}
    try:
        # Without a home, Numba would make a folder named '~', but this raises RuntimeError.
        Path.home()
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        # Without a writable folder or home, kernels are compiled at each start.
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


@_compiled
def _places(source: int, target: int) -> Any:
    """Compute each target pixel's position within its cell, and each cell's first pixel."""
    fractions = np.empty(target, np.float32)
    starts = np.empty(source, np.int32)
    step = np.float32(source - 1) / np.float32(max(target - 1, 1))
    cell = -1
    for pixel in range(target):
        place = np.float32(pixel) * step
        its_cell = min(int(place), source - 2)
        fractions[pixel] = place - np.float32(its_cell)
        while cell < its_cell:
            cell += 1
            starts[cell] = pixel
    for rest in range(cell + 1, source):
        starts[rest] = target
    return fractions, starts


@_compiled
def _candidates(logits: NDArray[np.float32], y: int, x: int, found: NDArray[np.int32]) -> int:
    """
    Find the classes that can win somewhere in a cell; return their number.

    A pixel's logits are a mean of those at the four corners, so none is above a class's best
    corner or below its worst.
    """
    classes = logits.shape[2]
    bar = np.float32(-np.inf)
    for k in range(classes):
        lowest = min(
            min(logits[y, x, k], logits[y, x + 1, k]),
            min(logits[y + 1, x, k], logits[y + 1, x + 1, k]),
        )
        bar = max(bar, lowest)
    count = 0
    for k in range(classes):
        highest = max(
            max(logits[y, x, k], logits[y, x + 1, k]),
            max(logits[y + 1, x, k], logits[y + 1, x + 1, k]),
        )
        if highest >= bar:
            found[count] = k
            count += 1
    if count == 0:
        # Only where logits are NaN.
        found[0] = 0
        return 1
    return count


@_compiled
def _edge(logits: NDArray[np.float32], y: int, x: int, k: int, fraction: float) -> Any:
    """Compute a class's logit at the left edge of a cell, and its increase to the right edge."""
    left = logits[y, x, k] + (logits[y + 1, x, k] - logits[y, x, k]) * fraction
    right = logits[y, x + 1, k] + (logits[y + 1, x + 1, k] - logits[y, x + 1, k]) * fraction
    return left, right - left


@_compiled
def choose_classes(
    first_row: int,
    last_row: int,
    logits: NDArray[np.float32],
    ids: NDArray[np.uint8],
    labels: NDArray[np.uint8],
) -> None:
    """
    Assign every pixel its best class after bilinear upsampling with aligned corners.

    Parameters
    ----------
    logits
        (h, w, C) float32, contiguous; h and w at least 2, C at most 255.
    ids
        Id of each class, (256,) uint8.
    labels
        Receives ids, (H, W) uint8, contiguous.

    """
    h, w, classes = logits.shape
    height, width = labels.shape
    down, row_starts = _places(h, height)
    right, starts = _places(w, width)
    found = np.empty(classes, np.int32)
    values = np.empty(width, np.float32)
    for y in range(h - 1):
        top, bottom = max(row_starts[y], first_row), min(row_starts[y + 1], last_row)
        if top >= bottom:
            continue
        for x in range(w - 1):
            first, last = starts[x], starts[x + 1]
            count = _candidates(logits, y, x, found)
            for row in range(top, bottom):
                k = found[0]
                label = ids[k]
                if count == 1:
                    for column in range(first, last):
                        labels[row, column] = label
                    continue
                fraction = down[row]
                left, slope = _edge(logits, y, x, k, fraction)
                for column in range(first, last):
                    values[column] = left + slope * right[column]
                    labels[row, column] = label
                for index in range(1, count):
                    k = found[index]
                    label = ids[k]
                    left, slope = _edge(logits, y, x, k, fraction)
                    for column in range(first, last):
                        value = left + slope * right[column]
                        if value > values[column]:
                            values[column] = value
                            labels[row, column] = label


@_compiled
def choose_classes_with_confidence(
    first_row: int,
    last_row: int,
    logits: NDArray[np.float32],
    ids: NDArray[np.uint8],
    min_confidences: NDArray[np.float32],
    has_threshold: bool,
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
) -> None:
    """
    Assign classes like `choose_classes`, and compute the winner's softmax probability.

    Parameters
    ----------
    logits, ids, labels
        See `choose_classes`.
    min_confidences
        The probability (0..1) below which pixels become 255, (256,) float32 by id, or (1,).
    has_threshold
        Whether any of them is above 0.
    confidence
        Receives the probability, (H, W) uint8 0..255; has no rows if it isn't wanted.

    """
    h, w, classes = logits.shape
    height, width = labels.shape
    down, row_starts = _places(h, height)
    right, starts = _places(w, width)
    values = np.empty((classes, width), np.float32)
    best = np.empty(width, np.float32)
    total = np.empty(width, np.float32)
    wholes = np.empty(width, np.float32)
    powers = wholes.view(np.int32)
    log2e = np.float32(1.442695)
    y = 0
    for row in range(first_row, last_row):
        while y < h - 2 and row_starts[y + 1] <= row:
            y += 1
        fraction = down[row]
        for k in range(classes):
            for x in range(w - 1):
                left, slope = _edge(logits, y, x, k, fraction)
                for column in range(starts[x], starts[x + 1]):
                    values[k, column] = left + slope * right[column]
        for column in range(width):
            best[column] = values[0, column]
            labels[row, column] = ids[0]
            total[column] = 0
        for k in range(1, classes):
            label = ids[k]
            for column in range(width):
                if values[k, column] > best[column]:
                    best[column] = values[k, column]
                    labels[row, column] = label
        for k in range(classes):
            # exp(x) is 2**whole * 2**f; the whole part goes straight into the exponent.
            for column in range(width):
                power = max((values[k, column] - best[column]) * log2e, np.float32(-126.0))
                shifted = power + ROUNDER
                wholes[column] = shifted
                values[k, column] = power - (shifted - ROUNDER)
            for column in range(width):
                powers[column] = (powers[column] + 127) << 23
            for column in range(width):
                f = values[k, column]
                polynomial = np.float32(EXP2[5])
                polynomial = polynomial * f + np.float32(EXP2[4])
                polynomial = polynomial * f + np.float32(EXP2[3])
                polynomial = polynomial * f + np.float32(EXP2[2])
                polynomial = polynomial * f + np.float32(EXP2[1])
                polynomial = polynomial * f + np.float32(EXP2[0])
                total[column] += polynomial * wholes[column]
        if has_threshold and len(min_confidences) == 1:
            for column in range(width):
                if np.float32(1) / total[column] < min_confidences[0]:
                    labels[row, column] = UNLABELED
        elif has_threshold:
            for column in range(width):
                if np.float32(1) / total[column] < min_confidences[labels[row, column]]:
                    labels[row, column] = UNLABELED
        if len(confidence):
            for column in range(width):
                level = np.float32(255) / total[column] + np.float32(0.5)
                confidence[row, column] = np.uint8(level)


@_compiled
def paint_visible(
    first_row: int,
    last_row: int,
    pixels: NDArray[np.uint8],
    step: int,
    labels: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    visible: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """
    Paint every pixel in the color of its class, or as in the frame if the class isn't drawn.

    Parameters
    ----------
    pixels
        The frame's bytes, (bytes,) uint8, read-only.
    step
        Bytes from one row of the frame to the next.
    labels, palette
        See `paint_colors`.
    visible
        0 for ids that aren't drawn, (256,) uint8.
    out
        Receives (H, W, 3) uint8, contiguous.

    """
    width = labels.shape[1]
    for row in range(first_row, last_row):
        for column in range(width):
            label = labels[row, column]
            at = row * step + 3 * column
            drawn = visible[label]
            for channel in range(3):
                color = palette[label, channel]
                out[row, column, channel] = color if drawn else pixels[at + channel]


@_compiled
def paint_colors(
    first_row: int,
    last_row: int,
    labels: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """
    Paint every pixel in the color of its class.

    Parameters
    ----------
    labels
        (H, W) uint8 ids, contiguous.
    palette
        (256, 3) uint8.
    out
        Receives (H, W, 3) uint8, contiguous.

    """
    width = labels.shape[1]
    for row in range(first_row, last_row):
        for column in range(width):
            label = labels[row, column]
            for channel in range(3):
                out[row, column, channel] = palette[label, channel]
