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

"""Tests of COCO's layout on a small data set with every kind of object."""

import json
from pathlib import Path
from typing import Any

import cv2
from lednet_ros.cli.main import main
from lednet_ros.datasets import (
    CocoDataset,
    DatasetError,
    find_splits,
    guess_layout,
    open_labeled,
)
from lednet_ros.labels import LabelMap
import numpy as np
import pytest

mask = pytest.importorskip('pycocotools.mask')

LABELS = LabelMap.load('coco_driving')
HEIGHT, WIDTH = 40, 60


def rectangle(x: int, y: int, width: int, height: int) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def runs(x: int, y: int, width: int, height: int, packed: bool) -> dict[str, Any]:
    area = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    area[y:, x:][:height, :width] = 1
    found = mask.encode(area)
    if packed:
        return {'size': [HEIGHT, WIDTH], 'counts': found['counts'].decode()}
    flat = area.ravel(order='F')
    changes = np.flatnonzero(np.diff(np.concatenate(([0], flat, [0])))).tolist()
    edges = [0, *changes, len(flat)]
    return {'size': [HEIGHT, WIDTH], 'counts': np.diff(edges).tolist()}


def entry(image: int, category: int, segmentation: Any, area: int, crowd: int = 0) -> Any:
    return {
        'image_id': image, 'category_id': category, 'segmentation': segmentation, 'area': area,
        'iscrowd': crowd,
    }


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Write three images: with objects, with small objects, and without known classes."""
    annotations = [
        entry(1, 3, [rectangle(10, 10, 30, 20)], 600),
        # In front of the car, and smaller.
        entry(1, 1, [rectangle(20, 10, 5, 20), rectangle(26, 10, 2, 4)], 108),
        entry(1, 13, runs(0, 0, 4, 4, packed=True), 16),
        entry(1, 14, runs(50, 0, 4, 4, packed=False), 16),
        entry(1, 1, runs(0, 30, 60, 10, packed=False), 600, crowd=1),
        # A dog.
        entry(1, 18, [rectangle(0, 0, 59, 39)], 2300),
        entry(2, 1, [rectangle(0, 0, 5, 5)], 25),
        entry(3, 18, [rectangle(0, 0, 50, 30)], 1500),
    ]
    images = [
        {'id': k, 'file_name': f'{k:012}.jpg', 'height': HEIGHT, 'width': WIDTH}
        for k in (3, 1, 2)
    ]
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'val2017').mkdir()
    (tmp_path / 'annotations' / 'instances_val2017.json').write_text(
        json.dumps({'images': images, 'annotations': annotations})
    )
    for image in images:
        pixels = np.full((HEIGHT, WIDTH, 3), image['id'] * 20, np.uint8)
        cv2.imwrite(str(tmp_path / 'val2017' / image['file_name']), pixels)
    return tmp_path


def test_objects_become_labels(coco: Path) -> None:
    dataset = CocoDataset(coco, 'val2017', LABELS, 100)
    assert len(dataset) == 1
    frame = dataset[0]
    assert (frame.name, frame.pixels.shape) == ('000000000001', (HEIGHT, WIDTH, 3))
    names = np.array([*LABELS.names, *[''] * (255 - len(LABELS.names)), 'crowd'])[frame.labels]
    assert names[12, 12] == 'car'
    assert names[12, 22] == names[11, 27] == 'person'
    assert names[20, 27] == 'car'
    assert names[1, 1] == 'stop_sign'
    assert names[1, 51] == 'parking_meter'
    assert names[5, 30] == 'background'
    assert names[35, 5] == 'crowd'
    assert dataset.source(0).endswith('000000000001.jpg')


def test_min_pixels_omits_images_with_small_objects(coco: Path) -> None:
    assert [frame.name[-1] for frame in CocoDataset(coco, 'val2017', LABELS, 0)] == ['1', '2']
    with pytest.raises(DatasetError, match='no image with more than 100000 pixels'):
        CocoDataset(coco, 'val2017', LABELS, 100_000)


def test_images_are_selected_by_name(coco: Path) -> None:
    def names(**choice: str) -> list[str]:
        frames = open_labeled('coco', coco, 'val2017', LABELS, **choice)
        return [frame.name[-1] for frame in frames]

    assert names(include='*2') == ['2']
    assert names(exclude='*2') == ['1']
    with pytest.raises(DatasetError, match=r"include is 'x\*'"):
        names(include='x*')


def test_layout_is_guessed_from_the_files(
    coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guess_layout(coco) == 'coco'
    assert find_splits(coco, 'coco') == ['val2017']
    assert main(['check-data', str(coco)]) == 0
    assert 'val2017: 2 frames (2 of 60x40)' in capsys.readouterr().out


def test_problems_are_named(coco: Path) -> None:
    with pytest.raises(DatasetError, match=r'instances_train2017\.json'):
        CocoDataset(coco, 'train2017', LABELS, 0)
    with pytest.raises(DatasetError, match="'camvid' has no class 'background'"):
        CocoDataset(coco, 'val2017', LabelMap.load('camvid'), 0)
    (coco / 'val2017' / '000000000001.jpg').unlink()
    with pytest.raises(DatasetError, match=r'000000000001\.jpg'):
        CocoDataset(coco, 'val2017', LABELS, 100)[0]
    (coco / 'annotations' / 'instances_val2017.json').write_text('[]')
    with pytest.raises(DatasetError, match='not the objects of COCO'):
        CocoDataset(coco, 'val2017', LABELS, 0)
