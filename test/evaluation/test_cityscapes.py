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

"""Tests of the Cityscapes metrics and submission, against the benchmark's own scripts."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
import cv2
from lednet_ros.checkpoint import Checkpoint, save_checkpoint
from lednet_ros.cli.main import main
from lednet_ros.datasets import CityscapesDataset, DatasetError
from lednet_ros.evaluation.cityscapes import (
    AVERAGE_INSTANCE_PIXELS,
    InstanceCounts,
    UnlabeledFrames,
    write_submission,
)
from lednet_ros.evaluation.dataset import evaluate
from lednet_ros.evaluation.metrics import ConfusionMatrix, mean_defined
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.models import build_network
import numpy as np
from numpy.typing import NDArray
import pytest
from torch import nn, Tensor

MakeWeights = Callable[[nn.Module, int, float], dict[str, Tensor]]

CITYSCAPES = LabelMap.load('cityscapes')
# Not the input size of the tests' checkpoints.
SIZE = (80, 120)
FRAMES = (
    'aachen_000000_000019', 'aachen_000001_000019', 'zurich_000000_000019', 'zurich_000121_000019'
)
# Label ids that occur: void, ignored classes, and all evaluated ones but wall, bus and train.
USED = (0, 1, 4, 7, 8, 9, 11, 13, 14, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 29, 30, 32, 33)
WITH_INSTANCES = (24, 25, 26, 27, 29, 30, 32, 33)


def draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Draw a label image with its instances: boxes over boxes, some of them groups."""
    labels = np.full(SIZE, 7, np.uint8)
    instances = np.full(SIZE, 7, np.uint16)
    numbers = dict.fromkeys(WITH_INSTANCES, 0)
    for _ in range(60):
        label = int(rng.choice(USED))
        top, left = (int(rng.integers(0, side - 4)) for side in SIZE)
        box = np.s_[top:top + int(rng.integers(2, 30)), left:left + int(rng.integers(2, 40))]
        labels[box] = label
        instances[box] = label
        if label in numbers and rng.random() > 0.2:
            instances[box] = 1000 * label + numbers[label]
            numbers[label] += 1
    return labels, instances


