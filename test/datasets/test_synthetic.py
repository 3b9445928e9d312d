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

"""Tests of frames of synthetic streets."""

from lednet_ros.datasets import DatasetError, synthetic_frames, SyntheticDataset
from lednet_ros.labels import LabelMap
import numpy as np
import pytest


def test_seed_determines_the_frames() -> None:
    first = list(synthetic_frames(2, (64, 96), seed=5))
    again = list(synthetic_frames(2, (64, 96), seed=5))
    other = next(synthetic_frames(1, (64, 96), seed=6))
    assert first[0].pixels.shape == (64, 96, 3)
    assert first[0].labels.shape == (64, 96)
    for one, two in zip(first, again, strict=True):
        assert one.name == two.name
        np.testing.assert_array_equal(one.pixels, two.pixels)
        np.testing.assert_array_equal(one.labels, two.labels)
    assert (first[0].pixels != first[1].pixels).any()
    assert (first[0].pixels != other.pixels).any()


def test_several_frames_share_a_street() -> None:
    streets = list(synthetic_frames(4, (64, 96), seed=5, frames_per_street=2))
    single = list(synthetic_frames(1, (64, 96), seed=5))
    assert np.array_equal(streets[0].pixels, single[0].pixels)
    assert len({frame.pixels.tobytes() for frame in streets}) == 4
    assert [frame.name for frame in streets] == [f'street_5_{index}' for index in range(4)]


def test_data_set_holds_the_drawn_frames() -> None:
    dataset = SyntheticDataset(3, (64, 96), 5, LabelMap.load('camvid'), frames_per_street=2)
    drawn = list(synthetic_frames(3, (64, 96), 5, frames_per_street=2))
    assert len(dataset) == 3
    for index, frame in enumerate(drawn):
        assert dataset[index].name == frame.name
        np.testing.assert_array_equal(dataset[index].pixels, frame.pixels)
        np.testing.assert_array_equal(dataset[index].labels, frame.labels)
    assert dataset.source(2) == 'synthetic street_5_2'


def test_other_classes_are_rejected() -> None:
    with pytest.raises(DatasetError, match="label map is 'cityscapes'; synthetic streets have"):
        SyntheticDataset(1, (64, 96), 0, LabelMap.load('cityscapes'))
