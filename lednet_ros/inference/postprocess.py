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

"""From logits to labels and confidence, and from labels to colored images."""

from collections.abc import Sequence

import cv2
from lednet_ros.inference.backends.base import Outputs, Style, Wanted
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.host_kernels import (
    choose_classes,
    choose_classes_with_confidence,
    paint_colors,
    paint_visible,
    run_rows,
)
from lednet_ros.labels import UNLABELED
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional


def classify(
    scores: Tensor,
    size: tuple[int, int],
    ids: Tensor | None,
    min_confidences: Tensor | None,
    labels: Tensor,
    confidence: Tensor | None,
) -> None:
    """
    Upsample the logits of one frame straight to the output size and choose the best class.

    For devices other than the CPU, which has `classify_on_host`.

    Parameters
    ----------
    scores
        Logits (C, h, w) at 1/8 of the network's input, floating point, real classes only.
    size
        Height and width of the output.
    ids, min_confidences
        See `Style`; None where ids are the channels, and where there is no threshold.
    labels
        Receives the ids, (*size,) uint8.
    confidence
        Receives the winner's softmax probability, (*size,) uint8 0..255; None skips it.

    """
    # Half precision would decide near ties by rounding; at 1/8 the conversion is cheap.
    # Channels-last makes interpolation and reduction three times faster on the CPU.
    scores = scores[None].float().contiguous(memory_format=torch.channels_last)
    full = functional.interpolate(scores, size=size, mode='bilinear', align_corners=True)[0]
    if confidence is None and min_confidences is None:
        winner = full.argmax(dim=0)
        labels.copy_(winner if ids is None else ids.take(winner))
        return
    best, winner = full.max(dim=0)
    probability = torch.exp(best - full.logsumexp(dim=0))
    labels.copy_(winner if ids is None else ids.take(winner))
    if min_confidences is not None:
        too_low = probability < min_confidences.take(labels.long())
        labels.masked_fill_(too_low, UNLABELED)
    if confidence is not None:
        confidence.copy_((probability * 255).round_())


def classify_on_host(
    scores: NDArray[np.float32],
    style: Style,
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8] | None,
) -> None:
    """
    As `classify`, on the CPU.

    Parameters
    ----------
    scores
        Logits (h, w, C) float32, contiguous.
    style
        Its ids and thresholds are used.
    labels, confidence
        Receive the ids and the winner's probability, (H, W) uint8, contiguous.

    """
    if confidence is None and not style.has_threshold:
        run_rows(choose_classes, len(labels), scores, style.ids, labels)
    else:
        levels = np.empty((0, 0), np.uint8) if confidence is None else confidence
        run_rows(
            choose_classes_with_confidence, len(labels), scores, style.ids,
            style.min_confidences, style.has_threshold, labels, levels,
        )


def colorize(
    labels: NDArray[np.uint8], palette: NDArray[np.uint8], out: NDArray[np.uint8]
) -> None:
    """
    Paint every pixel in the color of its class.

    Parameters
    ----------
    labels
        (H, W) uint8 ids.
    palette
        (256, 3) uint8, in the color order of the result.
    out
        Receives (H, W, 3) uint8.

    """
    run_rows(paint_colors, len(labels), labels, palette, out)


def blend(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    alpha: float,
    visible: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """
    Blend a frame with the class colors.

    Parameters
    ----------
    pixels
        (h, w, 3) uint8; resized to the labels where the sizes differ.
    labels
        (H, W) uint8 ids.
    palette
        (256, 3) uint8, in the color order of `pixels`.
    alpha
        Weight of the color, 0..1.
    visible
        (256,) uint8: 255 for ids that are drawn, 0 for ids that show the plain frame.
    out
        Receives (H, W, 3) uint8, in the color order of `pixels`.

    """
    height, width = labels.shape
    if pixels.shape[:2] != labels.shape:
        resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        pixels = np.asarray(resized, np.uint8)
    if pixels.strides[1:] != (3, 1) or pixels.strides[0] < 0:
        # Padded rows are common; other strides are not.
        pixels = np.ascontiguousarray(pixels)
    step = pixels.strides[0]
    # A flat view, because rows may be padded; of one type, because each costs a compilation.
    data = np.lib.stride_tricks.as_strided(
        pixels, (step * (height - 1) + 3 * width,), (1,), writeable=False
    )
    run_rows(paint_visible, height, data, step, labels, palette, visible, out)
    cv2.addWeighted(pixels, 1 - alpha, out, alpha, 0, dst=out)


def mask_class(labels: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Return 255 where labels, (H, W) uint8, have this id, and 0 elsewhere."""
    return np.asarray(cv2.inRange(labels, np.array(number), np.array(number)), np.uint8)


def draw_on_host(
    frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
) -> None:
    """Draw the overlays and colors that are wanted; parameters as in `Backend.run`."""
    for frame, output in zip(frames, outputs, strict=True):
        if wanted.overlay:
            blend(
                frame.pixels,
                output.array('labels'),
                style.palettes[frame.color_order],
                style.alpha,
                style.visible,
                output.array('overlay'),
            )
        if wanted.color:
            colorize(output.array('labels'), style.palettes['rgb'], output.array('color'))
