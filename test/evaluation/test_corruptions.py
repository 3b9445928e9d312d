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

"""Tests of the accuracy under corruptions of the frames."""

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.datasets import SyntheticDataset
from lednet_ros.evaluation.corruptions import (
    CorruptedFrames,
    corruption_rows,
    CORRUPTIONS,
    evaluate_corruptions,
)
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
import numpy as np
import pytest


@pytest.fixture
def frames() -> SyntheticDataset:
    return SyntheticDataset(2, (96, 162), 0, LabelMap.load('camvid'))


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_only_pixels_change_and_always_in_the_same_way(
    name: str, frames: SyntheticDataset
) -> None:
    before = frames[1].pixels.copy()
    corrupted = CorruptedFrames(frames, CORRUPTIONS[name])
    found = corrupted[1]
    assert found.pixels.dtype == np.uint8
    assert found.pixels.shape == before.shape
    assert (found.pixels != before).mean() > 0.1
    np.testing.assert_array_equal(found.pixels, corrupted[1].pixels)
    np.testing.assert_array_equal(frames[1].pixels, before)
    np.testing.assert_array_equal(found.labels, frames[1].labels)
    assert found.name == frames[1].name
    assert len(corrupted) == 2
    assert corrupted.source(1) == frames.source(1)


@pytest.mark.parametrize(
    ('name', 'color', 'expected'),
    [
        ('overexposure', (0, 100, 200), (20, 170, 255)),
        ('low contrast', (0, 100, 255), (80, 130, 208)),
        ('warm light', (100, 100, 100), (120, 100, 75)),
        ('warm light', (250, 100, 100), (255, 100, 75)),
        ('no color', (255, 0, 0), (76, 76, 76)),
        ('blur', (10, 20, 30), (10, 20, 30)),
    ],
)
def test_colors(
    name: str, color: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    pixels = np.full((8, 16, 3), color, np.uint8)
    found = CORRUPTIONS[name](pixels, np.random.default_rng(0))
    np.testing.assert_array_equal(np.unique(found.reshape(-1, 3), axis=0), [expected])


def test_noise_has_its_deviation() -> None:
    pixels = np.full((200, 200, 3), 128, np.uint8)
    noisy = CORRUPTIONS['noise'](pixels, np.random.default_rng(0))
    assert noisy.std() == pytest.approx(15, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.5)
    dark = CORRUPTIONS['night'](np.full((200, 200, 3), 255, np.uint8), np.random.default_rng(0))
    np.testing.assert_allclose(dark.mean((0, 1)), [160, 178, 205], atol=0.5)


def test_each_corruption_is_evaluated(
    small_content: Checkpoint, frames: SyntheticDataset
) -> None:
    segmenter = Segmenter(small_content, device='cpu', backend='torch_eager')
    metrics = evaluate_corruptions(segmenter, frames)
    assert list(metrics) == list(CORRUPTIONS)
    rows = corruption_rows(metrics)
    assert [row['corruption'] for row in rows] == [*CORRUPTIONS, 'mean']
    assert rows[0]['mIoU'] == metrics['night']['miou']
    assert rows[-1]['mIoU'] == pytest.approx(np.mean([row['mIoU'] for row in rows[:-1]]))
    # The network reacts to them.
    assert len({value['calibration_error'] for value in metrics.values()}) > 4


def test_undefined_metrics_are_left_out_of_the_mean() -> None:
    rows = corruption_rows({
        'a': {'miou': 0.5, 'calibration_error': None},
        'b': {'miou': 0.7, 'calibration_error': None},
    })
    assert [row['calibration error'] for row in rows] == ['-', '-', '-']
    assert rows[2]['mIoU'] == pytest.approx(0.6)
