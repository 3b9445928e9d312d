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

"""Tests of weights to start from."""

from pathlib import Path

from lednet_ros.checkpoint import Checkpoint, CheckpointError
from lednet_ros.models import build_network, LEDNet
from lednet_ros.training.start import save_encoder, start_from
import pytest
from safetensors.torch import save_file
import torch

HEADS = ('decoder.', 'encoder.output_conv.')


def make(classes: int = 11, name: str = 'lednet') -> LEDNet:
    torch.manual_seed(3)
    return build_network(name, classes)


def test_a_checkpoint_fills_everything(small_checkpoint: Path, small_content: Checkpoint) -> None:
    network = make()
    training, drawn = start_from(network, str(small_checkpoint))
    assert training == {'data': 'none: weights by rule'}
    assert drawn == []
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, small_content.state_dict[key], rtol=0, atol=0)


def test_heads_of_another_size_stay_as_drawn(
    small_checkpoint: Path, small_content: Checkpoint
) -> None:
    network, untouched = make(5), make(5).state_dict()
    _, drawn = start_from(network, str(small_checkpoint))
    assert drawn
    assert all(key.startswith(network.HEADS) for key in drawn)
    for key, tensor in network.state_dict().items():
        expected = untouched if key in drawn else small_content.state_dict
        torch.testing.assert_close(tensor, expected[key], rtol=0, atol=0)
    # The encoder's body is kept whole.
    assert not [
        key for key in drawn if key.startswith('encoder.') and 'output_conv' not in key
    ]


def test_a_pretrained_encoder_fills_the_encoder(tmp_path: Path, small_content: Checkpoint) -> None:
    path = tmp_path / 'encoder.safetensors'
    tensors = {
        key: tensor
        for key, tensor in small_content.state_dict.items()
        if key.startswith('encoder.') and 'output_conv' not in key
    }
    save_encoder(path, tensors, {'network': 'lednet', 'training': {'epochs': 90}, 'metrics': {}})
    network = make(19)
    training, drawn = start_from(network, str(path))
    assert training == {'epochs': 90}
    assert all(key.startswith(HEADS) for key in drawn)
    assert {*tensors, *drawn} == set(network.state_dict())
    for key, tensor in tensors.items():
        torch.testing.assert_close(network.state_dict()[key], tensor, rtol=0, atol=0)


def test_the_heavy_version_takes_the_encoder_of_the_light_one(small_checkpoint: Path) -> None:
    network = make(name='lednet_heavy')
    _, drawn = start_from(network, str(small_checkpoint))
    assert all(key.startswith('decoder.') for key in drawn)


def test_weights_of_another_encoder_are_refused(
    tmp_path: Path, small_content: Checkpoint
) -> None:
    tensors = {
        key: tensor[:1] if tensor.ndim == 4 else tensor
        for key, tensor in small_content.state_dict.items()
        if key.startswith('encoder.')
    }
    path = tmp_path / 'other.safetensors'
    save_encoder(path, tensors, {'network': 'other', 'training': {}, 'metrics': {}})
    network, untouched = make(), make().state_dict()
    with pytest.raises(CheckpointError, match=r'other\.safetensors: .* tensors outside of its'):
        start_from(network, str(path))
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, untouched[key], rtol=0, atol=0)


def test_what_is_no_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='none'):
        start_from(make(), 'none')
    damaged = tmp_path / 'damaged.safetensors'
    damaged.write_bytes(b'no tensors')
    with pytest.raises(CheckpointError, match=r'damaged\.safetensors'):
        start_from(make(), str(damaged))
    strange = tmp_path / 'strange.safetensors'
    save_file({'x': torch.zeros(1)}, strange, metadata={'lednet_ros_encoder': '[1]'})
    with pytest.raises(CheckpointError, match=r'strange\.safetensors: not a readable encoder'):
        start_from(make(), str(strange))
