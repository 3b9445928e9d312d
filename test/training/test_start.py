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

from dataclasses import replace
from pathlib import Path

from lednet_ros.checkpoint import Checkpoint, CheckpointError, save_checkpoint
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
    training, remaining = start_from(network, str(small_checkpoint))
    assert training == {'data': 'none: weights by rule'}
    assert remaining == []
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, small_content.state_dict[key], rtol=0, atol=0)


def test_checkpoints_are_averaged(
    tmp_path: Path, small_checkpoint: Path, small_content: Checkpoint
) -> None:
    other = tmp_path / 'other.safetensors'
    torch.manual_seed(5)
    weights = {
        key: torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for key, tensor in small_content.state_dict.items()
    }
    save_checkpoint(replace(small_content, state_dict=weights, training={'seed': 1}), other)
    network = make()
    training, remaining = start_from(network, str(small_checkpoint), str(other))
    assert training == {'mean_of': [small_content.training, {'seed': 1}]}
    assert remaining == []
    for key, tensor in network.state_dict().items():
        expected = (small_content.state_dict[key].float() + weights[key].float()) / 2
        torch.testing.assert_close(tensor.float(), expected)
    encoder = tmp_path / 'encoder.safetensors'
    save_encoder(encoder, {}, {'network': 'lednet', 'training': {}, 'metrics': {}})
    with pytest.raises(CheckpointError, match=r'encoder\.safetensors: an encoder; only complete'):
        start_from(network, str(small_checkpoint), str(encoder))


def test_heads_of_another_size_stay_initialized(
    small_checkpoint: Path, small_content: Checkpoint
) -> None:
    network, untouched = make(5), make(5).state_dict()
    _, remaining = start_from(network, str(small_checkpoint))
    assert remaining
    assert all(key.startswith(network.HEADS) for key in remaining)
    for key, tensor in network.state_dict().items():
        expected = untouched if key in remaining else small_content.state_dict
        torch.testing.assert_close(tensor, expected[key], rtol=0, atol=0)
    # The encoder's body is filled.
    assert not [
        key for key in remaining if key.startswith('encoder.') and 'output_conv' not in key
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
    training, remaining = start_from(network, str(path))
    assert training == {'epochs': 90}
    assert all(key.startswith(HEADS) for key in remaining)
    assert {*tensors, *remaining} == set(network.state_dict())
    for key, tensor in tensors.items():
        torch.testing.assert_close(network.state_dict()[key], tensor, rtol=0, atol=0)


def test_the_heavy_version_takes_the_encoder_of_the_light_one(small_checkpoint: Path) -> None:
    network = make(name='lednet_heavy')
    _, remaining = start_from(network, str(small_checkpoint))
    assert all(key.startswith('decoder.') for key in remaining)


def test_weights_of_another_encoder_are_rejected(
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


def test_files_without_weights_are_reported(tmp_path: Path) -> None:
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


def torchvision_weights() -> dict[str, torch.Tensor]:
    """Return random weights by the names and shapes of torchvision's shufflenet_v2_x1_0."""
    rng = torch.Generator().manual_seed(0)
    found: dict[str, torch.Tensor] = {}

    def add(name: str, *shape: int) -> None:
        found[f'{name}.weight'] = torch.randn(*shape, generator=rng)

    def normalize(name: str, channels: int) -> None:
        add(name, channels)
        for kind in ('bias', 'running_mean', 'running_var'):
            found[f'{name}.{kind}'] = torch.rand(channels, generator=rng)
        found[f'{name}.num_batches_tracked'] = torch.tensor(7)

    add('conv1.0', 24, 3, 3, 3)
    normalize('conv1.1', 24)
    before = 24
    for stage, (channels, units) in enumerate(((116, 4), (232, 8), (464, 4)), 2):
        half = channels // 2
        for unit in range(units):
            place = f'stage{stage}.{unit}'
            inside = half if unit else before
            if not unit:
                add(f'{place}.branch1.0', before, 1, 3, 3)
                normalize(f'{place}.branch1.1', before)
                add(f'{place}.branch1.2', half, before, 1, 1)
                normalize(f'{place}.branch1.3', half)
            add(f'{place}.branch2.0', half, inside, 1, 1)
            normalize(f'{place}.branch2.1', half)
            add(f'{place}.branch2.3', half, 1, 3, 3)
            normalize(f'{place}.branch2.4', half)
            add(f'{place}.branch2.5', half, half, 1, 1)
            normalize(f'{place}.branch2.6', half)
        before = channels
    add('conv5.0', 1024, 464, 1, 1)
    normalize('conv5.1', 1024)
    add('fc', 1000, 1024)
    found['fc.bias'] = torch.rand(1000, generator=rng)
    return found


def test_torchvision_file_fills_the_encoder(tmp_path: Path) -> None:
    tensors = torchvision_weights()
    path = tmp_path / 'shufflenetv2_x1-5666bf0f80.pth'
    torch.save(tensors, path)
    network = make(19, 'shufflenet_v2_dpc')
    training, remaining = start_from(network, str(path))
    assert training == {'source': path.name}
    assert all(key.startswith(('head.', 'classifier.')) for key in remaining)
    for key, tensor in network.encoder.state_dict().items():
        if key not in ('conv1.0.weight', 'conv1.1.running_mean'):
            torch.testing.assert_close(tensor, tensors[key], rtol=0, atol=0)
    # Only the last layers are not used.
    unused = set(tensors) - set(network.encoder.state_dict())
    assert {name.partition('.')[0] for name in unused} == {'conv5', 'fc'}


def test_torchvision_weights_see_the_colors_they_were_trained_on(tmp_path: Path) -> None:
    tensors = torchvision_weights()
    path = tmp_path / 'shufflenet.pth'
    torch.save(tensors, path)
    network = make(19, 'shufflenet_v2_deeplab').eval()
    start_from(network, str(path))
    plain = make(19, 'shufflenet_v2_deeplab').eval().encoder.conv1
    plain.load_state_dict({k[6:]: t for k, t in tensors.items() if k.startswith('conv1.')})
    image = torch.rand(1, 3, 64, 64)
    ours = (image - torch.tensor(network.MEAN)[:, None, None]) / 0.5
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    theirs = (image - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        found, expected = network.encoder.conv1(ours), plain(theirs)
    # Beyond the border both see zeros, which stand for different colors.
    torch.testing.assert_close(found[..., 1:, 1:], expected[..., 1:, 1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain(ours), expected, atol=1e-2)


def test_another_width_of_torchvision_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / 'shufflenetv2_x0.5.pth'
    torch.save({k: t[:1] if t.ndim == 4 else t for k, t in torchvision_weights().items()}, path)
    with pytest.raises(CheckpointError, match=r'x0\.5\.pth: not weights to start ShuffleNetV2'):
        start_from(make(19, 'shufflenet_v2_dpc'), str(path))


def test_lednet_rejects_the_torchvision_file(tmp_path: Path) -> None:
    path = tmp_path / 'shufflenet.pth'
    torch.save(torchvision_weights(), path)
    with pytest.raises(CheckpointError, match='not weights to start LEDNet'):
        start_from(make(), str(path))
