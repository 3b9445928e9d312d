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
Random scale, crop, flip, rotation, color and degradation for training.

One affine warp scales, crops, flips and rotates; one table lookup does most of the color changes.
This is faster than the same steps in albumentations (docs/training.md), and needs no further
dependency.
"""

from collections.abc import Sequence

import cv2
from lednet_ros.datasets import ClassifiedImage, LabeledFrame
from lednet_ros.evaluation.corruptions import compress
from lednet_ros.labels import UNLABELED
from lednet_ros.training.recipe import Augmentation, Paste
import numpy as np
from numpy.typing import NDArray

# Aspect ratios of crops for classification (Szegedy et al., "Going Deeper with Convolutions",
# section 6).
ASPECT_RANGE = (3 / 4, 4 / 3)
# Cells along each side of the grids between whose points brightness varies smoothly.
SHADE_CELLS = ((2, 6), (6, 25))


def augment(
    frame: LabeledFrame,
    crop: tuple[int, int],
    options: Augmentation,
    rng: np.random.Generator,
    favored: Sequence[int] = (),
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """
    Scale, crop, flip, rotate and tint a frame, and degrade it as cameras do, at random.

    Parameters
    ----------
    frame
        The frame.
    crop
        Height and width of the result.
    options, rng
        Ranges to draw from, and the random generator.
    favored
        Ids of classes; a random pixel of one of them is in the crop before it is rotated.

    Returns
    -------
    tuple
        Pixels (*crop, 3) uint8 RGB; labels (*crop,) uint8, padded with 255; and the pixels before
        blur, noise and compression.

    """
    height, width = crop
    scale = rng.uniform(*options.scale)
    flip = -1.0 if rng.random() < options.flip else 1.0
    source_height, source_width = frame.labels.shape
    # The crop is inside the scaled frame, or the frame inside the crop, in each direction.
    room_x = source_width * scale - width
    room_y = source_height * scale - height
    x, y = None, None
    pixel = _pick_pixel(frame.labels, favored, rng)
    if pixel is not None:
        x, y = pixel[1] * scale, pixel[0] * scale
        if flip < 0:
            x = source_width * scale - 1 - x
    left = rng.uniform(*_offsets(room_x, width, x))
    top = rng.uniform(*_offsets(room_y, height, y))
    offset = -left if flip > 0 else source_width * scale - 1 - left
    warp = np.array([[flip * scale, 0, offset], [0, scale, -top]])
    if options.rotation:
        turn = cv2.getRotationMatrix2D(
            ((width - 1) / 2, (height - 1) / 2), rng.uniform(-1, 1) * options.rotation, 1
        )
        warp = turn @ np.vstack([warp, [0, 0, 1]])
    pixels = frame.pixels
    if scale <= 0.6:
        # Fine texture would alias in such a reduction.
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.35 / scale), np.uint8)
    pixels = np.asarray(cv2.warpAffine(pixels, warp, (width, height)), np.uint8)
    labels = cv2.warpAffine(
        frame.labels,
        warp,
        (width, height),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=UNLABELED,
    )
    clean = _tint(pixels, options, rng)
    return _degrade(clean, options, rng), np.asarray(labels, np.uint8), clean


def _offsets(room: float, length: int, position: float | None) -> tuple[float, float]:
    """Return the least and the largest offset of a crop that contains a position."""
    low, high = min(room, 0), max(room, 0)
    if position is not None:
        low = min(max(low, position - length + 1), position)
        high = max(min(high, position), low)
    return low, high


def _pick_pixel(
    labels: NDArray[np.uint8], classes: Sequence[int], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Return row and column of a pixel of one of the classes; None if there is none."""
    present = [class_id for class_id in classes if (labels == class_id).any()]
    if not present:
        return None
    rows, columns = np.nonzero(labels == present[rng.integers(len(present))])
    index = rng.integers(len(rows))
    return int(rows[index]), int(columns[index])


def paste_objects(
    frame: LabeledFrame,
    donor: LabeledFrame,
    classes: Sequence[int],
    options: Paste,
    rng: np.random.Generator,
) -> LabeledFrame:
    """
    Copy objects of another frame to the same place, over what is there.

    Parameters
    ----------
    frame, donor
        The frame, and the one with the objects; a donor of another size is resized.
    classes
        Ids of the classes to copy.
    options, rng
        Number and size of the objects, and the random generator, which chooses among them.

    Returns
    -------
    LabeledFrame
        The frame with the objects, in arrays of its own.

    """
    height, width = frame.labels.shape
    theirs, pixels = donor.labels, donor.pixels
    if theirs.shape != frame.labels.shape:
        resized = cv2.resize(theirs, (width, height), interpolation=cv2.INTER_NEAREST)
        theirs = np.asarray(resized, np.uint8)
        pixels = np.asarray(cv2.resize(pixels, (width, height)), np.uint8)
    objects = []
    for class_id in classes:
        count, regions, statistics, _ = cv2.connectedComponentsWithStats(
            (theirs == class_id).astype(np.uint8)
        )
        areas = statistics[:, cv2.CC_STAT_AREA]
        objects += [regions == i for i in range(1, count) if areas[i] >= options.min_pixels]
    if not objects:
        return frame
    number = rng.integers(1, min(options.objects, len(objects)) + 1)
    mask = np.any([objects[i] for i in rng.permutation(len(objects))[:number]], axis=0)
    return LabeledFrame(
        frame.name,
        np.where(mask[..., None], pixels, frame.pixels),
        np.where(mask, theirs, frame.labels),
    )


