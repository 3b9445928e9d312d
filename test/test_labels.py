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

"""Tests of the label maps."""

import json
from pathlib import Path
from typing import Any

from lednet_ros.labels import (
    choose_classes,
    LabelMap,
    LabelMapError,
    LEFT_OUT,
    UNLABELED,
)
import numpy as np
import pytest
import yaml

# Official values of cityscapesScripts: label id, color, category; in the order of the train ids.
CITYSCAPES = [
    ('road', 7, (128, 64, 128), 'flat'),
    ('sidewalk', 8, (244, 35, 232), 'flat'),
    ('building', 11, (70, 70, 70), 'construction'),
    ('wall', 12, (102, 102, 156), 'construction'),
    ('fence', 13, (190, 153, 153), 'construction'),
    ('pole', 17, (153, 153, 153), 'object'),
    ('traffic light', 19, (250, 170, 30), 'object'),
    ('traffic sign', 20, (220, 220, 0), 'object'),
    ('vegetation', 21, (107, 142, 35), 'nature'),
    ('terrain', 22, (152, 251, 152), 'nature'),
    ('sky', 23, (70, 130, 180), 'sky'),
    ('person', 24, (220, 20, 60), 'human'),
    ('rider', 25, (255, 0, 0), 'human'),
    ('car', 26, (0, 0, 142), 'vehicle'),
    ('truck', 27, (0, 0, 70), 'vehicle'),
    ('bus', 28, (0, 60, 100), 'vehicle'),
    ('train', 31, (0, 80, 100), 'vehicle'),
    ('motorcycle', 32, (0, 0, 230), 'vehicle'),
    ('bicycle', 33, (119, 11, 32), 'vehicle'),
]


def class_entry(index: int, name: str, **others: Any) -> dict[str, Any]:
    return {'id': index, 'name': name, 'color': [index, 2, 3], **others}


def write(path: Path, classes: Any) -> Path:
    path.write_text(yaml.safe_dump({'name': 'mine', 'classes': classes}), encoding='utf-8')
    return path


def test_cityscapes_is_the_official_map() -> None:
    cityscapes = LabelMap.load('cityscapes')
    assert cityscapes.name == 'cityscapes'
    assert cityscapes.num_classes == 19
    for index, (name, source_id, color, category) in enumerate(CITYSCAPES):
        label = cityscapes.labels[index]
        assert (label.name, label.color, label.category) == (name, color, category)
        assert label.source_ids == (source_id,)
        assert cityscapes.id_of(name) == index


def test_cityscapes_has_seven_categories() -> None:
    cityscapes = LabelMap.load('cityscapes')
    assert cityscapes.categories == (
        'flat', 'construction', 'object', 'nature', 'sky', 'human', 'vehicle'
    )
    assert cityscapes.category_of.tolist() == (
        [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6]
    )


def test_source_values_become_class_ids() -> None:
    table = LabelMap.load('cityscapes').from_source
    assert table.shape == (256,)
    assert table.dtype == np.uint8
    expected = np.full(256, UNLABELED)
    for index, (_, source_id, _, _) in enumerate(CITYSCAPES):
        expected[source_id] = index
    np.testing.assert_array_equal(table, expected)


def test_palette_is_black_for_ids_without_a_class() -> None:
    palette = LabelMap.load('cityscapes').palette
    assert palette.shape == (256, 3)
    assert palette[13].tolist() == [0, 0, 142]
    assert not palette[19:].any()


def test_camvid_is_the_map_of_the_data(camvid: Path) -> None:
    content = json.loads((camvid / 'classes.json').read_text(encoding='utf-8'))
    label_map = LabelMap.load('camvid')
    assert list(label_map.names) == [entry['name'] for entry in content['classes']]
    assert label_map.palette[:11].tolist() == [entry['rgb'] for entry in content['classes']]
    assert label_map.from_source[:12].tolist() == [*range(11), UNLABELED]
    assert content['ignore_index'] == UNLABELED


