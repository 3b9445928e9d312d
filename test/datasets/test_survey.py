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

"""Tests of the statistics of data sets and of recognizing their layouts."""

from collections.abc import Callable
from pathlib import Path

import cv2
from lednet_ros.datasets import (
    DatasetError,
    find_splits,
    FolderDataset,
    guess_layout,
    ImageFolder,
    list_problems,
    survey,
    survey_images,
    SyntheticDataset,
)
from lednet_ros.labels import LabelMap
import numpy as np
import pytest

CAMVID = LabelMap.load('camvid')
MakeDataset = Callable[..., Path]


def test_counts_match_the_frames() -> None:
    dataset = SyntheticDataset(3, (64, 96), 0, CAMVID)
    found = survey(dataset)
    labels = np.stack([dataset[index].labels for index in range(3)])
    assert found.frames == 3
    assert found.sizes == {(64, 96): 3}
    for class_id in range(11):
        assert found.pixels[class_id] == (labels == class_id).sum()
        assert found.present[class_id] == (labels == class_id).any((1, 2)).sum()
    assert found.unlabeled == (labels == 255).sum()
    assert found.problems == []


def test_damaged_files_are_listed_without_stopping(
    tmp_path: Path, make_folder_dataset: MakeDataset
) -> None:
    root = make_folder_dataset(tmp_path, {'train': 5})
    labels = sorted((root / 'train' / 'labels').iterdir())
    image = root / 'train' / 'images' / labels[0].name
    image.write_bytes(b'no png')
    labels[1].unlink()
    cv2.imwrite(str(labels[2]), np.zeros((10, 10), np.uint8))
    cv2.imwrite(str(labels[3]), np.full((64, 96), 99, np.uint8))
    (root / 'train' / 'labels' / 'alone.png').touch()
    found = survey(FolderDataset(root, 'train', CAMVID, partial=True))
    assert found.frames == 5
    assert found.sizes == {(64, 96): 1}
    assert found.pixels.sum() + found.unlabeled == 64 * 96
    expected = (image, labels[1], labels[2], labels[3], 'alone.png')
    assert len(found.problems) == 5
    for file, problem in zip(expected, found.problems, strict=True):
        assert str(file) in problem


def test_classified_images(tmp_path: Path, make_image_folder: MakeDataset) -> None:
    root = make_image_folder(tmp_path)
    damaged = root / 'train' / 'n02' / 'n02_3.JPEG'
    damaged.write_bytes(b'')
    found = survey_images(ImageFolder(root, 'train'))
    assert found.images == 12
    assert found.per_class == {'n01': 4, 'n02': 4, 'n03': 4}
    (problem,) = found.problems
    assert str(damaged) in problem


def test_problems_are_listed_briefly() -> None:
    assert list_problems([]) == 'no problems'
    assert list_problems(['a']) == '1 problem:\n    a'
    lines = list_problems([f'file {index}' for index in range(23)]).splitlines()
    assert lines[0] == '23 problems:'
    assert len(lines) == 22
    assert lines[-1].strip() == 'and 3 more'


def test_layouts_are_distinguished(
    tmp_path: Path,
    make_folder_dataset: MakeDataset,
    make_cityscapes: MakeDataset,
    make_image_folder: MakeDataset,
) -> None:
    folder = make_folder_dataset(tmp_path / 'folder', {'train': 1, 'val': 1})
    cityscapes = make_cityscapes(
        tmp_path / 'cityscapes', {'val': {'ulm': 1}, 'train_extra': {'erlangen': 1}}
    )
    images = make_image_folder(tmp_path / 'images')
    (folder / 'notes').mkdir()
    assert guess_layout(folder) == 'folder'
    assert guess_layout(cityscapes) == 'cityscapes'
    assert guess_layout(images) == 'image_folder'
    assert guess_layout(tmp_path / 'nothing') == 'folder'
    assert find_splits(folder, 'folder') == ['train', 'val']
    assert find_splits(cityscapes, 'cityscapes') == ['val']
    assert find_splits(cityscapes, 'cityscapes', 'gtCoarse') == ['train_extra', 'val']
    assert find_splits(images, 'image_folder') == ['train', 'val']


@pytest.mark.parametrize(
    ('layout', 'needed'),
    [
        ('folder', 'ROOT/SPLIT/images, labels'),
        ('cityscapes', 'ROOT/leftImg8bit/SPLIT, ROOT/gtFine/SPLIT'),
        ('coco', 'ROOT/SPLIT, ROOT/annotations/instances_SPLIT.json'),
        ('image_folder', 'ROOT/SPLIT/CLASS'),
    ],
)
def test_folder_without_splits_is_named(tmp_path: Path, layout: str, needed: str) -> None:
    with pytest.raises(DatasetError, match=f"no splits of layout '{layout}'; needed: {needed}"):
        find_splits(tmp_path, layout)
    with pytest.raises(DatasetError, match='nothing has no splits'):
        find_splits(tmp_path / 'nothing', layout)