def guess(rng: np.random.Generator, truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Predict class ids with errors of all kinds: wrong, unlabeled, where nothing is labeled."""
    predicted = CITYSCAPES.from_source[np.roll(truth, 2, axis=1)]
    noise = rng.integers(0, 18, SIZE, np.uint8)
    predicted = np.where(rng.random(SIZE) < 0.2, noise, predicted)
    return np.where(rng.random(SIZE) < 0.05, 255, predicted).astype(np.uint8)


@pytest.fixture
def mini_set(tmp_path: Path) -> Path:
    """Four frames of two cities in the official layout, with instances."""
    root = tmp_path / 'mini'
    rng = np.random.default_rng(1)
    for name in FRAMES:
        city = name.partition('_')[0]
        labels, instances = draw(rng)
        images, truth = root / 'leftImg8bit' / 'val' / city, root / 'gtFine' / 'val' / city
        for folder in (images, truth):
            folder.mkdir(parents=True, exist_ok=True)
        colors = CITYSCAPES.palette[CITYSCAPES.from_source[labels]]
        pixels = np.clip(colors + rng.normal(0, 20, colors.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(images / f'{name}_leftImg8bit.png'), pixels)
        cv2.imwrite(str(truth / f'{name}_gtFine_labelIds.png'), labels)
        cv2.imwrite(str(truth / f'{name}_gtFine_instanceIds.png'), instances)
    return root


@pytest.fixture
def weights(small_content: Checkpoint, make_weights: MakeWeights, tmp_path: Path) -> Path:
    """Write a checkpoint with the classes of Cityscapes."""
    state_dict = make_weights(build_network('lednet', 19), 0, 6.0)
    path = tmp_path / 'cityscapes.safetensors'
    save_checkpoint(replace(small_content, label_map=CITYSCAPES, state_dict=state_dict), path)
    return path


def lednet_evaluate(root: Path, weights: Path, *arguments: str | Path) -> dict[str, Any]:
    """Run the command; return the metrics that it writes."""
    file = weights.with_name('figures.json')
    options = [root, '--checkpoint', weights, '--device', 'cpu', '--json', file, '--overwrite']
    assert main(['evaluate', *map(str, [*options, *arguments])]) == 0
    figures: dict[str, Any] = json.loads(file.read_text(encoding='utf-8'))
    return figures


def undefined_as_none(values: dict[str, float], names: Sequence[str]) -> dict[str, float | None]:
    return {name: None if np.isnan(values[name]) else values[name] for name in names}


def official_figures(truth: Path, submission: Path) -> dict[str, Any]:
    """Run the benchmark's script on label images below two folders."""
    arguments = Namespace(**vars(official.args))
    arguments.predictionPath = str(submission)
    arguments.quiet = True
    arguments.JSONOutput = False
    labels = [str(path) for path in sorted(truth.rglob('*_gtFine_labelIds.png'))]
    found = [official.getPrediction(arguments, path) for path in labels]
    figures: dict[str, Any] = official.evaluateImgLists(found, labels, arguments)
    return figures


def assert_same(
    ours: NDArray[np.float64], theirs: dict[str, float], names: tuple[str, ...]
) -> None:
    """Compare exactly; values that only the script has must be undefined."""
    np.testing.assert_array_equal(ours, [theirs[name] for name in names])
    assert all(np.isnan(value) for name, value in theirs.items() if name not in names)


# The script uses a function that NumPy deprecates.
@pytest.mark.filterwarnings('ignore:`in1d` is deprecated')
def test_metrics_match_the_official_script(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    confusion, counts = ConfusionMatrix(CITYSCAPES), InstanceCounts(CITYSCAPES)
    for name in FRAMES:
        labels, instances = draw(rng)
        predicted = guess(rng, labels)
        cv2.imwrite(str(tmp_path / f'{name}_gtFine_labelIds.png'), labels)
        cv2.imwrite(str(tmp_path / f'{name}_gtFine_instanceIds.png'), instances)
        confusion.update(CITYSCAPES.from_source[labels], predicted)
        counts.update(instances.astype(np.int32), predicted)
        write_submission(tmp_path / 'results', name, predicted, CITYSCAPES)
    theirs = official_figures(tmp_path, tmp_path / 'results')
    iiou, category_iiou = counts.iiou(confusion), counts.category_iiou(confusion)
    for ours, figures, average, names in (
        (confusion.iou(), 'classScores', 'Classes', CITYSCAPES.names),
        (iiou, 'classInstScores', 'InstClasses', CITYSCAPES.names),
        (confusion.category_iou(), 'categoryScores', 'Categories', CITYSCAPES.categories),
        (category_iiou, 'categoryInstScores', 'InstCategories', CITYSCAPES.categories),
    ):
        assert_same(ours, theirs[figures], names)
        assert mean_defined(ours) == theirs[f'averageScore{average}']
    # The set has undefined, zero and ordinary values.
    defined = dict(zip(CITYSCAPES.names, iiou, strict=True))
    assert np.isnan(defined['road'])
    assert defined['bus'] == 0
    assert 0.1 < defined['person'] < 0.9
    assert defined['person'] != confusion.iou()[CITYSCAPES.id_of('person')]
    assert np.isnan(category_iiou[CITYSCAPES.categories.index('flat')])


@pytest.mark.filterwarnings('ignore:`in1d` is deprecated')
@pytest.mark.parametrize('views', [(), ('--scales', '1,1.25', '--flip')])
def test_the_command_agrees_with_the_official_script(
    mini_set: Path, weights: Path, tmp_path: Path, views: tuple[str, ...]
) -> None:
    results = tmp_path / 'results'
    ours = lednet_evaluate(mini_set, weights, '--submission', results, *views)
    assert [path.name for path in sorted(results.iterdir())] == [
        f'{name}_leftImg8bit.png' for name in FRAMES
    ]
    theirs = official_figures(mini_set, results)
    for name, average, their_scores, their_average, names in (
        ('iou', 'miou', 'classScores', 'Classes', CITYSCAPES.names),
        ('iiou', 'instance_miou', 'classInstScores', 'InstClasses', CITYSCAPES.names),
        ('category_iou', 'category_miou', 'categoryScores', 'Categories', CITYSCAPES.categories),
        (
            'category_iiou', 'category_instance_miou', 'categoryInstScores', 'InstCategories',
            CITYSCAPES.categories,
        ),
    ):
        assert ours[name] == undefined_as_none(theirs[their_scores], names)
        assert ours[average] == theirs[f'averageScore{their_average}'] > 0


def test_table_has_instance_weighted_metrics(
    mini_set: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = lednet_evaluate(mini_set, weights)

    def row(name: str, *values: float | None) -> list[str]:
        return [*name.split(), *('-' if v is None else f'{v:.4g}' for v in values)]

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    start = lines.index(['class', 'IoU', 'iIoU']) + 2
    expected = [
        *(row(name, figures['iou'][name], figures['iiou'][name]) for name in CITYSCAPES.names),
        row('mIoU', figures['miou'], figures['instance_miou']),
        *(
            row(name, figures['category_iou'][name], figures['category_iiou'][name])
            for name in CITYSCAPES.categories
        ),
        row('category mIoU', figures['category_miou'], figures['category_instance_miou']),
        row('pixel accuracy', figures['pixel_accuracy'], None),
    ]
    assert lines[start : start + len(expected)] == expected


def test_weighted_metrics_need_instance_images(
    mini_set: Path, weights: Path
) -> None:
    expected = lednet_evaluate(mini_set, weights)
    for path in mini_set.rglob('*_instanceIds.png'):
        path.unlink()
    figures = lednet_evaluate(mini_set, weights)
    left_out = {'instance_miou', 'category_instance_miou', 'iiou', 'category_iiou'}
    assert expected.keys() - figures.keys() == left_out
    assert figures['iou'] == expected['iou']


def test_a_missing_instance_image_is_named(mini_set: Path, weights: Path) -> None:
    dataset = CityscapesDataset(mini_set, 'val', CITYSCAPES)
    next(mini_set.rglob('zurich_000121_*_instanceIds.png')).unlink()
    result = evaluate(Segmenter.from_checkpoint(weights, device='cpu'), dataset)
    assert result.images == 3
    (problem,) = result.problems
    assert 'zurich_000121_000019_gtFine_instanceIds' in problem


@pytest.mark.parametrize('truth', ['none', 'dummy'])
def test_a_split_without_ground_truth_gets_a_submission(
    mini_set: Path, weights: Path, tmp_path: Path, truth: str
) -> None:
    expected = tmp_path / 'expected'
    lednet_evaluate(mini_set, weights, '--submission', expected)
    (mini_set / 'leftImg8bit' / 'val').rename(mini_set / 'leftImg8bit' / 'test')
    if truth == 'dummy':
        (mini_set / 'gtFine' / 'val').rename(mini_set / 'gtFine' / 'test')
        for path in mini_set.rglob('*_labelIds.png'):
            cv2.imwrite(str(path), np.full(SIZE, 3, np.uint8))
            instances = path.with_name(path.name.replace('labelIds', 'instanceIds'))
            cv2.imwrite(str(instances), np.full(SIZE, 3, np.uint16))
    results = tmp_path / 'results'
    figures = lednet_evaluate(mini_set, weights, '--split', 'test', '--submission', results)
    assert figures['images'] == 4
    assert figures['miou'] is figures['category_miou'] is figures['pixel_accuracy'] is None
    assert set(figures['iou'].values()) == {None}
    for path in expected.iterdir():
        assert (results / path.name).read_bytes() == path.read_bytes()


def test_split_with_some_ground_truth_is_rejected(
    mini_set: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next(mini_set.rglob('aachen_000001_*_labelIds.png')).unlink()
    arguments = [mini_set, '--checkpoint', weights, '--submission', tmp_path / 'results']
    assert main(['evaluate', *map(str, arguments)]) == 1
    assert '1 label images are missing' in capsys.readouterr().err


def test_frames_without_labels_have_names_and_sources(mini_set: Path) -> None:
    frames = UnlabeledFrames(mini_set, 'val', CITYSCAPES)
    labeled = CityscapesDataset(mini_set, 'val', CITYSCAPES)
    assert len(frames) == 4
    for index in range(4):
        assert frames[index].name == FRAMES[index]
        np.testing.assert_array_equal(frames[index].pixels, labeled[index].pixels)
        assert (frames[index].labels == 255).all()
        assert frames.source(index) == labeled.source(index)
    with pytest.raises(DatasetError, match='leftImg8bit/test has no CITY'):
        UnlabeledFrames(mini_set, 'test', CITYSCAPES)


def test_pixels_weigh_by_the_size_of_their_instance() -> None:
    """Two cars of 8 and 2 pixels, a group of cars, a caravan and a person."""
    instances = np.array([[26000] * 8 + [26001] * 2 + [26] * 3 + [29001] * 2 + [24001] * 4])
    car, bus, person = (CITYSCAPES.id_of(name) for name in ('car', 'bus', 'person'))
    predicted = np.array(
        [[car] * 6 + [255] * 2 + [car, bus] + [0] * 3 + [car] * 2 + [person] * 2 + [car] * 2],
        np.uint8,
    )
    counts = InstanceCounts(CITYSCAPES)
    counts.update(instances.astype(np.int32), predicted)
    average = AVERAGE_INSTANCE_PIXELS[26]
    assert counts.hit[car] == pytest.approx(average * (6 / 8 + 1 / 2))
    assert counts.missed[car] == pytest.approx(average * (2 / 8 + 1 / 2))
    assert counts.hit[person] == pytest.approx(AVERAGE_INSTANCE_PIXELS[24] / 2)
    vehicle = CITYSCAPES.categories.index('vehicle')
    # For the category a bus is as good as a car.
    assert counts.category_hit[vehicle] == pytest.approx(average * (6 / 8 + 1))
    assert counts.category_missed[vehicle] == pytest.approx(average * 2 / 8)
    assert counts.hit.sum() == counts.hit[car] + counts.hit[person]
    confusion = ConfusionMatrix(CITYSCAPES)
    # Pixels of the group are no false positives, but persons predicted as cars are.
    truth = CITYSCAPES.from_source[np.where(instances > 1000, instances // 1000, instances)]
    confusion.update(truth, predicted)
    assert counts.iiou(confusion)[car] == pytest.approx(1.25 * average / (2 * average + 2))
    assert counts.category_iiou(confusion)[vehicle] == pytest.approx(
        1.75 * average / (2 * average + 2)
    )


def test_custom_label_map_keeps_the_sizes_of_the_official_classes() -> None:
    own = LabelMap.from_dict(
        {
            'name': 'own',
            'classes': [
                {'id': 0, 'name': 'traffic', 'color': [0, 0, 0], 'source_ids': [25, 26]},
                {'id': 1, 'name': 'mixed', 'color': [1, 0, 0], 'source_ids': [7, 28]},
                {'id': 2, 'name': 'drawn', 'color': [2, 0, 0], 'source_ids': []},
            ],
        },
        'test',
    )
    counts, confusion = InstanceCounts(own), ConfusionMatrix(own)
    truth = np.array([[25001, 26001, 26001, 28001]], np.int32)
    predicted = np.array([[0, 0, 1, 1]], np.uint8)
    counts.update(truth, predicted)
    confusion.update(own.from_source[truth // 1000], predicted)
    rider, car = AVERAGE_INSTANCE_PIXELS[25], AVERAGE_INSTANCE_PIXELS[26]
    expected = [(rider + car / 2) / (rider + car), np.nan, np.nan]
    np.testing.assert_allclose(counts.iiou(confusion), expected)
    np.testing.assert_allclose(counts.category_iiou(confusion), expected)


def test_images_without_instances_change_nothing() -> None:
    counts, confusion = InstanceCounts(CITYSCAPES), ConfusionMatrix(CITYSCAPES)
    counts.update(np.full(SIZE, 24, np.int32), np.full(SIZE, 11, np.uint8))
    assert not counts.hit.any()
    assert not counts.missed.any()
    assert np.isnan(counts.iiou(confusion)).all()
    assert np.isnan(counts.category_iiou(confusion)).all()


def test_instances_of_another_size_are_rejected() -> None:
    counts = InstanceCounts(CITYSCAPES)
    with pytest.raises(ValueError, match=r'instances are \(80, 120\), prediction \(32, 48\)'):
        counts.update(np.zeros(SIZE, np.int32), np.zeros((32, 48), np.uint8))


def test_submission_holds_official_ids(tmp_path: Path) -> None:
    labels = np.array([[0, 18, 255], [13, 16, 11]], np.uint8)
    path = write_submission(tmp_path / 'new', FRAMES[0], labels, CITYSCAPES)
    assert path == tmp_path / 'new' / 'aachen_000000_000019_leftImg8bit.png'
    assert list(path.parent.iterdir()) == [path]
    written = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert written is not None
    assert written.dtype == np.uint8
    assert written.tolist() == [[7, 33, 0], [26, 31, 24]]


@pytest.mark.parametrize(
    'name', ['street_0', 'street_0_0', 'a_b_000000_000019', 'aachen_x_000019', '']
)
def test_submissions_with_other_names_are_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"frame is named '{name}'"):
        write_submission(tmp_path, name, np.zeros(SIZE, np.uint8), CITYSCAPES)
    assert not list(tmp_path.iterdir())
