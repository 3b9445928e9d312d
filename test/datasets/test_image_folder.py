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

"""Tests of images in one folder per class."""

from collections.abc import Callable
from pathlib import Path

from lednet_ros.datasets import DatasetError, ImageFolder
import pytest


@pytest.fixture
def root(tmp_path: Path, make_image_folder: Callable[..., Path]) -> Path:
    return make_image_folder(tmp_path)


def test_classes_are_the_folders(root: Path) -> None:
    folder = ImageFolder(root, 'train')
    assert folder.classes == ('n01', 'n02', 'n03')
    assert len(folder) == 12
    assert [folder.class_id(index) for index in range(12)] == [0] * 4 + [1] * 4 + [2] * 4
    image = folder[5]
    assert image.name == 'n02_1'
    assert image.class_id == 1
    assert image.pixels.shape == (80, 100, 3)
    # In the fixture, the brightest channel stands for the class.
    assert [int(folder[i].pixels.mean((0, 1)).argmax()) for i in (0, 4, 8)] == [0, 1, 2]
    assert folder.source(5) == str(root / 'train' / 'n02' / 'n02_1.JPEG')


def test_problems_are_named(root: Path) -> None:
    with pytest.raises(DatasetError, match='test is not a folder; needed: ROOT/SPLIT/CLASS'):
        ImageFolder(root, 'test')
    (root / 'flat').mkdir()
    (root / 'flat' / 'image.jpg').touch()
    with pytest.raises(DatasetError, match='flat has no folders; needed: one for each class'):
        ImageFolder(root, 'flat')
    (root / 'val' / 'n04').mkdir()
    with pytest.raises(DatasetError, match=r'val/n04 has no images; allowed: \.jpg'):
        ImageFolder(root, 'val')


def test_damaged_image_is_named_when_read(root: Path) -> None:
    (root / 'train' / 'n01' / 'n01_0.JPEG').write_bytes(b'no jpeg')
    folder = ImageFolder(root, 'train')
    assert folder[1].class_id == 0
    with pytest.raises(DatasetError, match=r'n01_0\.JPEG is not a readable image'):
        folder[0]