def test_custom_file(tmp_path: Path) -> None:
    path = write(tmp_path / 'mine.yaml', [
        class_entry(0, 'floor', source_ids=[4, 9]),
        class_entry(1, 'box', category='thing', source_ids=[]),
    ])
    for given in (path, str(path)):
        label_map = LabelMap.load(given)
        assert label_map.name == 'mine'
        assert label_map.names == ('floor', 'box')
        assert label_map.categories == ('floor', 'thing')
        assert np.flatnonzero(label_map.from_source == 0).tolist() == [4, 9]
        assert 1 not in label_map.from_source


def test_defaults_are_id_and_name(tmp_path: Path) -> None:
    label = LabelMap.load(write(tmp_path / 'a.yaml', [class_entry(0, 'floor')])).labels[0]
    assert label.category == 'floor'
    assert label.source_ids == (0,)
    assert label.source_colors == (label.color,)


@pytest.mark.parametrize('name', ['cityscapes', 'camvid'])
def test_round_trip(name: str) -> None:
    label_map = LabelMap.load(name)
    content = json.loads(json.dumps(label_map.to_dict()))
    assert LabelMap.from_dict(content, 'test') == label_map


def test_unknown_class_name_is_named_with_the_known_ones() -> None:
    with pytest.raises(LabelMapError, match=r"unknown class 'cra'.*'camvid'.*car, pedestrian"):
        LabelMap.load('camvid').id_of('cra')


def test_unknown_map_is_named_with_the_known_ones() -> None:
    with pytest.raises(LabelMapError, match=r"'citiscapes'.*camvid, cityscapes"):
        LabelMap.load('citiscapes')


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelMapError, match=r'nothing\.yaml does not exist'):
        LabelMap.load(tmp_path / 'nothing.yaml')


def test_folder_instead_of_a_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / 'folder.yaml'
    folder.mkdir()
    with pytest.raises(LabelMapError, match=r'folder\.yaml'):
        LabelMap.load(folder)


@pytest.mark.parametrize(
    'content', [b'name: [unclosed', b'classes: {a: b: c}', b'\xff\xfe\x00bad', b'!!python/none x'],
)
def test_bad_yaml_is_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'bad.yaml'
    path.write_bytes(content)
    with pytest.raises(LabelMapError) as caught:
        LabelMap.load(path)
    assert 'bad.yaml' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    path, proof = tmp_path / 'hostile.yaml', tmp_path / 'proof'
    path.write_text(f"!!python/object/apply:os.mkdir ['{proof}']")
    with pytest.raises(LabelMapError, match=r'hostile\.yaml'):
        LabelMap.load(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        ('none', "'classes' must be a list of 1 to 255 classes"),
        ([], "'classes' must be a list of 1 to 255 classes"),
        ([class_entry(i, f'c{i}') for i in range(256)], 'a list of 1 to 255'),
        (['road'], 'class 0: a mapping with'),
        ([class_entry(1, 'a')], r'class 0: id is 1; ids must be 0, 1, 2'),
        ([class_entry(0, 'a'), class_entry(2, 'b')], r'class 1: id is 2'),
        ([{'name': 'a', 'color': [1, 2, 3]}], 'class 0: id is None'),
        ([class_entry(0, '')], "class 0: name is ''"),
        ([class_entry(0, 'a') | {'name': 7}], 'class 0: name is 7'),
        ([class_entry(0, 'a') | {'color': [0, 0]}], r"class 0 \('a'\): color is \[0, 0\]"),
        ([class_entry(0, 'a') | {'color': [0, 0, 256]}], r'color is \[0, 0, 256\].*0\.\.255'),
        ([class_entry(0, 'a') | {'color': [0, -1, 0]}], r'color is \[0, -1, 0\]'),
        ([class_entry(0, 'a') | {'color': [0.5, 0, 0]}], r'color is \[0\.5'),
        ([class_entry(0, 'a') | {'color': [True, 0, 0]}], r'color is \[True'),
        ([class_entry(0, 'a') | {'color': 'red'}], "color is 'red'"),
        ([{'id': 0, 'name': 'a'}], 'color is None'),
        ([class_entry(0, 'a', source_ids=[300])], r'source_ids is \[300\]'),
        ([class_entry(0, 'a', source_ids=4)], 'source_ids is 4'),
        ([class_entry(0, 'a', source_colors=3)], 'source_colors is 3; it must be a list of'),
        ([class_entry(0, 'a', source_colors=[[0, 0]])], r'source_colors: color is \[0, 0\]'),
        ([class_entry(0, 'a', colour=[1, 2, 3])], r"unknown keys \['colour'\]"),
        ([class_entry(0, 'a'), class_entry(1, 'a')], "name 'a' is given twice"),
        ([class_entry(0, 'a', source_ids=[1]), class_entry(1, 'b')], 'source id 1 is given twice'),
    ],
)
def test_wrong_content_is_named(tmp_path: Path, classes: Any, message: str) -> None:
    path = write(tmp_path / 'wrong.yaml', classes)
    with pytest.raises(LabelMapError, match=rf'wrong\.yaml: .*{message}'):
        LabelMap.load(path)


