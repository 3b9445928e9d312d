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

"""Tests of the descriptions of networks and checkpoints."""

from dataclasses import replace
from pathlib import Path

from lednet_ros.checkpoint import Checkpoint, CheckpointError, save_checkpoint
from lednet_ros.models.describe import describe_checkpoint, describe_network
import pytest

SIZE = (512, 1024)


@pytest.mark.parametrize(
    ('name', 'parameters', 'gflops'),
    [('lednet', 925_663, 22.4), ('lednet_heavy', 2_288_140, 26.2)],
)
def test_size_and_cost_of_a_network(name: str, parameters: int, gflops: float) -> None:
    description = describe_network(name, 20, SIZE)
    assert description['network'] == name
    assert description['classes'] == 20
    assert description['parameters'] == parameters
    assert description['gflops'] == pytest.approx(gflops, abs=0.1)
    assert description['gflops_input_size'] == [512, 1024]


def test_cost_grows_with_the_input() -> None:
    whole = describe_network('lednet', 20, SIZE)['gflops']
    quarter = describe_network('lednet', 20, (256, 512))['gflops']
    assert whole / quarter == pytest.approx(4, rel=0.01)


def test_checkpoint_is_described_with_its_metadata(
    small_content: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / 'a.safetensors'
    save_checkpoint(replace(small_content, metrics={'val': {'miou': 0.25}}), path)
    description = describe_checkpoint(path, SIZE)
    assert description['network'] == 'lednet'
    assert description['classes'] == 11
    assert description['parameters'] == describe_network('lednet', 11, SIZE)['parameters']
    assert description['gflops'] == describe_network('lednet', 11, SIZE)['gflops']
    assert description['label_map'] == 'camvid'
    assert description['class_names'][8] == 'car'
    assert description['input_size'] == [64, 96]
    assert description['training'] == {'data': 'none: weights by rule'}
    assert description['metrics'] == {'val': {'miou': 0.25}}


def test_weights_must_fit(small_content: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / 'a.safetensors'
    save_checkpoint(replace(small_content, network='lednet_heavy'), path)
    with pytest.raises(CheckpointError, match=r'a\.safetensors: weights do not fit'):
        describe_checkpoint(path, SIZE)
    save_checkpoint(replace(small_content, network='unet'), path)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: unknown network 'unet'"):
        describe_checkpoint(path, SIZE)


@pytest.mark.parametrize(
    ('name', 'classes', 'size', 'message'),
    [
        ('unet', 20, SIZE, "unknown network 'unet'"),
        ('lednet', 0, SIZE, 'num_classes is 0'),
        ('lednet', 20, (32, 1024), 'input is 32x1024'),
    ],
)
def test_wrong_arguments_are_rejected(
    name: str, classes: int, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        describe_network(name, classes, size)
