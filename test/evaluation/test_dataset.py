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

"""Tests of the evaluation of a segmenter on labeled frames."""

import json
from pathlib import Path
from typing import Any

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.datasets import (
    FolderDataset,
    LabeledFrame,
    synthetic_frames,
    SyntheticDataset,
)
from lednet_ros.evaluation.consistency import Calibration
from lednet_ros.evaluation.dataset import (
    accuracy_rows,
    evaluate,
    EvaluationResult,
    to_dict,
)
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.evaluation.multi_scale import MultiScaleSegmenter
from lednet_ros.files import write_json
from lednet_ros.inference.options import find_region
from lednet_ros.inference.segmenter import Segmenter
import numpy as np
import pytest

EAGER = {'device': 'cpu', 'backend': 'torch_eager'}
KEYS = {
    'miou', 'category_miou', 'pixel_accuracy', 'iou', 'category_iou', 'calibration_error',
    'images', 'fps', 'parameters',
}


@pytest.fixture
def segmenter(small_content: Checkpoint) -> Segmenter:
    return Segmenter(small_content, **EAGER)


@pytest.fixture
def frames() -> list[LabeledFrame]:
    """Streets of two sizes with an unlabeled stripe."""
    found = [*synthetic_frames(2, (64, 96), 0), *synthetic_frames(1, (97, 130), 1)]
    for frame in found:
        frame.labels[5:9] = 255
    return found


def count_plainly(segmenter: Segmenter, frames: list[LabeledFrame]) -> np.ndarray[Any, Any]:
    counts = np.zeros((11, 12), np.int64)
    for frame in frames:
        predicted = segmenter.segment(frame.pixels).labels[0]
        labeled = frame.labels != 255
        np.add.at(counts, (frame.labels[labeled], np.minimum(predicted[labeled], 11)), 1)
    return counts


@pytest.mark.parametrize('min_confidence', [0.0, 0.5])
def test_confusion_equals_plain_counting(
    segmenter: Segmenter, frames: list[LabeledFrame], min_confidence: float
) -> None:
    segmenter.min_confidence = min_confidence
    result = evaluate(segmenter, frames)
    expected = count_plainly(segmenter, frames)
    np.testing.assert_array_equal(result.confusion.counts, expected)
    assert result.confusion.counts[:, 11].any() == bool(min_confidence)
    assert result.confusion.counts.sum() == sum((f.labels != 255).sum() for f in frames)
    assert result.images == 3
    assert result.num_parameters == segmenter.num_parameters
    assert result.fps > 0


def test_confidence_is_compared_with_accuracy(
    segmenter: Segmenter, small_content: Checkpoint, frames: list[LabeledFrame]
) -> None:
    right, total = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for frame in frames:
        found = segmenter.segment(frame.pixels)
        assert found.confidence is not None
        labeled = frame.labels != 255
        np.add.at(total, found.confidence[0][labeled], 1)
        correct = found.labels[0] == frame.labels
        np.add.at(right, found.confidence[0][labeled & correct], 1)
    result = evaluate(segmenter, frames)
    np.testing.assert_array_equal(result.calibration.right, right)
    np.testing.assert_array_equal(result.calibration.total, total)
    several = MultiScaleSegmenter(small_content, device='cpu')
    assert to_dict(evaluate(several, frames))['calibration_error'] is None


def test_ground_truth_is_merged_like_the_classes(
    small_content: Checkpoint, frames: list[LabeledFrame], merged: Path
) -> None:
    segmenter = Segmenter(small_content, **EAGER, classes=str(merged))
    several = MultiScaleSegmenter(small_content, device='cpu', classes=str(merged))
    groups, ids = [[3, 4], [8], [9, 10], [0, 1, 2, 5, 6, 7]], [7, 0, 200, 255]
    expected = np.zeros((4, 4), np.int64)
    for frame in frames:
        predicted = segmenter.segment(frame.pixels).labels[0]
        for row, group in enumerate(groups):
            for column, number in enumerate(ids):
                pixels = np.isin(frame.labels, group) & (predicted == number)
                expected[row, column] += pixels.sum()
    assert (expected.sum(axis=1) > 0).all()
    for one in (segmenter, several):
        result = evaluate(one, frames)
        np.testing.assert_array_equal(result.confusion.counts, expected)
        assert set(to_dict(result)['iou']) == {'ground', 'car', 'people'}


def test_what_is_cropped_is_not_compared(
    small_content: Checkpoint, frames: list[LabeledFrame]
) -> None:
    settings = {'crop': (0.25, 0.0, 0.0, 0.5), 'input_size': (64, 96), 'device': 'cpu'}
    segmenter = Segmenter(small_content, **settings, backend='torch_eager', precision='fp32')
    expected = np.zeros((11, 12), np.int64)
    for frame in frames:
        region = find_region(segmenter.crop, frame.labels.shape)
        predicted = segmenter.segment(frame.pixels).labels[0][region]
        truth = frame.labels[region]
        labeled = truth != 255
        np.add.at(expected, (truth[labeled], predicted[labeled]), 1)
    for one in (segmenter, MultiScaleSegmenter(small_content, **settings, precision='fp32')):
        np.testing.assert_array_equal(evaluate(one, frames).confusion.counts, expected)