@pytest.mark.parametrize(('key', 'value', 'message'), [
    ('unlabeled_ids', 7, 'unlabeled_ids is 7; it must be a list of 0..255'),
    ('unlabeled_ids', [0], 'source id 0 is given twice'),
    ('unlabeled_colors', [[0, 0, -1]], r'unlabeled_colors: color is \[0, 0, -1\]'),
])
def test_wrong_unlabeled_values_are_named(key: str, value: Any, message: str) -> None:
    content = {'classes': [class_entry(0, 'a')], key: value}
    with pytest.raises(LabelMapError, match=f'wrong: {message}'):
        LabelMap.from_dict(content, 'wrong')


def test_unlabeled_values_survive_a_round_trip() -> None:
    content = {
        'name': 'own', 'unlabeled_ids': [0, 7], 'unlabeled_colors': [[1, 1, 1]],
        'classes': [class_entry(0, 'a', source_ids=[3], source_colors=[[2, 2, 2], [3, 3, 3]])],
    }
    label_map = LabelMap.from_dict(content, 'test')
    assert label_map.unlabeled_ids == (0, 7)
    assert LabelMap.from_dict(json.loads(json.dumps(label_map.to_dict())), 'test') == label_map
    # Other colors on the screen are no other colors of the files.
    image = np.array([[[2, 2, 2], [1, 1, 1]]], np.uint8)
    assert label_map.for_color_blind().from_colors(image).tolist() == [[0, 255]]


def test_a_color_of_two_classes_is_no_label() -> None:
    classes = [class_entry(0, 'a', color=[1, 2, 3]), class_entry(1, 'b', color=[1, 2, 3])]
    label_map = LabelMap.from_dict({'name': 'own', 'classes': classes}, 'test')
    with pytest.raises(LabelMapError, match=r'own: color \(1, 2, 3\) is given twice'):
        label_map.from_colors(np.full((2, 2, 3), 1, np.uint8))


@pytest.mark.parametrize('content', ['', 'just text', '[1, 2]', '7'])
def test_file_without_a_mapping_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / 'wrong.yaml'
    path.write_text(content, encoding='utf-8')
    with pytest.raises(LabelMapError, match=r'wrong\.yaml: a mapping'):
        LabelMap.load(path)


def test_255_classes_are_allowed(tmp_path: Path) -> None:
    path = write(tmp_path / 'full.yaml', [class_entry(i, f'c{i}') for i in range(255)])
    assert LabelMap.load(path).num_classes == 255


