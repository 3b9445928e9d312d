# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Compiled loops over the pixels of one frame on the CPU: class scores to labels, labels to pictures.

Numba compiles them at their first call and keeps the result on disk. They hold no lock of Python.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from lednet_ros.labels import UNLABELED
import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar('Function', bound=Callable[..., Any])
# Taylor polynomial of 2**f for f in -0.5..0.5; its largest relative error is 3e-6.
EXP2 = (1.0, 0.6931472, 0.24022651, 0.05550411, 0.009618129, 0.001333355)


def _compiled(function: Function) -> Function:
    # Contractions and reciprocals only: sums keep their order, NaN and infinity their meaning.
    fastmath = {'contract', 'arcp', 'nsz'}
    options: dict[str, Any] = {'nogil': True, 'fastmath': fastmath, 'error_model': 'numpy'}
    try:
        kernel = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Neither the package's folder nor a home can be written: compiled at each start then.
        kernel = numba.njit(**options)(function)
    return kernel  # type: ignore[no-any-return]


@_compiled
def _places(source: int, target: int) -> Any:
    """Give for each target pixel its cell and share in it, and for each cell its first pixel."""
    cells = np.empty(target, np.int32)
    shares = np.empty(target, np.float32)
    starts = np.empty(source, np.int32)
    step = np.float32(source - 1) / np.float32(max(target - 1, 1))
    cell = -1
    for pixel in range(target):
        place = np.float32(pixel) * step
        cells[pixel] = min(int(place), source - 2)
        shares[pixel] = place - np.float32(cells[pixel])
        while cell < cells[pixel]:
            cell += 1
            starts[cell] = pixel
    for rest in range(cell + 1, source):
        starts[rest] = target
    return cells, shares, starts


