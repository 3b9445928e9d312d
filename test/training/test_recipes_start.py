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

"""Every shipped recipe runs on a miniature data set with the layout of the real one."""

from collections.abc import Callable
import csv
import json
from pathlib import Path
import sys
from types import ModuleType
from typing import Any

import cv2
from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.datasets import synthetic_frames
from lednet_ros.training.loop import train
from lednet_ros.training.recipe import load_recipe
import numpy as np
import pytest
from torch import nn

MakeDataset = Callable[..., Path]
# One step of two small crops in each epoch; all else is as in the shipped file.
SMALL = ['input_size=[64, 96]', 'workers=0']
STREETS = ['frames=2', 'per_epoch=2']


def shrink(name: str) -> list[str]:
    small = {'epochs': 1, 'batch_size': 2, 'crop': [64, 96]}
    changes = [f'{key}={value}' for key, value in small.items()]
    stages = range(len(load_recipe(name).stages))
    return SMALL + [f'stages.{n}.{change}' for n in stages for change in changes]


def start(
    name: str, settings: list[str], root: Path | None, output: Path
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Run a recipe; return the metrics and the history."""
    metrics = train(load_recipe(name, [*shrink(name), *settings]), root, output)
    with (output / 'history.csv').open(encoding='utf-8', newline='') as file:
        history = list(csv.DictReader(file))
    assert all(np.isfinite(float(row['loss'])) for row in history)
    return metrics, history


@pytest.fixture
def cityscapes(tmp_path: Path, make_cityscapes: MakeDataset) -> Path:
    # The real frames have twice the size of the crops.
    counts = {
        'train': {'aachen': 1, 'bochum': 1}, 'val': {'ulm': 1}, 'train_extra': {'erlangen': 2}
    }
    return make_cityscapes(tmp_path / 'cityscapes', counts, (128, 192))


@pytest.mark.parametrize(
    ('recipe', 'network'),
    [
        ('camvid', 'lednet'),
        ('camvid_shufflenet', 'shufflenet_v2_dpc'),
        ('camvid_shufflenet', 'shufflenet_v2_deeplab'),
    ],
)
def test_camvid(
    tmp_path: Path, make_folder_dataset: MakeDataset, recipe: str, network: str
) -> None:
    root = make_folder_dataset(tmp_path / 'camvid', {'train': 3, 'val': 1})
    streets = [f'train.1.{change}' for change in STREETS] + ['validation.synthetic.frames=1']
    settings = [*streets, f'network={network}']
    stages = len(load_recipe(recipe).stages)
    # The last one trains on val, too.
    settings += [f'stages.{stages - 1}.train.2.{change}' for change in STREETS]
    metrics, history = start(recipe, settings, root, tmp_path / 'out')
    assert set(metrics) == {'val', 'synthetic'}
    assert metrics['val']['frames_trained_on'] == 1
    assert [row['stage'] for row in history] == [str(stage) for stage in range(stages)]
    checkpoint = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors')
    assert checkpoint.network == network
    assert checkpoint.mean == ((0.485, 0.456, 0.406) if network == 'lednet' else (0.5, 0.5, 0.5))
    assert checkpoint.metrics['val'] == metrics['val']
    assert checkpoint.training['data'] == (
        '3 frames of camvid train, 1 frames of camvid val, '
        '2 an epoch of 2 frames of synthetic streets'
    )


def test_camvid_distill(
    tmp_path: Path, make_folder_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder_dataset(tmp_path / 'camvid', {'train': 3, 'val': 1})
    module = ModuleType('cityscapes_teacher')
    # As many outputs as EdgeNets' networks: 19 classes and what is none of them.
    monkeypatch.setattr(module, 'load', lambda: nn.Conv2d(3, 20, 1), raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    kitti = tmp_path / 'kitti'
    kitti.mkdir()
    for name in ('a.png', 'b.png'):
        assert cv2.imwrite(str(kitti / name), np.full((100, 160, 3), 90, np.uint8))
    settings = [
        'initial=lednet', 'teacher.source=cityscapes_teacher:load',
        f'unlabeled.0.path={kitti}', 'unlabeled.0.per_epoch=2', 'validation.synthetic.frames=1',
        *(f'train.2.{change}' for change in STREETS),
    ]
    metrics, history = start('camvid_distill', settings, root, tmp_path / 'out')
    assert metrics['val']['frames_trained_on'] == 1
    assert 'val before' in metrics
    assert [row['stage'] for row in history] == ['0']
    training = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors').training
    assert training['data'].endswith('2 an epoch of 2 unlabeled frames of kitti')
    assert training['teacher'] == {'source': 'cityscapes_teacher:load'}
    assert 'KITTI' in training['recipe']['terms']
    assert training['initial']['recipe']['network'] == 'lednet'


def test_camvid_without_a_drive(tmp_path: Path, make_folder_dataset: MakeDataset) -> None:
    """Try the change in the recipe's comment, which measures on frames of another place."""
    root = make_folder_dataset(tmp_path / 'camvid', {'train': 4, 'val': 1})
    rename_two(root)
    changes = [
        'train.0.exclude=0001TP*',
        'validation.unseen_drive={layout: folder, split: train, include: 0001TP*}',
        'validation.synthetic.frames=1',
        *(f'train.1.{change}' for change in STREETS),
        'stages.6.epochs=0',
    ]
    metrics, _ = start('camvid', changes, root, tmp_path / 'out')
    assert metrics['unseen_drive']['frames'] == 2
    data = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors').training['data']
    assert data.startswith('2 frames of camvid train without 0001TP*')


def test_ablation(tmp_path: Path, make_folder_dataset: MakeDataset) -> None:
    root = make_folder_dataset(tmp_path / 'camvid', {'train': 4, 'val': 1})
    rename_two(root)
    metrics, _ = start('ablation', [], root, tmp_path / 'out')
    assert {name: found['frames'] for name, found in metrics.items()} == {
        'val': 1, 'unseen_drive': 2
    }


def rename_two(root: Path) -> None:
    for part in ('images', 'labels'):
        for path in sorted((root / 'train' / part).iterdir())[:2]:
            path.rename(path.with_name(f'0001TP_{path.name}'))


def test_synthetic(tmp_path: Path) -> None:
    streets = [f'train.0.{change}' for change in STREETS] + ['validation.synthetic.frames=1']
    metrics, _ = start('synthetic', streets, None, tmp_path / 'out')
    assert metrics['synthetic']['frames'] == 1


def test_finetune_custom_classes(
    tmp_path: Path, make_folder_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder_dataset(tmp_path / 'mine', {'train': 2, 'val': 1})
    label_map = tmp_path / 'my_classes.yaml'
    label_map.write_text(
        'name: mine\nclasses:\n'
        '  - {id: 0, name: ground, color: [128, 64, 128], source_ids: [3, 4]}\n'
        '  - {id: 1, name: else, color: [0, 0, 142], source_ids: [0, 1, 2, 5, 6, 7, 8, 9, 10]}\n'
    )
    metrics, _ = start('finetune', [f'label_map={label_map}'], root, tmp_path / 'out')
    assert list(metrics['val']['iou']) == ['ground', 'else']
    printed = capsys.readouterr().out
    assert 'lednet: ' in printed
    assert 'are reinitialized: encoder.output_conv.weight' in printed
    checkpoint = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors')
    assert checkpoint.label_map.names == ('ground', 'else')
    # The training metadata of the weights to start from are kept.
    assert checkpoint.training['initial'] == load_checkpoint('lednet').training


def test_finetune_the_shipped_classes_keeps_the_heads(
    tmp_path: Path, make_folder_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder_dataset(tmp_path / 'mine', {'train': 2, 'val': 1})
    start('finetune', [], root, tmp_path / 'out')
    assert 'reinitialized' not in capsys.readouterr().out


def test_cityscapes_fine(tmp_path: Path, cityscapes: Path) -> None:
    metrics, history = start('cityscapes', ['stages.0.epochs=0'], cityscapes, tmp_path / 'out')
    assert [row['stage'] for row in history] == ['1', '2']
    assert len(metrics['val']['iou']) == 19
    assert load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors').training['data'] == (
        '2 frames of cityscapes train'
    )


@pytest.mark.parametrize(
    ('recipe', 'stages'), [('cityscapes', '012'), ('cityscapes_shufflenet', '01')]
)
def test_cityscapes_with_coarse_annotations_first(
    tmp_path: Path, cityscapes: Path, recipe: str, stages: str
) -> None:
    _, history = start(recipe, [], cityscapes, tmp_path / 'out')
    assert [row['stage'] for row in history] == list(stages)
    if recipe == 'cityscapes_shufflenet':
        # The paper's slow start: a tenth of the schedule's rate.
        assert {float(row['rate']) for row in history} == {1e-4}


@pytest.mark.parametrize(
    ('recipe', 'network'),
    [('cityscapes', 'lednet'), ('cityscapes_shufflenet', 'shufflenet_v2_deeplab')],
)
def test_imagenet_encoder_and_segmentation_from_it(
    tmp_path: Path, cityscapes: Path, make_image_folder: MakeDataset, recipe: str, network: str
) -> None:
    images = make_image_folder(tmp_path / 'imagenet')
    settings = ['input_size=[64, 64]', 'stages.0.crop=[64, 64]', f'network={network}']
    metrics, _ = start('imagenet_encoder', settings, images, tmp_path / 'encoder')
    assert metrics['val']['images'] == 6
    assert 0 <= metrics['val']['top1'] <= metrics['val']['top5'] == 1
    encoder = tmp_path / 'encoder' / 'encoder.safetensors'
    settings = ['stages.0.epochs=0', f'initial={encoder}', f'network={network}']
    start(recipe, settings, cityscapes, tmp_path / 'out')
    checkpoint = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors')
    assert checkpoint.training['initial']['data'] == '12 images of 3 classes'


def test_coco_and_cityscapes_from_it(
    tmp_path: Path, cityscapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip('pycocotools')
    coco = tmp_path / 'coco'
    (coco / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        names = [f'{number}.jpg' for number in range(2)]
        content = {
            'images': [
                {'id': number, 'file_name': name, 'height': 80, 'width': 100}
                for number, name in enumerate(names)
            ],
            'annotations': [
                {
                    'image_id': number, 'category_id': 3, 'area': 2400, 'iscrowd': 0,
                    'segmentation': [[10, 10, 70, 10, 70, 50, 10, 50]],
                }
                for number in range(2)
            ],
        }
        objects = coco / 'annotations' / f'instances_{split}.json'
        objects.write_text(json.dumps(content), encoding='utf-8')
        (coco / split).mkdir()
        for name in names:
            assert cv2.imwrite(str(coco / split / name), np.full((80, 100, 3), 90, np.uint8))
    metrics, _ = start('coco_pretrain', [], coco, tmp_path / 'pretrained')
    assert metrics['val']['frames'] == 2
    assert len(metrics['val']['iou']) == 10
    pretrained = tmp_path / 'pretrained' / 'checkpoint.safetensors'
    settings = [f'initial={pretrained}', 'stages.0.epochs=0']
    start('cityscapes_shufflenet', settings, cityscapes, tmp_path / 'out')
    assert 'reinitialized: classifier.weight' in capsys.readouterr().out
    checkpoint = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors')
    assert checkpoint.training['initial']['data'] == '2 frames of coco train2017'


def test_damaged_data_is_reported_before_a_recipe_starts(tmp_path: Path, cityscapes: Path) -> None:
    labels = next((cityscapes / 'gtFine').glob('train/*/*.png'))
    assert cv2.imwrite(str(labels), np.full((128, 192), 77, np.uint8))
    with pytest.raises(RuntimeError, match=rf'{labels} has the values \[77\]'):
        start('cityscapes', ['stages.0.epochs=0'], cityscapes, tmp_path / 'out')
    assert not (tmp_path / 'out' / 'checkpoint.safetensors').exists()


def test_training_and_validation_streets_differ() -> None:
    for name in ('camvid', 'synthetic'):
        recipe = load_recipe(name)
        train_seeds = {source.seed for source in recipe.train if source.layout == 'synthetic'}
        assert recipe.validation['synthetic'].seed not in train_seeds
    one = next(synthetic_frames(1, (64, 96), 0))
    other = next(synthetic_frames(1, (64, 96), 1048576))
    assert (one.pixels != other.pixels).any()
