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

"""Tests of folders of images beside label images."""

from pathlib import Path

import cv2
from lednet_ros.datasets import DatasetError, FolderDataset
from lednet_ros.evaluation.ground_truth import read_label_file
from lednet_ros.labels import LabelMap, UNLABELED
import numpy as np
from PIL import Image
import pytest

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
LABELS = np.resize([*range(11), 255], (6, 8)).astype(np.uint8)


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


def test_label_values_are_mapped(folder: Path, tmp_path: Path) -> None:
    np.testing.assert_array_equal(load(folder)[0].labels, LABELS)
    own = tmp_path / 'own.yaml'
    own.write_text(
        'name: own\nclasses:\n'
        '  - {id: 0, name: low, color: [1, 2, 3], source_ids: [0, 1, 2, 3]}\n'
        '  - {id: 1, name: high, color: [4, 5, 6], source_ids: [4, 5, 6, 7, 8, 9, 10]}\n'
    )
    labels = load(folder, str(own))[1].labels
    expected = np.where(LABELS == UNLABELED, UNLABELED, LABELS > 3)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint8


@pytest.mark.parametrize('mode', ['RGB', 'RGBA'])
def test_colors_of_the_label_map_are_labels(folder: Path, tmp_path: Path, mode: str) -> None:
    own = tmp_path / 'own.yaml'
    own.write_text(
        'name: own\nunlabeled_colors: [[0, 0, 0], [9, 9, 9]]\nclasses:\n'
        '  - {id: 0, name: floor, color: [1, 2, 3]}\n'
        '  - {id: 1, name: box, color: [4, 5, 6], source_colors: [[128, 0, 0], [255, 255, 255]]}\n'
    )
    colors = np.array([[1, 2, 3], [128, 0, 0], [255, 255, 255], [0, 0, 0], [9, 9, 9]], np.uint8)
    expected = np.resize(np.array([0, 1, 1, UNLABELED, UNLABELED], np.uint8), LABELS.shape)
    image = Image.fromarray(np.resize(colors, (*LABELS.shape, 3))).convert(mode)
    image.save(folder / 'val' / 'labels' / 'a.png')
    labels = load(folder, str(own))[0].labels
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint8


def test_values_that_are_unlabeled_are_ignored(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / 'own.yaml'
    own.write_text(
        'unlabeled_ids: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n'
        'classes: [{id: 0, name: box, color: [4, 5, 6], source_ids: [10]}]\n'
    )
    expected = np.where(LABELS == 10, 0, UNLABELED)
    np.testing.assert_array_equal(load(folder, str(own))[0].labels, expected)


def test_unknown_label_values_are_named(folder: Path) -> None:
    labels = LABELS.copy()
    labels[0, :2] = 11, 40
    cv2.imwrite(str(folder / 'val' / 'labels' / 'a.png'), labels)
    with pytest.raises(DatasetError, match=r"a\.png has the values \[11, 40\]; label map 'cam"):
        load(folder)[0]


def test_frames_are_selected_by_name(folder: Path) -> None:
    def names(**choice: str) -> list[str]:
        dataset = FolderDataset(folder, 'val', LabelMap.load('camvid'), **choice)
        return [frame.name for frame in dataset]

    assert names(include='a*') == ['a']
    assert names(exclude='a*') == ['b']
    assert names(include='[ab]', exclude='b') == ['a']
    with pytest.raises(DatasetError, match="no frame of 2 is left; include is 'c', exclude None"):
        names(include='c')


def test_other_files_are_ignored(folder: Path) -> None:
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
    partial = FolderDataset(folder, 'val', LabelMap.load('camvid'), partial=True)
    assert partial[1].name == 'b'
    with pytest.raises(DatasetError, match=r'labels/a\.png is missing; .*images/a\.png has no'):
        partial[0]


def test_label_image_without_image_is_a_problem(folder: Path) -> None:
    assert load(folder).problems == []
    (folder / 'val' / 'images' / 'b.png').unlink()
    dataset = load(folder)
    assert len(dataset) == 1
    (problem,) = dataset.problems
    assert 'labels/b.png has no image in' in problem


def test_source_is_the_image_file(folder: Path) -> None:
    assert load(folder).source(1) == str(folder / 'val' / 'images' / 'b.png')


@pytest.mark.parametrize('part', ['images', 'labels'])
def test_damaged_file_is_named_when_read(folder: Path, part: str) -> None:
    (folder / 'val' / part / 'a.png').write_bytes(b'no png')
    dataset = load(folder)
    assert dataset[1].name == 'b'
    with pytest.raises(DatasetError, match=rf'{part}/a\.png is not a readable'):
        dataset[0]


@pytest.mark.parametrize('bits', [4, 8])
@pytest.mark.parametrize('palette', ['camvid', 'voc', 'gray'])
def test_indices_of_a_palette_are_the_ids(folder: Path, palette: str, bits: int) -> None:
    labels = LABELS if bits == 8 else LABELS % 11
    image = Image.fromarray(labels)
    image.putpalette({
        'camvid': LabelMap.load('camvid').palette.ravel().tolist(),
        'voc': [37 * k % 256 for k in range(768)],
        'gray': [255 - k // 3 for k in range(768)],
    }[palette])
    path = folder / 'val' / 'labels' / 'a.png'
    image.save(path, bits=bits, transparency=0)
    assert path.read_bytes()[24:26] == bytes([bits, 3])
    np.testing.assert_array_equal(load(folder)[0].labels, labels)
    # Ground truth of bags, from files and topics.
    label_map = LabelMap.load('camvid')
    np.testing.assert_array_equal(read_label_file(path, label_map), labels)


@pytest.mark.parametrize(('image', 'complaint'), [
    (Image.fromarray(PIXELS), r': color \(\d+, \d+, \d+\) in row 0, column 0 is not in label map'),
    (Image.fromarray(LABELS.astype(np.uint16)), ' has gray of 16 bits a channel; labels must be'),
    (Image.fromarray(LABELS > 3), ' has gray of 1 bits a channel; labels must be'),
    (Image.merge('LA', [Image.fromarray(LABELS)] * 2), ' has gray and alpha of 8 bits a channel;'),
])
def test_label_image_of_wrong_type_is_named(
    folder: Path, image: Image.Image, complaint: str
) -> None:
    image.save(folder / 'val' / 'labels' / 'a.png')
    with pytest.raises(DatasetError, match=rf'labels/a\.png{complaint}'):
        load(folder)[0]


def test_size_mismatch_is_named(folder: Path) -> None:
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