def test_color_blind_palette_stays_distinguishable() -> None:
    # Machado, Oliveira and Fernandes (2009), table 1, severity 1.0; of linear RGB.
    matrices = {
        'protanopia': [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        'deuteranopia': [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    }

    def closest(colors: np.ndarray, matrix: list[list[float]]) -> float:
        linear = (colors / 255.0) ** 2.2
        seen = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        gaps = np.linalg.norm(seen[:, None] - seen[None], axis=2)
        return float(gaps[~np.eye(len(gaps), dtype=bool)].min())

    for name in ('camvid', 'cityscapes'):
        own = LabelMap.load(name)
        other = own.for_color_blind()
        assert other.names == own.names
        assert len({label.color for label in other.labels}) == own.num_classes
        for matrix in matrices.values():
            before = closest(own.palette[: own.num_classes], matrix)
            after = closest(other.palette[: own.num_classes], matrix)
            assert after > max(before, 0.15)


# --- Merged classes ---------------------------------------------------------------------------


def choose(path: Path, classes: Any) -> LabelMap:
    return choose_classes(LabelMap.load('camvid'), str(write(path / 'mine.yaml', classes)))


def test_classes_of_a_network_are_merged_renumbered_and_left_out(tmp_path: Path) -> None:
    camvid = LabelMap.load('camvid')
    label_map = choose(tmp_path, [
        {'id': 7, 'name': 'ground', 'from': ['road', 'pavement'], 'color': [1, 2, 3]},
        {'id': 0, 'name': 'car', 'min_confidence': 0.5},
    ])
    assert label_map.network is camvid or label_map.network == camvid
    assert label_map.ids == (7, 0)
    assert label_map.id_of('ground') == 7
    assert label_map.groups == ((3, 4), (8,), (0, 1, 2, 5, 6, 7, 9, 10))
    assert label_map.limits == (None, 0.5)
    assert label_map.categories == ('flat', 'vehicle')
    assert label_map.palette[[7, 0]].tolist() == [[1, 2, 3], [64, 0, 128]]
    assert not label_map.palette[1:7].any()
    truth = np.array([[3, 4, 8, 0, 255]], np.uint8)
    assert label_map.from_network(truth).tolist() == [[7, 7, 0, LEFT_OUT, 255]]
    assert camvid.from_network(truth) is truth
    with pytest.raises(LabelMapError, match="ground truth has id 11; label map 'camvid' has 0"):
        label_map.from_network(np.full((1, 1), 11, np.uint8))


@pytest.mark.parametrize('network', ['camvid', 'cityscapes'])
def test_shipped_classes_fit_their_label_maps(network: str) -> None:
    label_map = choose_classes(LabelMap.load(network), f'{network}_navigation')
    assert label_map.name == f'{network}_navigation'
    assert label_map.names == ('drivable', 'walkable', 'vehicle', 'person', 'obstacle')
    assert [label_map.network.names[k] for k in label_map.groups[-1]] == ['sky']
    assert choose_classes(label_map.network, None) is label_map.network


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        ([], "'classes' must be a list of 1 to 254"),
        (['car'], "class 0: a mapping with 'id' and 'name' is needed"),
        ([{'id': 1, 'name': 'car', 'form': ['car']}], r"class 0: unknown keys \['form'\]"),
        ([{'id': 254, 'name': 'car'}], r"class 0 \('car'\): id is 254; it must be 0 to 253"),
        ([{'name': 'car'}], 'id is None; it must be 0 to 253'),
        ([{'id': True, 'name': 'car'}], 'id is True; it must be 0 to 253'),
        ([{'id': 1, 'name': 'van'}], r"class 0 \('van'\): unknown class 'van'.*'camvid' has: sky"),
        ([{'id': 1, 'name': 'a', 'from': []}], r'from is \[\]; it must be a list of classes'),
        ([{'id': 1, 'name': 'a', 'from': 'car'}], "from is 'car'; it must be a list"),
        ([{'id': 1, 'name': 'car', 'color': [1, 2]}], r'color is \[1, 2\]; it must be \[r, g, b'),
        ([{'id': 1, 'name': 'car', 'min_confidence': 2}], 'min_confidence is 2; it must be 0 to'),
        ([{'id': 1, 'name': 'car', 'min_confidence': '1'}], "min_confidence is '1'; it must be"),
        ([{'id': 1, 'name': 'car'}, {'id': 1, 'name': 'sky'}], 'id 1 is given twice'),
        ([{'id': 1, 'name': 'sky'}, {'id': 2, 'name': 'sky'}], "name 'sky' is given twice"),
        (
            [{'id': 1, 'name': 'car'}, {'id': 2, 'name': 'any', 'from': ['sky', 'car']}],
            "class of the network 'car' is given twice",
        ),
    ],
)
def test_files_of_classes_that_do_not_fit(tmp_path: Path, classes: Any, message: str) -> None:
    with pytest.raises(LabelMapError, match=f'mine.yaml: .*{message}'):
        choose(tmp_path, classes)


def test_an_unknown_file_of_classes_is_named_with_the_known_ones() -> None:
    with pytest.raises(LabelMapError, match=r"no file of classes 'nav'.*camvid_navigation, city"):
        choose_classes(LabelMap.load('camvid'), 'nav')
