# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random scale, crop, flip and color for training."""

import cv2
from lednet_ros.datasets import LabeledFrame
from lednet_ros.labels import UNLABELED
import numpy as np
from numpy.typing import NDArray

SCALE_RANGE = (0.6, 1.8)
GAIN_RANGE = (0.6, 1.5)
CHANNEL_GAIN_RANGE = (0.9, 1.1)
OFFSET_RANGE = (-20.0, 20.0)


def augment(
    frame: LabeledFrame, crop: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """
    Scale, crop, flip and tint a frame at random.

    Parameters
    ----------
    frame
        The frame.
    crop
        Height and width of the result.
    rng
        Source of randomness.

    Returns
    -------
    tuple
        Pixels (*crop, 3) uint8 RGB and labels (*crop,) uint8, padded with 255.

    """
    height, width = crop
    scale = rng.uniform(*SCALE_RANGE)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    source_height, source_width = frame.labels.shape
    # Place a random point of the scaled frame so that the crop lies inside it where it can.
    room_x = source_width * scale - width
    room_y = source_height * scale - height
    left = rng.uniform(min(room_x, 0), max(room_x, 0))
    top = rng.uniform(min(room_y, 0), max(room_y, 0))
    offset = -left if flip > 0 else source_width * scale - 1 - left
    warp = np.array([[flip * scale, 0, offset], [0, scale, -top]])
    pixels = cv2.warpAffine(frame.pixels, warp, (width, height), flags=cv2.INTER_LINEAR)
    labels = cv2.warpAffine(
        frame.labels,
        warp,
        (width, height),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=UNLABELED,
    )
    gain = rng.uniform(*GAIN_RANGE) * rng.uniform(*CHANNEL_GAIN_RANGE, 3)
    shift = rng.uniform(*OFFSET_RANGE)
    levels = np.clip(np.arange(256)[:, None] * gain + shift, 0, 255).astype(np.uint8)
    pixels = cv2.LUT(pixels, levels[None])
    return np.asarray(pixels, np.uint8), np.asarray(labels, np.uint8)
