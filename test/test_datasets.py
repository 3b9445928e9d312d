# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tests of the data sets."""

from pathlib import Path

import cv2
from lednet_ros.datasets import DatasetError, FolderDataset, synthetic_frames
from lednet_ros.labels import LabelMap, UNLABELED
import numpy as np
import pytest

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
LABELS = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ('images', 'labels'):
        (tmp_path / 'val' / part).mkdir(parents=True)
    for stem in ('b', 'a'):
        cv2.imwrite(str(tmp_path / 'val' / 'images' / f'{stem}.png'), PIXELS[..., ::-1])
        cv2.imwrite(str(tmp_path / 'val' / 'labels' / f'{stem}.png'), LABELS)
    return tmp_path


def load(folder: Path, label_map: str = 'camvid') -> FolderDataset:
    return FolderDataset(folder, 'val', LabelMap.load(label_map))


def test_frames_come_in_order_with_rgb_pixels(folder: Path) -> None:
    dataset = load(folder)
    assert len(dataset) == 2
    assert [frame.name for frame in dataset] == ['a', 'b']
    np.testing.assert_array_equal(dataset[0].pixels, PIXELS)


def test_label_values_are_mapped(folder: Path) -> None:
    expected = np.where(LABELS < 11, LABELS, UNLABELED)
    np.testing.assert_array_equal(load(folder)[0].labels, expected)
    cityscapes = load(folder, 'cityscapes')[1].labels.ravel()
    assert cityscapes[[6, 7, 8, 26, 33, 34]].tolist() == [255, 0, 1, 13, 18, 255]
    assert cityscapes.dtype == np.uint8


def test_other_files_are_no_frames(folder: Path) -> None:
    (folder / 'val' / 'images' / 'notes.txt').write_text('text')
    assert len(load(folder)) == 2


@pytest.mark.parametrize('part', ['images', 'labels'])
def test_missing_folder_is_named(folder: Path, part: str) -> None:
    (folder / 'val' / part).rename(folder / 'elsewhere')
    with pytest.raises(DatasetError, match=rf'val/{part} is not a folder'):
        load(folder)


def test_folder_without_images_is_named(folder: Path) -> None:
    for file in (folder / 'val' / 'images').iterdir():
        file.unlink()
    with pytest.raises(DatasetError, match=r'val/images has no images; allowed: \.jpg'):
        load(folder)


def test_missing_label_image_is_named(folder: Path) -> None:
    (folder / 'val' / 'labels' / 'a.png').unlink()
    with pytest.raises(DatasetError, match=r'1 label images are missing, first: .*labels/a\.png'):
        load(folder)


@pytest.mark.parametrize('part', ['images', 'labels'])
def test_damaged_file_is_named_when_read(folder: Path, part: str) -> None:
    (folder / 'val' / part / 'a.png').write_bytes(b'no png')
    dataset = load(folder)
    assert dataset[1].name == 'b'
    with pytest.raises(DatasetError, match=rf'{part}/a\.png is not a readable'):
        dataset[0]


@pytest.mark.parametrize('labels', [PIXELS, LABELS.astype(np.uint16)])
def test_label_image_of_another_kind_is_named(folder: Path, labels: np.ndarray) -> None:
    cv2.imwrite(str(folder / 'val' / 'labels' / 'a.png'), labels)
    with pytest.raises(DatasetError, match=r'labels/a\.png is not a readable 8-bit image of one'):
        load(folder)[0]


def test_sizes_that_differ_are_named(folder: Path) -> None:
    cv2.imwrite(str(folder / 'val' / 'labels' / 'a.png'), LABELS[:5])
    with pytest.raises(DatasetError, match=r'labels/a\.png is 8x5, its image 8x6'):
        load(folder)[0]


def test_camvid_loads(camvid: Path) -> None:
    dataset = FolderDataset(camvid, 'val', LabelMap.load('camvid'))
    assert len(dataset) == 101
    frame = dataset[0]
    assert frame.pixels.shape == (360, 480, 3)
    assert frame.labels.shape == (360, 480)
    assert set(np.unique(frame.labels)) <= {*range(11), UNLABELED}


def test_synthetic_frames_follow_from_the_seed() -> None:
    first = list(synthetic_frames(2, (64, 96), seed=5))
    again = list(synthetic_frames(2, (64, 96), seed=5))
    other = next(synthetic_frames(1, (64, 96), seed=6))
    assert first[0].pixels.shape == (64, 96, 3)
    assert first[0].labels.shape == (64, 96)
    for one, two in zip(first, again, strict=True):
        assert one.name == two.name
        np.testing.assert_array_equal(one.pixels, two.pixels)
        np.testing.assert_array_equal(one.labels, two.labels)
    assert (first[0].pixels != first[1].pixels).any()
    assert (first[0].pixels != other.pixels).any()


def test_several_frames_of_a_street_are_of_the_same_street() -> None:
    streets = list(synthetic_frames(4, (64, 96), seed=5, frames_per_street=2))
    single = list(synthetic_frames(1, (64, 96), seed=5))
    assert np.array_equal(streets[0].pixels, single[0].pixels)
    assert len({frame.pixels.tobytes() for frame in streets}) == 4
    assert [frame.name for frame in streets] == [f'street_5_{index}' for index in range(4)]
