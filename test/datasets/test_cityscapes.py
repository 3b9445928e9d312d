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

"""Tests of Cityscapes in its official folders."""

from collections.abc import Callable
from pathlib import Path

import cv2
from lednet_ros.datasets import CityscapesDataset, DatasetError
from lednet_ros.labels import LabelMap
import numpy as np
import pytest

CITYSCAPES = LabelMap.load('cityscapes')


@pytest.fixture
def root(tmp_path: Path, make_cityscapes: Callable[..., Path]) -> Path:
    counts = {'train': {'aachen': 2, 'bochum': 1}, 'train_extra': {'erlangen': 1}}
    return make_cityscapes(tmp_path, counts)


def label_file(root: Path, city: str = 'aachen', kind: str = 'gtFine') -> Path:
    return root / kind / 'train' / city / f'{city}_000000_000019_{kind}_labelIds.png'


def test_frames_of_all_cities_in_order(root: Path) -> None:
    dataset = CityscapesDataset(root, 'train', CITYSCAPES)
    assert [frame.name for frame in dataset] == [
        'aachen_000000_000019', 'aachen_000001_000019', 'bochum_000000_000019'
    ]
    assert dataset.problems == []
    assert dataset.source(2).endswith('train/bochum/bochum_000000_000019_leftImg8bit.png')


def test_label_ids_are_mapped_without_conversion(root: Path) -> None:
    ids = np.resize(range(34), (64, 96)).astype(np.uint8)
    # A license plate, id -1.
    ids[0, 0] = 255
    cv2.imwrite(str(label_file(root)), ids)
    labels = CityscapesDataset(root, 'train', CITYSCAPES)[0].labels
    # Cordts et al., labels.py of the benchmark's scripts: id to trainId.
    train_ids = {
        7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11,
        25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
    }
    expected = np.array([train_ids.get(int(value), 255) for value in ids.ravel()])
    np.testing.assert_array_equal(labels.ravel(), expected)


def test_coarse_annotations(root: Path) -> None:
    extra = CityscapesDataset(root, 'train_extra', CITYSCAPES, 'gtCoarse')
    assert [frame.name for frame in extra] == ['erlangen_000000_000019']
    assert len(CityscapesDataset(root, 'train', CITYSCAPES, 'gtCoarse')) == 3
    with pytest.raises(DatasetError, match='gtFine/train_extra is not a folder; needed: ROOT'):
        CityscapesDataset(root, 'train_extra', CITYSCAPES)
    with pytest.raises(DatasetError, match="annotations are 'fine'; allowed: gtFine, gtCoarse"):
        CityscapesDataset(root, 'train', CITYSCAPES, 'fine')


def test_frames_are_selected_by_name(root: Path) -> None:
    dataset = CityscapesDataset(root, 'train', CITYSCAPES, exclude='aachen*')
    assert [frame.name for frame in dataset] == ['bochum_000000_000019']


def test_missing_files_are_named(root: Path) -> None:
    label_file(root).unlink()
    with pytest.raises(DatasetError, match=r'1 label images are missing, first: .*aachen_000000'):
        CityscapesDataset(root, 'train', CITYSCAPES)
    partial = CityscapesDataset(root, 'train', CITYSCAPES, partial=True)
    assert len(partial) == 3
    with pytest.raises(DatasetError, match=r'labelIds\.png is missing'):
        partial[0]
    image = root / 'leftImg8bit' / 'train' / 'bochum' / 'bochum_000000_000019_leftImg8bit.png'
    image.unlink()
    (problem,) = CityscapesDataset(root, 'train', CITYSCAPES, partial=True).problems
    assert problem.startswith(f'{label_file(root, "bochum")} has no image')
    with pytest.raises(DatasetError, match='leftImg8bit/val is not a folder'):
        CityscapesDataset(root, 'val', CITYSCAPES)


def test_split_without_images_is_named(root: Path) -> None:
    for kind in ('leftImg8bit', 'gtFine'):
        (root / kind / 'val').mkdir()
    with pytest.raises(DatasetError, match=r'val has no CITY/\*_leftImg8bit\.png'):
        CityscapesDataset(root, 'val', CITYSCAPES)


def test_unknown_label_ids_are_named(root: Path) -> None:
    cv2.imwrite(str(label_file(root)), np.full((64, 96), 40, np.uint8))
    with pytest.raises(DatasetError, match=r"has the values \[40\]; label map 'cityscapes' knows"):
        CityscapesDataset(root, 'train', CITYSCAPES)[0]


def test_instances(root: Path) -> None:
    dataset = CityscapesDataset(root, 'train', CITYSCAPES)
    with pytest.raises(DatasetError, match=r'gtFine_instanceIds\.png is not a readable image'):
        dataset.instances(0)
    ids = np.full((64, 96), 26_001, np.uint16)
    for index in range(3):
        name = Path(dataset.source(index)).name.replace('leftImg8bit', 'gtFine_instanceIds')
        cv2.imwrite(str(root / 'gtFine' / 'train' / name.partition('_')[0] / name), ids)
    np.testing.assert_array_equal(dataset.instances(2), ids)