def augment_image(
    image: ClassifiedImage, crop: tuple[int, int], options: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """
    Cut a random part of an image, of random area and aspect, and resize, flip and tint it.

    Parameters are those of `augment`, but `options.scale` is a fraction of the image's area; the
    result is (*crop, 3) uint8 RGB.
    """
    height, width = image.pixels.shape[:2]
    area = rng.uniform(*options.scale) * height * width
    aspect = np.exp(rng.uniform(*np.log(ASPECT_RANGE)))
    cut_width = int(np.clip(np.sqrt(area * aspect), 1, width))
    cut_height = int(np.clip(np.sqrt(area / aspect), 1, height))
    left = int(rng.integers(width - cut_width + 1))
    top = int(rng.integers(height - cut_height + 1))
    cut = image.pixels[top:top + cut_height, left:left + cut_width]
    if rng.random() < options.flip:
        cut = cut[:, ::-1]
    shrinks = cut_height > crop[0]
    pixels = cv2.resize(
        np.ascontiguousarray(cut),
        (crop[1], crop[0]),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
    return _degrade(_tint(np.asarray(pixels, np.uint8), options, rng), options, rng)


def center_crop(pixels: NDArray[np.uint8], crop: tuple[int, int]) -> NDArray[np.uint8]:
    """
    Cut the centered part with 7/8 of the largest size that has the crop's aspect, and resize it.

    Maps (H, W, 3) uint8 to (*crop, 3) uint8.
    """
    height, width = pixels.shape[:2]
    scale = min(height / crop[0], width / crop[1]) * 7 / 8
    cut_height, cut_width = max(round(crop[0] * scale), 1), max(round(crop[1] * scale), 1)
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    cut = np.ascontiguousarray(pixels[top:top + cut_height, left:left + cut_width])
    resized = cv2.resize(cut, (crop[1], crop[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def _tint(
    pixels: NDArray[np.uint8], options: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    gain = rng.uniform(*options.gain) * rng.uniform(*options.channel_gain, 3)
    levels = 255 * (np.arange(256)[:, None] / 255) ** rng.uniform(*options.gamma)
    levels = np.clip(levels * gain + rng.uniform(*options.offset), 0, 255).astype(np.uint8)
    pixels = np.asarray(cv2.LUT(pixels, levels[None]), np.uint8)
    saturation = rng.uniform(*options.saturation)
    if saturation != 1:
        gray = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        mixed = cv2.addWeighted(pixels, saturation, gray, 1 - saturation, 0)
        pixels = np.asarray(mixed, np.uint8)
    return _shade(pixels, options.shade, rng) if options.shade else pixels


def _degrade(
    pixels: NDArray[np.uint8], options: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Do what lens, sensor and transmission do, in this order."""
    if options.blur and rng.random() < 0.5:
        # Never 0, which OpenCV refuses.
        blurred = cv2.GaussianBlur(pixels, (0, 0), options.blur * (1 - rng.random()))
        pixels = np.asarray(blurred, np.uint8)
    if options.noise:
        pixels = _add_noise(pixels, options.noise, rng)
    if options.jpeg_quality is not None and rng.random() < 0.5:
        pixels = compress(pixels, int(rng.integers(options.jpeg_quality, 101)))
    return pixels


def _add_noise(
    pixels: NDArray[np.uint8], most: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    noise = rng.standard_normal(pixels.shape, np.float32)
    noise *= rng.uniform(0, most)
    noise += pixels
    return np.asarray(np.clip(np.rint(noise, noise), 0, 255, noise), np.uint8)


def _shade(pixels: NDArray[np.uint8], most: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    strength = rng.uniform(0, most)
    factor = np.ones((height, width), np.float32)
    for cells in SHADE_CELLS:
        grid = rng.uniform(-1, 1, [rng.integers(*cells)] * 2) * strength / len(SHADE_CELLS)
        # Linear: overshoots would exceed the strength.
        factor += np.asarray(cv2.resize(grid.astype(np.float32), (width, height)), np.float32)
    return np.clip(pixels * factor[..., None], 0, 255).astype(np.uint8)