@_compiled
def choose_classes(scores: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
    """
    Give every pixel the class that is best after bilinear upsampling with aligned corners.

    A pixel's scores are a mean of those at the four corners of its cell, so a class that is best
    at all four is best in between: only cells whose corners differ are computed.

    Parameters
    ----------
    scores
        (h, w, C) float32, contiguous; h and w at least 2.
    labels
        Receives ids, (H, W) uint8, contiguous.

    """
    h, w, classes = scores.shape
    height, width = labels.shape
    best = np.empty((h, w), np.uint8)
    for y in range(h):
        for x in range(w):
            winner = 0
            for k in range(1, classes):
                if scores[y, x, k] > scores[y, x, winner]:
                    winner = k
            best[y, x] = winner
    rows, down, _ = _places(h, height)
    _, right, starts = _places(w, width)
    values = np.empty(width, np.float32)
    for row in range(height):
        y = rows[row]
        share = down[row]
        for x in range(w - 1):
            first, last = starts[x], starts[x + 1]
            corner = best[y, x]
            if (
                best[y, x + 1] == corner
                and best[y + 1, x] == corner
                and best[y + 1, x + 1] == corner
            ):
                for column in range(first, last):
                    labels[row, column] = corner
                continue
            for k in range(classes):
                left = scores[y, x, k] + (scores[y + 1, x, k] - scores[y, x, k]) * share
                slope = (
                    scores[y, x + 1, k]
                    + (scores[y + 1, x + 1, k] - scores[y, x + 1, k]) * share
                    - left
                )
                if k == 0:
                    for column in range(first, last):
                        values[column] = left + slope * right[column]
                        labels[row, column] = 0
                else:
                    for column in range(first, last):
                        value = left + slope * right[column]
                        if value > values[column]:
                            values[column] = value
                            labels[row, column] = k


@_compiled
def choose_classes_with_confidence(
    scores: NDArray[np.float32],
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    min_confidence: float,
) -> None:
    """
    As `choose_classes`, with the winner's softmax probability.

    Parameters
    ----------
    scores, labels
        See there; pixels whose probability is below `min_confidence` become 255.
    confidence
        Receives the probability, (H, W) uint8 0..255; of no rows when it isn't wanted.
    min_confidence
        0..1.

    """
    h, w, classes = scores.shape
    height, width = labels.shape
    rows, down, _ = _places(h, height)
    _, right, starts = _places(w, width)
    values = np.empty((classes, width), np.float32)
    best = np.empty(width, np.float32)
    total = np.empty(width, np.float32)
    powers = np.empty(width, np.int32)
    factors = powers.view(np.float32)
    log2e = np.float32(1.442695)
    for row in range(height):
        y = rows[row]
        share = down[row]
        for k in range(classes):
            for x in range(w - 1):
                left = scores[y, x, k] + (scores[y + 1, x, k] - scores[y, x, k]) * share
                slope = (
                    scores[y, x + 1, k]
                    + (scores[y + 1, x + 1, k] - scores[y, x + 1, k]) * share
                    - left
                )
                for column in range(starts[x], starts[x + 1]):
                    values[k, column] = left + slope * right[column]
        for column in range(width):
            best[column] = values[0, column]
            labels[row, column] = 0
            total[column] = 0
        for k in range(1, classes):
            for column in range(width):
                if values[k, column] > best[column]:
                    best[column] = values[k, column]
                    labels[row, column] = k
        for k in range(classes):
            # exp(x) as 2**whole * 2**fraction; the whole part goes straight into the exponent.
            for column in range(width):
                power = max((values[k, column] - best[column]) * log2e, np.float32(-126.0))
                whole = np.floor(power + np.float32(0.5))
                powers[column] = (np.int32(whole) + np.int32(127)) << np.int32(23)
                values[k, column] = power - whole
            for column in range(width):
                f = values[k, column]
                polynomial = np.float32(EXP2[5])
                polynomial = polynomial * f + np.float32(EXP2[4])
                polynomial = polynomial * f + np.float32(EXP2[3])
                polynomial = polynomial * f + np.float32(EXP2[2])
                polynomial = polynomial * f + np.float32(EXP2[1])
                polynomial = polynomial * f + np.float32(EXP2[0])
                total[column] += polynomial * factors[column]
        for column in range(width):
            probability = np.float32(1) / total[column]
            if probability < min_confidence:
                labels[row, column] = UNLABELED
            if len(confidence):
                confidence[row, column] = np.uint8(probability * np.float32(255) + np.float32(0.5))


@_compiled
def blend_colors(
    pixels: NDArray[np.uint8],
    step: int,
    labels: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    weights: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    """
    Blend a frame with the colors of its labels.

    Parameters
    ----------
    pixels
        The frame's bytes, (bytes,) uint8, read-only.
    step
        Bytes from one row of the frame to the next.
    labels
        (H, W) uint8 ids, contiguous.
    palette
        (256, 3) uint8.
    weights
        Share of the color for each id, (256,) float32, 0..1.
    out
        Receives (H, W, 3) uint8, contiguous.

    """
    height, width = labels.shape
    # 16-bit fixed point, rounded: the error is far below one gray level.
    shares = np.empty(256, np.int32)
    colors = np.empty((256, 3), np.int32)
    for index in range(256):
        share = np.int32(weights[index] * 65536 + 0.5)
        shares[index] = 65536 - share
        for channel in range(3):
            colors[index, channel] = np.int32(palette[index, channel]) * share + 32768
    for row in range(height):
        start = row * step
        for column in range(width):
            label = labels[row, column]
            share = shares[label]
            at = start + 3 * column
            out[row, column, 0] = (pixels[at] * share + colors[label, 0]) >> 16
            out[row, column, 1] = (pixels[at + 1] * share + colors[label, 1]) >> 16
            out[row, column, 2] = (pixels[at + 2] * share + colors[label, 2]) >> 16


@_compiled
def paint_colors(
    labels: NDArray[np.uint8], palette: NDArray[np.uint8], out: NDArray[np.uint8]
) -> None:
    """
    Give every pixel the color of its class.

    Parameters
    ----------
    labels
        (H, W) uint8 ids, contiguous.
    palette
        (256, 3) uint8.
    out
        Receives (H, W, 3) uint8, contiguous.

    """
    height, width = labels.shape
    for row in range(height):
        for column in range(width):
            label = labels[row, column]
            for channel in range(3):
                out[row, column, channel] = palette[label, channel]
