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

"""Tests of the procedural street."""

import re

from lednet_ros.synthetic import CLASS_NAMES, StreetScene
import numpy as np
import pytest

SKY, ROAD = CLASS_NAMES.index('sky'), CLASS_NAMES.index('road')
SIZES = [(480, 360), (97, 65), (64, 64), (70, 300), (1200, 64)]


@pytest.mark.parametrize(('width', 'height'), SIZES)
def test_frame_and_labels_have_the_requested_size(width: int, height: int) -> None:
    scene = StreetScene(width, height, seed=3)
    for time in (0.0, 7.3, 12345.6):
        frame, labels = scene.render(time)
        assert frame.shape == (height, width, 3)
        assert labels.shape == (height, width)
        assert frame.dtype == labels.dtype == np.uint8
        assert labels.max() < len(CLASS_NAMES)


def test_class_names_are_unique() -> None:
    assert len(set(CLASS_NAMES)) == len(CLASS_NAMES) == 11


def test_order_and_number_of_calls_do_not_change_a_frame() -> None:
    forward, backward = StreetScene(160, 120, seed=5), StreetScene(160, 120, seed=5)
    times = [0.0, 1.5, -2.0, 400.0, 1.5]
    first = [forward.render(time) for time in times]
    second = [backward.render(time) for time in reversed(times)]
    for (frame, labels), (frame_again, labels_again) in zip(first, reversed(second), strict=True):
        np.testing.assert_array_equal(frame, frame_again)
        np.testing.assert_array_equal(labels, labels_again)


def test_equal_times_of_different_types_draw_the_same_frame() -> None:
    scene = StreetScene(96, 64, seed=1)
    for one, other in ((2, 2.0), (0.0, -0.0), (np.float64(0.5), 0.5)):
        np.testing.assert_array_equal(scene.render(one)[0], scene.render(other)[0])


def test_frame_is_unchanged_when_the_next_one_is_drawn() -> None:
    scene = StreetScene(96, 64)
    frame, labels = scene.render(0.0)
    kept_frame, kept_labels = frame.copy(), labels.copy()
    scene.render(1.0)
    np.testing.assert_array_equal(frame, kept_frame)
    np.testing.assert_array_equal(labels, kept_labels)


def test_seeds_give_different_streets() -> None:
    drawn = [StreetScene(160, 120, seed=seed).render(1.0) for seed in range(4)]
    for i, (frame, labels) in enumerate(drawn):
        for other_frame, other_labels in drawn[:i]:
            assert np.mean(labels != other_labels) > 0.05
            assert np.mean(np.abs(frame.astype(int) - other_frame)) > 8


@pytest.mark.parametrize('seed', range(4))
def test_all_classes_appear_within_twenty_seconds(seed: int) -> None:
    scene = StreetScene(240, 180, seed=seed)
    counts = np.zeros(256, int)
    for time in range(20):
        counts += np.bincount(scene.render(float(time))[1].ravel(), minlength=256)
    assert counts[len(CLASS_NAMES):].sum() == 0
    missing = [name for name, count in zip(CLASS_NAMES, counts, strict=False) if not count]
    assert missing == []
    assert counts[ROAD] > 0.15 * counts.sum()


@pytest.mark.parametrize('seed', range(4))
def test_sky_is_above_the_road(seed: int) -> None:
    _, labels = StreetScene(160, 120, seed=seed).render(2.0)
    rows = np.arange(120)[:, None] * np.ones((1, 160))
    assert rows[labels == SKY].mean() + 30 < rows[labels == ROAD].mean()
    assert not np.any(labels[90:] == SKY)
    assert not np.any(labels[:40] == ROAD)


def test_camera_drives_or_stands_still() -> None:
    driving = StreetScene(160, 120, seed=2)
    (frame, labels), (next_frame, next_labels) = driving.render(1.0), driving.render(1.5)
    assert np.mean(np.abs(frame.astype(int) - next_frame)) > 3
    assert 0.01 < np.mean(labels != next_labels) < 0.6
    near = np.s_[110:, 60:100]
    standing = StreetScene(160, 120, seed=2, speed=0.0)
    np.testing.assert_array_equal(standing.render(0.0)[1][near], standing.render(0.1)[1][near])


@pytest.mark.parametrize('seed', range(4))
def test_labels_and_colors_change_at_the_same_pixels(seed: int) -> None:
    """Check that image edges are stronger where the label changes than a few pixels away."""
    scene = StreetScene(320, 240, seed=seed)
    at, beside = [], []
    for time in (0.0, 4.0, 8.0):
        frame, labels = scene.render(time)
        step = np.abs(np.diff(frame.astype(int), axis=1)).sum(2)
        rows, columns = np.nonzero(np.diff(labels.astype(int), axis=1))
        inside = (columns > 4) & (columns < step.shape[1] - 4)
        rows, columns = rows[inside], columns[inside]
        at.append(step[rows, columns].mean())
        beside.append((step[rows, columns - 3].mean() + step[rows, columns + 3].mean()) / 2)
    assert np.mean(at) > 1.5 * np.mean(beside)


def test_camera_matrix_fits_the_frame() -> None:
    scene = StreetScene(320, 240, seed=9)
    matrix = scene.camera_matrix
    assert matrix.shape == (3, 3)
    assert matrix.dtype == np.float64
    assert matrix[0, 0] == matrix[1, 1] > 0
    assert matrix[0, 2] == 160
    assert 0 < matrix[1, 2] < 240
    np.testing.assert_array_equal(matrix[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], [0, 0, 0, 0, 1])
    half_size = StreetScene(160, 120, seed=9).camera_matrix
    np.testing.assert_allclose(half_size[:2], matrix[:2] / 2)


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'width': 63}, 'width is 63, must be 64 to 4096'),
    ({'width': 5000}, 'width is 5000, must be 64 to 4096'),
    ({'height': 0}, 'height is 0, must be 64 to 4096'),
    ({'height': -5}, 'height is -5, must be 64 to 4096'),
    ({'seed': -1}, 'seed is -1, must be 0 or more'),
    ({'speed': -0.5}, 'speed is -0.5, must be 0 to 60 m/s'),
    ({'speed': float('nan')}, 'speed is nan, must be 0 to 60 m/s'),
])
def test_bad_arguments_are_rejected_by_name(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        StreetScene(**arguments)


@pytest.mark.parametrize('time', [float('nan'), float('inf')])
def test_infinite_or_nan_time_is_rejected(time: float) -> None:
    with pytest.raises(ValueError, match=f'time is {time}, must be finite'):
        StreetScene(64, 64).render(time)
