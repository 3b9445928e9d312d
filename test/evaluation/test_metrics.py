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

"""Tests of the accuracy metrics, against matrices computed by hand."""

from lednet_ros.evaluation.metrics import ConfusionMatrix, mean_defined
from lednet_ros.labels import LabelMap, MergedLabelMap
import numpy as np
from numpy.typing import NDArray
import pytest

FOUR = LabelMap.from_dict(
    {
        'name': 'four',
        'classes': [
            {'id': 0, 'name': 'road', 'color': [0, 0, 0], 'category': 'flat'},
            {'id': 1, 'name': 'path', 'color': [1, 0, 0], 'category': 'flat'},
            {'id': 2, 'name': 'car', 'color': [2, 0, 0], 'category': 'vehicle'},
            {'id': 3, 'name': 'boat', 'color': [3, 0, 0], 'category': 'water'},
        ],
    },
    'test',
)


def image(*values: int) -> NDArray[np.uint8]:
    return np.array([values], np.uint8)


def confusion(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> ConfusionMatrix:
    matrix = ConfusionMatrix(FOUR)
    matrix.update(truth, predicted)
    return matrix


@pytest.fixture
def example() -> ConfusionMatrix:
    """Ten labeled and two unlabeled pixels; no boat anywhere."""
    return confusion(
        image(0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 255, 255),
        image(0, 0, 1, 2, 1, 1, 0, 2, 2, 255, 0, 255),
    )


def test_classes_that_are_left_out_count_against_those_that_are_published() -> None:
    content = {'classes': [
        {'id': 5, 'name': 'ground', 'from': ['road', 'path']}, {'id': 2, 'name': 'car'},
    ]}
    merged = MergedLabelMap.merge(content, 'test', FOUR)
    matrix = ConfusionMatrix(merged)
    truth = merged.from_network(image(0, 1, 1, 2, 2, 3, 3, 3, 255))
    matrix.update(truth, image(5, 5, 2, 2, 255, 255, 5, 255, 5))
    # Boats are left out: to call one unlabeled is right, to call it ground is not.
    assert matrix.counts.tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 2]]
    assert matrix.iou().tolist() == [2 / 4, 1 / 3]
    assert matrix.pixel_accuracy() == 5 / 8
    assert matrix.category_counts().tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 2]]
    assert (matrix + matrix).counts.tolist() == (2 * matrix.counts).tolist()
    with pytest.raises(ValueError, match=r'prediction has id 0; .* has 2 to 5 and 255'):
        matrix.update(truth, image(0, 5, 2, 2, 255, 255, 5, 255, 5))


def test_counts(example: ConfusionMatrix) -> None:
    assert example.counts.dtype == np.int64
    assert example.counts.tolist() == [
        [2, 1, 1, 0, 0],
        [1, 2, 0, 0, 0],
        [0, 0, 2, 0, 1],
        [0, 0, 0, 0, 0],
    ]


def test_iou(example: ConfusionMatrix) -> None:
    # road: 2 of 4 true + 3 predicted - 2; path: 2 of 3 + 3 - 2; car: 2 of 3 + 3 - 2.
    np.testing.assert_allclose(example.iou(), [2 / 5, 2 / 4, 2 / 4, np.nan])
    assert example.miou() == pytest.approx((0.4 + 0.5 + 0.5) / 3)


def test_category_iou(example: ConfusionMatrix) -> None:
    # flat: 6 of 7 true + 6 predicted - 6; confusing road and path is no error here.
    np.testing.assert_allclose(example.category_iou(), [6 / 7, 2 / 4, np.nan])
    assert example.category_counts().tolist() == [[6, 1, 0, 0], [0, 2, 0, 1], [0, 0, 0, 0]]
    assert example.category_miou() == pytest.approx((6 / 7 + 0.5) / 2)


def test_pixel_accuracy(example: ConfusionMatrix) -> None:
    assert example.pixel_accuracy() == pytest.approx(6 / 10)


def test_unlabeled_truth_is_ignored() -> None:
    matrix = confusion(image(0, 255, 255, 255), image(0, 0, 1, 2))
    assert matrix.counts.sum() == 1
    assert matrix.iou()[0] == 1.0
    assert matrix.pixel_accuracy() == 1.0


def test_unlabeled_prediction_counts_against() -> None:
    matrix = confusion(image(0, 0, 0, 0), image(0, 255, 255, 255))
    assert matrix.iou()[0] == 0.25
    assert matrix.pixel_accuracy() == 0.25
    assert matrix.category_iou()[0] == 0.25


def test_class_predicted_but_absent_counts_as_zero() -> None:
    matrix = confusion(image(0, 0), image(0, 3))
    np.testing.assert_allclose(matrix.iou(), [0.5, np.nan, np.nan, 0.0])
    assert matrix.miou() == 0.25


def test_nothing_seen_is_undefined() -> None:
    matrix = ConfusionMatrix(FOUR)
    assert np.isnan(matrix.iou()).all()
    assert np.isnan([matrix.miou(), matrix.category_miou(), matrix.pixel_accuracy()]).all()
    matrix.update(image(255, 255), image(0, 255))
    assert np.isnan(matrix.miou())


def test_random_images_against_plain_counting() -> None:
    rng = np.random.default_rng(0)
    values = np.array([0, 1, 2, 3, 255], np.uint8)
    matrix = ConfusionMatrix(FOUR)
    expected = np.zeros((4, 5), int)
    for _ in range(3):
        truth, predicted = rng.choice(values, (2, 20, 30))
        matrix.update(truth, predicted)
        for one, two in zip(truth.ravel(), predicted.ravel(), strict=True):
            if one != 255:
                expected[one, min(two, 4)] += 1
    np.testing.assert_array_equal(matrix.counts, expected)
    for index in range(4):
        hit = expected[index, index]
        union = expected[index].sum() + expected[:, index].sum() - hit
        assert matrix.iou()[index] == pytest.approx(hit / union)


def test_means_skip_undefined_values() -> None:
    assert mean_defined(np.array([0.5, np.nan, 0.25])) == 0.375
    assert np.isnan(mean_defined(np.array([np.nan])))


def test_counts_do_not_overflow() -> None:
    matrix = ConfusionMatrix(FOUR)
    matrix.counts[0, 0] = 2**40
    matrix.update(image(0), image(0))
    assert matrix.counts[0, 0] == 2**40 + 1


def test_sum_of_matrices(example: ConfusionMatrix) -> None:
    other = confusion(image(3, 3), image(3, 0))
    total = example + other
    np.testing.assert_array_equal(total.counts, example.counts + other.counts)
    assert example.counts[3].sum() == 0
    assert total.iou()[3] == 0.5


@pytest.mark.parametrize(
    ('truth', 'predicted', 'message'),
    [
        (image(0, 4), image(0, 0), "truth has id 4; label map 'four' has 0 to 3 and 255"),
        (image(0, 0), image(0, 254), "prediction has id 254; label map 'four'"),
        (image(255), image(17), 'prediction has id 17'),
        (image(0, 0), image(0), r'truth is \(1, 2\), prediction \(1, 1\)'),
    ],
)
def test_images_that_do_not_fit_are_named_and_not_counted(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], message: str
) -> None:
    matrix = ConfusionMatrix(FOUR)
    with pytest.raises(ValueError, match=message):
        matrix.update(truth, predicted)
    assert not matrix.counts.any()
