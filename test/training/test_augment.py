# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tests of the augmentation: whatever it does, labels stay on their pixels."""

import cv2
from lednet_ros.datasets import LabeledFrame
from lednet_ros.labels import UNLABELED
from lednet_ros.training import augment as module
from lednet_ros.training.augment import augment
import numpy as np
from numpy.typing import NDArray
import pytest

CROP = (64, 96)
SEEDS = range(12)


@pytest.fixture
def plain_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave colors as they are, so that they can be read back."""
    monkeypatch.setattr(module, 'GAIN_RANGE', (1, 1))
    monkeypatch.setattr(module, 'CHANNEL_GAIN_RANGE', (1, 1))
    monkeypatch.setattr(module, 'OFFSET_RANGE', (0, 0))


def make_frame(height: int, width: int) -> LabeledFrame:
    """Give blocks whose red channel is 10 * (label + 1)."""
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


@pytest.mark.usefixtures('plain_colors')
@pytest.mark.parametrize('size', [(120, 160), (200, 300), (60, 60), (40, 400)])
def test_labels_stay_on_their_pixels(size: tuple[int, int]) -> None:
    frame = make_frame(*size)
    checked = 0
    for seed in SEEDS:
        pixels, labels = augment(frame, CROP, np.random.default_rng(seed))
        assert pixels.shape == (*CROP, 3)
        assert labels.shape == CROP
        assert pixels.dtype == labels.dtype == np.uint8
        there = inside(labels) & (labels != UNLABELED)
        expected = 10 * (labels[there].astype(int) + 1)
        assert np.abs(pixels[there][:, 0] - expected).max() <= 1
        assert set(np.unique(labels)) <= {*range(11), UNLABELED}
        checked += int(there.sum())
    assert checked > 10_000


@pytest.mark.usefixtures('plain_colors')
def test_padding_is_unlabeled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'SCALE_RANGE', (1, 1))
    frame = make_frame(40, 40)
    for seed in SEEDS:
        pixels, labels = augment(frame, CROP, np.random.default_rng(seed))
        padding = labels == UNLABELED
        # Shifts by parts of a pixel may cost or gain one row and one column.
        assert (~padding).sum() == pytest.approx(40 * 40, abs=81)
        away = inside(padding.astype(np.uint8)) & padding
        assert away.any()
        assert not pixels[away].any()


@pytest.mark.usefixtures('plain_colors')
def test_no_padding_where_the_frame_is_large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'SCALE_RANGE', (1, 1.8))
    frame = make_frame(80, 120)
    for seed in SEEDS:
        _, labels = augment(frame, CROP, np.random.default_rng(seed))
        # Only the border itself may round to outside.
        assert (labels[1:-2, 2:-2] != UNLABELED).all()


@pytest.mark.usefixtures('plain_colors')
def test_half_of_the_frames_are_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'SCALE_RANGE', (1, 1))
    labels = np.tile((np.arange(96) // 12).astype(np.uint8), (64, 1))
    pixels = np.stack([labels * 10] * 3, axis=-1)
    frame = LabeledFrame('stripes', pixels, labels)
    flipped = 0
    for seed in range(200):
        out_pixels, out_labels = augment(frame, CROP, np.random.default_rng(seed))
        expected = labels[:, ::-1] if out_labels[32, 3] > 3 else labels
        np.testing.assert_array_equal(out_labels, expected)
        np.testing.assert_array_equal(out_pixels[..., 0], expected * 10)
        flipped += int(out_labels[32, 3] > 3)
    assert 70 < flipped < 130


def test_scales_cover_their_range() -> None:
    frame = make_frame(40, 40)
    areas = [
        (augment(frame, (100, 100), np.random.default_rng(seed))[1] != UNLABELED).sum()
        for seed in range(100)
    ]
    sides = np.sqrt(areas) / 40
    assert 0.55 < sides.min() < 0.75
    assert 1.65 < sides.max() < 1.85


def test_colors_vary_and_labels_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'SCALE_RANGE', (1, 1))
    pixels, labels = np.full((64, 96, 3), 128, np.uint8), np.full((64, 96), 3, np.uint8)
    gray = LabeledFrame('gray', pixels, labels)
    colors = set()
    for seed in SEEDS:
        pixels, labels = augment(gray, CROP, np.random.default_rng(seed))
        assert (labels == 3).all()
        # One tint for the whole frame.
        assert (pixels == pixels[0, 0]).all()
        colors.add(tuple(pixels[0, 0].tolist()))
    assert len(colors) == len(SEEDS)
    assert any(len(set(color)) > 1 for color in colors)


def test_the_generator_decides_everything() -> None:
    frame = make_frame(120, 160)
    one = augment(frame, CROP, np.random.default_rng(5))
    two = augment(frame, CROP, np.random.default_rng(5))
    other = augment(frame, CROP, np.random.default_rng(6))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert (one[0] != other[0]).any()


def test_the_frame_is_not_changed() -> None:
    frame = make_frame(120, 160)
    before = frame.pixels.copy(), frame.labels.copy()
    augment(frame, CROP, np.random.default_rng(0))
    np.testing.assert_array_equal(frame.pixels, before[0])
    np.testing.assert_array_equal(frame.labels, before[1])
