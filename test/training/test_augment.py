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

"""Tests of the augmentation."""

from typing import Any

import cv2
from lednet_ros.datasets import ClassifiedImage, LabeledFrame
from lednet_ros.labels import UNLABELED
from lednet_ros.training.augment import augment, augment_image, center_crop, paste_objects
from lednet_ros.training.recipe import Augmentation, Paste
import numpy as np
from numpy.typing import NDArray
import pytest

CROP = (64, 96)
SEEDS = range(12)


# Without color changes, pixels can be compared.
NO_TINT: dict[str, Any] = {
    'gain': (1, 1), 'channel_gain': (1, 1), 'offset': (0, 0), 'gamma': (1, 1),
    'saturation': (1, 1),
}
PLAIN = Augmentation(scale=(0.6, 1.8), **NO_TINT)
SAME_SIZE = Augmentation(scale=(1, 1), **NO_TINT)
TURNED = Augmentation(scale=(1, 1), rotation=20, **NO_TINT)
LARGER = Augmentation(scale=(1, 1.8), **NO_TINT)
TINTS = Augmentation(scale=(1, 1))


def cut(
    frame: LabeledFrame, options: Augmentation, seed: int, crop: tuple[int, int] = CROP
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return augment(frame, crop, options, np.random.default_rng(seed))[:2]


def make_frame(height: int, width: int) -> LabeledFrame:
    """Return blocks whose red channel is 10 * (label + 1)."""
    blocks = np.random.default_rng(0).integers(0, 11, (height // 20, width // 20), np.uint8)
    labels = blocks.repeat(20, axis=0).repeat(20, axis=1)
    pixels = np.zeros((*labels.shape, 3), np.uint8)
    pixels[..., 0] = 10 * (labels + 1)
    return LabeledFrame('blocks', pixels, labels)


def inside(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find pixels whose neighbors all have the same label: those that resizing doesn't mix."""
    box = np.ones((5, 5), np.uint8)
    same = np.asarray(cv2.erode(labels, box) == cv2.dilate(labels, box))
    # The neighbors of pixels at the edge are unknown.
    same[:2] = same[-2:] = same[:, :2] = same[:, -2:] = False
    return same


@pytest.mark.parametrize('options', [PLAIN, TURNED])
@pytest.mark.parametrize('size', [(120, 160), (200, 300), (60, 60), (40, 400)])
def test_labels_stay_on_their_pixels(size: tuple[int, int], options: Augmentation) -> None:
    frame = make_frame(*size)
    checked = 0
    for seed in SEEDS:
        pixels, labels = cut(frame, options, seed)
        assert pixels.shape == (*CROP, 3)
        assert labels.shape == CROP
        assert pixels.dtype == labels.dtype == np.uint8
        there = inside(labels) & (labels != UNLABELED)
        expected = 10 * (labels[there].astype(int) + 1)
        assert np.abs(pixels[there][:, 0] - expected).max() <= 1
        assert set(np.unique(labels)) <= {*range(11), UNLABELED}
        checked += int(there.sum())
    assert checked > 10_000


def test_padding_is_unlabeled() -> None:
    frame = make_frame(40, 40)
    for seed in SEEDS:
        pixels, labels = cut(frame, SAME_SIZE, seed)
        padding = labels == UNLABELED
        # Shifts by parts of a pixel may cost or gain one row and one column.
        assert (~padding).sum() == pytest.approx(40 * 40, abs=81)
        away = inside(padding.astype(np.uint8)) & padding
        assert away.any()
        assert not pixels[away].any()


def test_no_padding_where_the_frame_is_large_enough() -> None:
    frame = make_frame(80, 120)
    for seed in SEEDS:
        _, labels = cut(frame, LARGER, seed)
        # Only the border itself may round to outside.
        assert (labels[1:-2, 2:-2] != UNLABELED).all()


def test_half_of_the_frames_are_flipped() -> None:
    labels = np.tile((np.arange(96) // 12).astype(np.uint8), (64, 1))
    pixels = np.stack([labels * 10] * 3, axis=-1)
    frame = LabeledFrame('stripes', pixels, labels)
    flipped = 0
    for seed in range(200):
        out_pixels, out_labels = cut(frame, SAME_SIZE, seed)
        expected = labels[:, ::-1] if out_labels[32, 3] > 3 else labels
        np.testing.assert_array_equal(out_labels, expected)
        np.testing.assert_array_equal(out_pixels[..., 0], expected * 10)
        flipped += int(out_labels[32, 3] > 3)
    assert 70 < flipped < 130


def test_scales_cover_their_range() -> None:
    frame = make_frame(40, 40)
    areas = [
        (cut(frame, PLAIN, seed, (100, 100))[1] != UNLABELED).sum()
        for seed in range(100)
    ]
    sides = np.sqrt(areas) / 40
    assert 0.55 < sides.min() < 0.75
    assert 1.65 < sides.max() < 1.85


def test_colors_vary_and_labels_do_not() -> None:
    pixels, labels = np.full((64, 96, 3), 128, np.uint8), np.full((64, 96), 3, np.uint8)
    gray = LabeledFrame('gray', pixels, labels)
    colors = set()
    for seed in SEEDS:
        pixels, labels = cut(gray, TINTS, seed)
        assert (labels == 3).all()
        # One tint for the whole frame.
        assert (pixels == pixels[0, 0]).all()
        colors.add(tuple(pixels[0, 0].tolist()))
    assert len(colors) == len(SEEDS)
    assert any(len(set(color)) > 1 for color in colors)


def test_random_generator_determines_everything() -> None:
    frame = make_frame(120, 160)
    one = cut(frame, Augmentation(), 5)
    two = cut(frame, Augmentation(), 5)
    other = cut(frame, Augmentation(), 6)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert (one[0] != other[0]).any()


def test_the_frame_is_not_changed() -> None:
    frame = make_frame(120, 160)
    before = frame.pixels.copy(), frame.labels.copy()
    cut(frame, Augmentation(), 0)
    np.testing.assert_array_equal(frame.pixels, before[0])
    np.testing.assert_array_equal(frame.labels, before[1])


def test_flips_have_their_probability() -> None:
    labels = np.tile((np.arange(96) // 12).astype(np.uint8), (64, 1))
    frame = LabeledFrame('stripes', np.stack([labels] * 3, axis=-1), labels)
    for probability, expected in ((0.0, labels), (1.0, labels[:, ::-1])):
        options = SAME_SIZE.model_copy(update={'flip': probability})
        for seed in SEEDS:
            np.testing.assert_array_equal(cut(frame, options, seed)[1], expected)


@pytest.mark.parametrize(
    ('name', 'value', 'expected'),
    [
        ('gain', 0.5, (50, 30, 60)),
        ('offset', 20, (120, 80, 140)),
        # 255 * (value / 255) ** 2
        ('gamma', 2.0, (39, 14, 56)),
        # Halfway to gray: 0.299 R + 0.587 G + 0.114 B.
        ('saturation', 0.5, (90, 70, 100)),
    ],
)
def test_each_change_of_color(
    name: str, value: float, expected: tuple[int, int, int]
) -> None:
    options = SAME_SIZE.model_copy(update={name: (value, value)})
    pixels = np.full((*CROP, 3), (100, 60, 120), np.uint8)
    changed, _ = cut(LabeledFrame('plain', pixels, np.zeros(CROP, np.uint8)), options, 0)
    assert np.abs(changed.astype(int) - expected).max() <= 1


def test_strong_reductions_do_not_alias() -> None:
    """A checkerboard of single pixels is gray from afar."""
    board = (np.indices((200, 200)).sum(0) % 2 * 255).astype(np.uint8)
    frame = LabeledFrame('board', np.stack([board] * 3, -1), np.zeros((200, 200), np.uint8))
    options = Augmentation(scale=(0.4, 0.4), **NO_TINT)
    pixels, labels = cut(frame, options, 0, (64, 64))
    assert (labels == 0).all()
    assert np.abs(pixels[8:-8, 8:-8].astype(int) - 128).max() < 30


# --- classification -------------------------------------------------------------------------


def make_image(height: int, width: int) -> ClassifiedImage:
    """Return an image whose red and green channels are the position."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 250, width)
    pixels[..., 1] = np.linspace(0, 250, height)[:, None]
    return ClassifiedImage('ramp', pixels, 0)


@pytest.mark.parametrize('size', [(100, 160), (300, 90), (20, 30)])
def test_parts_of_images_have_the_requested_area(size: tuple[int, int]) -> None:
    image = make_image(*size)
    options = Augmentation(scale=(0.25, 0.25), flip=0, **NO_TINT)
    for seed in SEEDS:
        pixels = augment_image(image, (64, 64), options, np.random.default_rng(seed))
        assert pixels.shape == (64, 64, 3)
        assert pixels.dtype == np.uint8
        # The ramps show how much of the image is visible.
        seen = [np.ptp(pixels[..., channel].astype(float)) / 250 for channel in (0, 1)]
        assert 0.15 < seen[0] * seen[1] < 0.3


def test_images_are_mirrored() -> None:
    image = make_image(100, 100)
    rising = set()
    for flip in (0.0, 1.0):
        options = Augmentation(scale=(0.5, 0.5), flip=flip, **NO_TINT)
        pixels = augment_image(image, (64, 64), options, np.random.default_rng(0)).astype(int)
        rising.add(bool(pixels[0, -1, 0] > pixels[0, 0, 0]))
        assert pixels[-1, 0, 1] > pixels[0, 0, 1]
    assert rising == {True, False}


@pytest.mark.parametrize(
    ('size', 'crop', 'left_to_right', 'top_to_bottom'),
    [
        # Seven eighths of the shorter side, centered.
        ((160, 160), (64, 64), (1 / 16, 15 / 16), (1 / 16, 15 / 16)),
        ((160, 320), (64, 64), (9 / 32, 23 / 32), (1 / 16, 15 / 16)),
        ((160, 160), (64, 128), (1 / 16, 15 / 16), (9 / 32, 23 / 32)),
    ],
)
def test_center_crop(
    size: tuple[int, int],
    crop: tuple[int, int],
    left_to_right: tuple[float, float],
    top_to_bottom: tuple[float, float],
) -> None:
    pixels = center_crop(make_image(*size).pixels, crop).astype(float) / 250
    assert pixels.shape == (*crop, 3)
    row, column = pixels[0, :, 0], pixels[:, 0, 1]
    assert (row[0], row[-1]) == pytest.approx(left_to_right, abs=0.02)
    assert (column[0], column[-1]) == pytest.approx(top_to_bottom, abs=0.02)


@pytest.mark.parametrize('size', [(120, 160), (40, 400), (40, 40)])
def test_crops_contain_a_pixel_of_a_favored_class(size: tuple[int, int]) -> None:
    frame = make_frame(*size)
    labels = np.zeros(size, np.uint8)
    labels[-20:, -20:] = 9
    frame = LabeledFrame('corner', frame.pixels, labels)
    found, anywhere, flipped = 0, 0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        # Class 8 is not in the frame.
        _, crop, _ = augment(frame, CROP, LARGER, rng, [8, 9])
        found += int((crop == 9).any())
        flipped += int((crop[:, :48] == 9).any())
        _, plain, _ = augment(frame, CROP, LARGER, np.random.default_rng(seed), [8])
        anywhere += int((plain == 9).any())
        np.testing.assert_array_equal(plain, cut(frame, LARGER, seed)[1])
    assert found == 40
    assert flipped
    assert anywhere < 40 or size == (40, 40)


def make_flat_frame(level: int) -> LabeledFrame:
    pixels = np.full((64, 96, 3), level, np.uint8)
    return LabeledFrame('flat', pixels, np.zeros((64, 96), np.uint8))


def test_shade_varies_smoothly_within_its_limits() -> None:
    gray = make_flat_frame(100)
    options = Augmentation(scale=(1, 1), shade=0.5, **NO_TINT)
    means = []
    for seed in SEEDS:
        pixels, labels = cut(gray, options, seed)
        assert not labels.any()
        assert (pixels == pixels[..., :1]).all()
        assert 50 <= pixels.min() < pixels.max() <= 150
        steps = np.abs(np.diff(pixels[..., 0].astype(int), axis=1))
        assert steps.max() <= 20
        means.append(pixels.mean())
    assert max(means) - min(means) > 5


def test_noise_is_independent_and_of_varying_strength() -> None:
    gray = make_flat_frame(100)
    options = Augmentation(scale=(1, 1), noise=20, **NO_TINT)
    deviations = []
    for seed in SEEDS:
        pixels, labels = cut(gray, options, seed)
        assert not labels.any()
        assert pixels.mean() == pytest.approx(100, abs=1)
        deviations.append(pixels.std())
        noise = pixels.reshape(-1, 3) - 100.0
        assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.1
    assert max(deviations) < 20.5
    assert max(deviations) > 2 * min(deviations)
    # Nothing wraps around.
    assert cut(make_flat_frame(255), options, 0)[0].min() > 100


def test_blur_and_compression_change_half_of_the_crops() -> None:
    stripes = make_flat_frame(100)
    stripes.pixels[:, ::2] = 140
    options = {'blur': 2.0, 'jpeg_quality': 15}
    for name, value in options.items():
        changed = []
        for seed in range(40):
            plain, labels = cut(stripes, Augmentation(scale=(1, 1), flip=0, **NO_TINT), seed)
            pixels, same = cut(
                stripes, Augmentation(scale=(1, 1), flip=0, **{name: value}, **NO_TINT), seed
            )
            assert np.array_equal(labels, same)
            if not np.array_equal(pixels, plain):
                changed.append(pixels.std() / plain.std())
                assert pixels.mean() == pytest.approx(plain.mean(), abs=5)
        assert 10 < len(changed) < 30, name
        if name == 'blur':
            assert max(changed) <= 1
            assert min(changed) < 0.1


def test_objects_are_pasted_whole_and_in_place() -> None:
    labels = np.zeros((60, 80), np.uint8)
    ground = LabeledFrame('ground', np.full((60, 80, 3), 7, np.uint8), labels.copy())
    labels[10:20, 10:20], labels[30:50, 40:60], labels[55:57, 5:7] = 9, 9, 9
    donor = LabeledFrame('people', np.full((60, 80, 3), 200, np.uint8), labels)
    options = Paste(classes=('pedestrian',), objects=1)
    seen = set()
    for seed in SEEDS:
        found = paste_objects(ground, donor, [9], options, np.random.default_rng(seed))
        pasted = found.labels == 9
        seen.add(int(pasted.sum()))
        assert (labels[pasted] == 9).all()
        assert (found.pixels[pasted] == 200).all()
        assert (found.pixels[~pasted] == 7).all()
    # One of both, but never the one that is too small.
    assert seen == {100, 400}
    assert not ground.labels.any()
    half = LabeledFrame('small', donor.pixels[::2, ::2], labels[::2, ::2])
    both = Paste(classes=('pedestrian',), objects=9, min_pixels=400)
    found = paste_objects(ground, half, [9], both, np.random.default_rng(0))
    labels[:30] = labels[50:] = 0
    assert np.array_equal(found.labels, labels)
    assert paste_objects(ground, donor, [1], options, np.random.default_rng(0)) is ground
