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

"""Tests of the workload of the benchmarks."""

from lednet_ros.benchmark.workload import draw_frames, make_checkpoint, widen
from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.models import load_network
import numpy as np
import pytest
import torch


@pytest.mark.parametrize('classes', [11, 12, 20, 40])
def test_widened_network_repeats_the_trained_logits(classes: int) -> None:
    trained = load_checkpoint('lednet')
    wide = widen(trained, classes)
    assert wide.label_map.num_classes == len(set(wide.label_map.names)) == classes
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        trained_logits = load_network(trained, 'test').eval().scores(images)[0]
        logits = load_network(wide, 'test').eval().scores(images)[0]
    torch.testing.assert_close(logits[:11], trained_logits)
    for copy in range(11, classes):
        torch.testing.assert_close(logits[copy], 0.9 * trained_logits[copy % 11])


def test_fewer_classes_are_rejected() -> None:
    with pytest.raises(ValueError, match='classes is 10; it must be 11'):
        make_checkpoint('lednet', 10, (64, 96))


def test_input_size_is_the_requested_one() -> None:
    checkpoint = make_checkpoint('lednet', None, (64, 96))
    assert checkpoint.input_size == (64, 96)
    assert checkpoint.label_map.num_classes == 11


def test_frames_are_contiguous_and_differ() -> None:
    frames = draw_frames((64, 96), 3)
    assert all(frame.shape == (64, 96, 3) and frame.dtype == np.uint8 for frame in frames)
    assert all(frame.flags.c_contiguous for frame in frames)
    assert len({frame.tobytes() for frame in frames}) == 3
