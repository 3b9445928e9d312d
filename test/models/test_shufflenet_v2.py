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

"""Tests of ShuffleNet V2 against the tables of Türkmen and Heikkilä, SCIA 2019."""

from lednet_ros.models import build_network, ShuffleNetV2
from lednet_ros.models.describe import describe_network
import pytest
import torch
from torch import nn, Tensor

NAMES = ['shufflenet_v2_deeplab', 'shufflenet_v2_dpc']
# Table 1: channels and side of the output of each row, at 224x224 and output stride 16.
TABLE_1 = {
    'encoder.conv1': (24, 112),
    'encoder.maxpool': (24, 56),
    'encoder.stage2': (116, 28),
    'encoder.stage3': (232, 14),
    'encoder.stage4': (464, 14),
    'head': (256, 14),
    'classifier': (19, 14),
}
UNITS = {'stage2': 4, 'stage3': 8, 'stage4': 4}


def shapes(network: nn.Module, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return the output shape of each part of the network."""
    found = {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda _, __, out, name=name: found.update({name: tuple(out.shape[1:])})
        )
    with torch.no_grad():
        network.eval().scores(torch.zeros(1, 3, *size))
    return found


@pytest.mark.parametrize('name', NAMES)
def test_table_1(name: str) -> None:
    found = shapes(build_network(name, 19), (224, 224))
    for part, (channels, side) in TABLE_1.items():
        assert found[part] == (channels, side, side), part


@pytest.mark.parametrize('name', NAMES)
def test_units_of_the_stages(name: str) -> None:
    encoder = build_network(name, 19).encoder
    assert {stage: len(getattr(encoder, stage)) for stage in UNITS} == UNITS
    dilations = [
        module.dilation
        for unit in encoder.stage4
        for module in unit.modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1
    ]
    # Two branches in the first unit, one in the others.
    assert dilations == [(1, 1)] * 2 + [(2, 2)] * 3


@pytest.mark.parametrize(
    ('name', 'gflops', 'megabytes'),
    [('shufflenet_v2_deeplab', 0.47, 4.6), ('shufflenet_v2_dpc', 0.65, 6.0)],
)
def test_size_and_cost_are_those_of_the_paper(name: str, gflops: float, megabytes: float) -> None:
    found = describe_network(name, 19, (224, 224))
    assert found['gflops'] == pytest.approx(gflops, rel=0.05)
    # Four bytes each.
    assert 4e-6 * found['parameters'] == pytest.approx(megabytes, rel=0.05)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('size', [(64, 64), (97, 131), (224, 224)])
@pytest.mark.parametrize('classes', [1, 11])
def test_any_size_and_number_of_classes(
    name: str, size: tuple[int, int], classes: int
) -> None:
    network = build_network(name, classes).eval()
    with torch.no_grad():
        image = torch.randn(2, 3, *size)
        scores = network.scores(image)
        assert scores.shape == (2, classes, -(-size[0] // 16), -(-size[1] // 16))
        assert network(image).shape == (2, classes, *size)


@pytest.mark.parametrize('head', ['deeplab', 'dpc'])
def test_output_stride_8(head: str) -> None:
    network = ShuffleNetV2(19, head, output_stride=8)
    found = shapes(network, (224, 224))
    assert found['encoder.stage2'] == (116, 28, 28)
    assert found['encoder.stage3'] == (232, 28, 28)
    assert found['encoder.stage4'] == (464, 28, 28)
    assert found['classifier'] == (19, 28, 28)
    # The same weights fit.
    network.load_state_dict(ShuffleNetV2(19, head).state_dict())
    with pytest.raises(ValueError, match='output_stride is 4'):
        ShuffleNetV2(19, head, output_stride=4)


def test_output_stride_8_has_the_same_receptive_field() -> None:
    """With dilations in place of strides, the same weights compute the same features."""
    torch.manual_seed(0)
    coarse, fine = ShuffleNetV2(5, 'deeplab').eval(), ShuffleNetV2(5, 'deeplab', 8).eval()
    fine.load_state_dict(coarse.state_dict())
    x = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        every_second = fine.encoder(x)[:, :, ::2, ::2]
        features = coarse.encoder(x)
    inside = slice(6, -6)
    assert torch.allclose(
        every_second[:, :, inside, inside], features[:, :, inside, inside], atol=1e-5
    )


@pytest.mark.parametrize('name', NAMES)
def test_folding_keeps_the_logits(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, 7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    x = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        before = network.eval().scores(x)
        network.fold_batch_norm()
        after = network.scores(x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


@pytest.mark.parametrize('name', NAMES)
def test_every_parameter_is_trained(name: str) -> None:
    network = build_network(name, 3).train()
    (network(torch.randn(2, 3, 64, 64)) ** 2).mean().backward()
    assert not [key for key, value in network.named_parameters() if value.grad is None]


def test_encoder_has_no_logits() -> None:
    network = build_network('shufflenet_v2_dpc', 3)
    image: Tensor = torch.randn(2, 3, 64, 64)
    for scores in (network.encoder_scores, network.both_scores):
        with pytest.raises(ValueError, match='ShuffleNetV2 has no class scores'):
            scores(image)