def test_perfect_labels_score_one(
    segmenter: Segmenter, frames: list[LabeledFrame]
) -> None:
    perfect = [
        LabeledFrame(f.name, f.pixels, segmenter.segment(f.pixels).labels[0].copy())
        for f in frames
    ]
    figures = to_dict(evaluate(segmenter, perfect))
    assert figures['miou'] == figures['category_miou'] == figures['pixel_accuracy'] == 1.0


def test_metrics_are_fractions_and_null_where_undefined(segmenter: Segmenter) -> None:
    confusion = ConfusionMatrix(segmenter.label_map)
    confusion.update(
        np.array([[3, 3, 8, 8]], np.uint8), np.array([[3, 3, 8, 3]], np.uint8)
    )
    figures = to_dict(EvaluationResult(confusion, 1, 25.0, 1000, Calibration()))
    assert figures['calibration_error'] is None
    assert set(figures) == KEYS
    assert figures['iou'] == {
        name: {'road': 2 / 3, 'car': 0.5}.get(name) for name in segmenter.label_map.names
    }
    categories = dict.fromkeys(segmenter.label_map.categories)
    assert figures['category_iou'] == {**categories, 'flat': 2 / 3, 'vehicle': 0.5}
    assert figures['miou'] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures['category_miou'] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures['pixel_accuracy'] == 0.75
    assert (figures['images'], figures['fps'], figures['parameters']) == (1, 25.0, 1000)


def test_json_file_is_strict_json(segmenter: Segmenter, tmp_path: Path) -> None:
    confusion = ConfusionMatrix(segmenter.label_map)
    result = EvaluationResult(confusion, 1, 25.0, 1000, Calibration())
    path = tmp_path / 'new' / 'figures.json'
    write_json(to_dict(result), path)

    def refuse(constant: str) -> None:
        pytest.fail(f'{constant} is not JSON')

    figures = json.loads(path.read_text(encoding='utf-8'), parse_constant=refuse)
    assert figures == to_dict(result)
    assert figures['miou'] is None
    assert set(figures['iou'].values()) == {None}


def test_rows_hold_every_accuracy(segmenter: Segmenter, frames: list[LabeledFrame]) -> None:
    result = evaluate(segmenter, frames[:1])
    rows = accuracy_rows(to_dict(result))
    metrics = to_dict(result)
    assert [row['class'] for row in rows[:11]] == list(segmenter.label_map.names)
    assert rows[11:] == [
        {'class': 'mIoU', 'IoU': metrics['miou']},
        {'class': 'category mIoU', 'IoU': metrics['category_miou']},
        {'class': 'pixel accuracy', 'IoU': metrics['pixel_accuracy']},
    ]
    confusion = ConfusionMatrix(segmenter.label_map)
    empty = EvaluationResult(confusion, 1, 25.0, 1000, Calibration())
    assert accuracy_rows(to_dict(empty))[0] == {'class': 'sky', 'IoU': '-'}


def test_empty_data_is_rejected(segmenter: Segmenter) -> None:
    with pytest.raises(ValueError, match='no frames to evaluate'):
        evaluate(segmenter, [])


def test_results_of_another_size_are_rejected(
    small_content: Checkpoint, frames: list[LabeledFrame]
) -> None:
    segmenter = Segmenter(small_content, **EAGER, output_size=(32, 48))
    with pytest.raises(ValueError, match=r'truth is \(64, 96\), prediction \(32, 48\)'):
        evaluate(segmenter, frames)


def test_any_data_set_is_accepted(segmenter: Segmenter) -> None:
    dataset = SyntheticDataset(2, (64, 96), 0, segmenter.label_map)
    result = evaluate(segmenter, dataset)
    expected = count_plainly(segmenter, [dataset[0], dataset[1]])
    np.testing.assert_array_equal(result.confusion.counts, expected)
    assert result.instances is None


def test_several_views_of_each_frame(
    small_content: Checkpoint, frames: list[LabeledFrame]
) -> None:
    several = MultiScaleSegmenter(small_content, scales=(1, 2), flip=True, device='cpu')
    result = evaluate(several, frames)
    expected = ConfusionMatrix(several.label_map)
    for frame in frames:
        expected.update(frame.labels, several.segment(frame.pixels))
    np.testing.assert_array_equal(result.confusion.counts, expected.counts)
    assert result.num_parameters == several.num_parameters


def test_folder_of_frames(segmenter: Segmenter, camvid: Path) -> None:
    dataset = FolderDataset(camvid, 'val', segmenter.label_map)
    frames = [dataset[0], dataset[50]]
    result = evaluate(segmenter, frames)
    np.testing.assert_array_equal(result.confusion.counts, count_plainly(segmenter, frames))
