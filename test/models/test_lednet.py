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

"""Tests of LEDNet against the paper and against the outputs of the authors' code."""

from collections.abc import Callable
import json
from pathlib import Path

from lednet_ros.models import build_network, NETWORKS
from lednet_ros.models.lednet import DownsamplingUnit, LEDNet, SSnbtUnit, upsample
import numpy as np
import pytest
import torch
from torch import nn, Tensor

GOLDEN = Path(__file__).with_name('lednet_golden.json')
NAMES = ['lednet', 'lednet_heavy']

MakeWeights = Callable[..., dict[str, Tensor]]


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def build(name: str, classes: int, make_weights: MakeWeights, gain: float = 3.5) -> LEDNet:
    network = build_network(name, classes)
    network.load_state_dict(make_weights(network, 0, gain))
    return network.eval()


# --- Against the authors' code --------------------------------------------------------------


@pytest.mark.parametrize('name', NAMES)
def test_outputs_equal_the_authors_network_at_512x1024(
    make_weights: MakeWeights, name: str
) -> None:
    """
    Compare outputs with those of the authors' code for the same weights and image, to 1e-5.

    lednet_golden.json was made by running `Net(20)` of `train/lednet.py` (here: `lednet`) and
    `train/lednet_1.py` (`lednet_heavy`) of the authors' repository xiaoyufenfei/LEDNet, in eval
    mode and float64, with the weights by the rule `make_weights` for seed 3000 and gain 3.5, on
    the image of this test. It holds, for each of the 20 outputs, the mean
    and standard deviation over all pixels and the values at 38 pixels (the four corners and 34
    random ones), rounded to 7 decimals. Rounding in float32 alone causes 3e-6.
    """
    golden = json.loads(GOLDEN.read_text(encoding='utf-8'))
    blocks = np.random.RandomState(1).uniform(0, 1, (1, 3, 16, 32))
    noise = np.random.RandomState(2).uniform(0, 1, (1, 3, 512, 1024))
    image = (np.kron(blocks, np.ones((32, 32))) + noise) / 2
    network = build_network(name, 20)
    network.load_state_dict(make_weights(network, 3000, 3.5))
    with torch.inference_mode():
        scores = network.eval()(torch.from_numpy(image.astype(np.float32)))[0].double()
    assert scores.shape == (20, 512, 1024)
    samples = scores[:, golden['rows'], golden['columns']]
    expected = golden[name]
    np.testing.assert_allclose(samples.numpy(), expected['samples'], rtol=0, atol=1e-5)
    np.testing.assert_allclose(scores.mean((1, 2)), expected['mean'], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        scores.std((1, 2), correction=0), expected['std'], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(('name', 'count'), [('lednet', 925_663), ('lednet_heavy', 2_288_140)])
def test_parameters_at_20_classes(name: str, count: int) -> None:
    network = build_network(name, 20)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize('name', NAMES)
def test_state_dict_has_the_authors_names(name: str) -> None:
    weights = build_network(name, 20).state_dict()
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    width = 1 if name == 'lednet' else 128
    assert len(shapes) == 547
    assert shapes['encoder.initial_block.conv.weight'] == (29, 3, 3, 3)
    assert shapes['encoder.layers.0.conv3x1_1_l.weight'] == (16, 16, 3, 1)
    assert shapes['encoder.layers.3.conv.weight'] == (32, 32, 3, 3)
    assert shapes['encoder.layers.6.bn.running_var'] == (128,)
    assert shapes['encoder.layers.14.conv1x3_2_r.bias'] == (64,)
    assert shapes['encoder.output_conv.weight'] == (20, 128, 1, 1)
    assert shapes['decoder.apn.branch1.1.conv.0.weight'] == (20, 128, 1, 1)
    assert shapes['decoder.apn.mid.0.conv.1.num_batches_tracked'] == ()
    assert shapes['decoder.apn.down1.conv.0.weight'] == (width, 128, 7, 7)
    assert shapes['decoder.apn.down3.0.conv.0.weight'] == (width, width, 3, 3)
    assert shapes['decoder.apn.conv1.conv.0.weight'] == (
        (1, 1, 7, 7) if width == 1 else (20, 128, 1, 1)
    )
    assert 'encoder.layers.15.bn1_l.weight' not in shapes


def test_batch_norm_is_the_authors() -> None:
    norms = [m for m in build_network('lednet', 20).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}
    convolutions = [m for m in build_network('lednet', 20).modules() if isinstance(m, nn.Conv2d)]
    assert all(convolution.bias is not None for convolution in convolutions)


def test_corners_are_aligned() -> None:
    full = upsample(torch.tensor([[[[0.0, 3.0]]]]), (1, 4))
    assert full.flatten().tolist() == pytest.approx([0, 1, 2, 3])


# --- Against the paper ----------------------------------------------------------------------


def test_encoder_is_that_of_table_1() -> None:
    encoder = build_network('lednet', 20).encoder
    found = []
    for layer in [encoder.initial_block, *encoder.layers]:
        if isinstance(layer, DownsamplingUnit):
            found.append(('down', layer.bn.num_features))
        else:
            assert isinstance(layer, SSnbtUnit)
            found.append(('unit', layer.bn1_l.num_features * 2, *layer.conv3x1_2_r.dilation[:1]))
    assert found == [
        ('down', 32),
        *[('unit', 32, 1)] * 3,
        ('down', 64),
        *[('unit', 64, 1)] * 2,
        ('down', 128),
        *[('unit', 128, rate) for rate in (1, 2, 5, 9, 2, 5, 9, 17)],
    ]


def test_encoder_halves_three_times() -> None:
    encoder = build_network('lednet', 20).encoder.eval()
    x = random_images(1, 3, 64, 128)
    shapes = []
    with torch.inference_mode():
        for layer in [encoder.initial_block, *encoder.layers]:
            x = layer(x)
            shapes.append(tuple(x.shape[1:]))
    assert list(dict.fromkeys(shapes)) == [(32, 32, 64), (64, 16, 32), (128, 8, 16)]


def test_unit_branches_run_in_mirrored_order_with_its_dilation() -> None:
    unit = SSnbtUnit(8, 0.0, dilation=5).eval()
    order: list[str] = []
    for name, module in unit.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    unit(random_images(1, 8, 16, 16))
    left = [name for name in order if name.endswith('l')]
    right = [name for name in order if name.endswith('r')]
    assert left == ['conv3x1_1_l', 'conv1x3_1_l', 'conv3x1_2_l', 'conv1x3_2_l']
    assert right == ['conv1x3_1_r', 'conv3x1_1_r', 'conv1x3_2_r', 'conv3x1_2_r']
    shapes = {name: (m.kernel_size, m.dilation) for name, m in unit.named_modules()
              if isinstance(m, nn.Conv2d)}
    for side in 'lr':
        assert shapes[f'conv3x1_1_{side}'] == ((3, 1), (1, 1))
        assert shapes[f'conv1x3_1_{side}'] == ((1, 3), (1, 1))
        assert shapes[f'conv3x1_2_{side}'] == ((3, 1), (5, 1))
        assert shapes[f'conv1x3_2_{side}'] == ((1, 3), (1, 5))


def test_unit_adds_its_input_and_shuffles_in_two_groups() -> None:
    unit = SSnbtUnit(8, 0.0, dilation=2).eval()
    for parameter in unit.parameters():
        nn.init.zeros_(parameter)
    x = random_images(1, 8, 4, 4) - 0.5
    with torch.inference_mode():
        out = unit(x)
    assert torch.equal(out, x.relu()[:, [0, 4, 1, 5, 2, 6, 3, 7]])


def test_downsampling_joins_convolution_and_pooling() -> None:
    unit = DownsamplingUnit(3, 8).eval()
    x = random_images(1, 3, 6, 10)
    with torch.inference_mode():
        out = unit(x) * (1 + 1e-3) ** 0.5
    assert out.shape == (1, 8, 3, 5)
    torch.testing.assert_close(out[:, 5:], nn.functional.max_pool2d(x, 2))
    torch.testing.assert_close(out[:, :5], unit.conv(x).relu())


def test_only_the_units_drop_out() -> None:
    found = [m.p for m in build_network('lednet', 20).modules() if isinstance(m, nn.Dropout2d)]
    assert found == [0.03] * 5 + [0.3] * 8


# --- Any size, any number of classes, any precision -----------------------------------------


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(
    ('height', 'width', 'batch', 'classes'),
    [(64, 64, 1, 1), (65, 97, 2, 2), (360, 480, 1, 11), (127, 64, 2, 20)],
)
def test_any_size_and_number_of_classes(
    make_weights: MakeWeights, name: str, height: int, width: int, batch: int, classes: int
) -> None:
    network = build(name, classes, make_weights)
    images = random_images(batch, 3, height, width)
    with torch.inference_mode():
        scores = network.scores(images)
        full = network(images)
        single = network(images[-1:])
    assert scores.shape == (batch, classes, -(-height // 8), -(-width // 8))
    assert full.shape == (batch, classes, height, width)
    assert full.dtype == torch.float32
    assert full.isfinite().all()
    assert full.std() > 0
    torch.testing.assert_close(full[-1:], single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.bfloat16, 0.1), (torch.float16, 0.01), (torch.float64, 1e-5)]
)
def test_other_precisions(
    make_weights: MakeWeights, name: str, dtype: torch.dtype, tolerance: float
) -> None:
    network = build(name, 11, make_weights)
    images = random_images(2, 3, 65, 97)
    with torch.inference_mode():
        expected = network(images)
        found = network.to(dtype)(images.to(dtype))
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 0.01), (torch.float16, 0.02), (torch.bfloat16, 0.1)]
)
def test_cuda_equals_the_cpu(
    make_weights: MakeWeights, name: str, dtype: torch.dtype, tolerance: float
) -> None:
    network = build(name, 11, make_weights)
    images = random_images(2, 3, 65, 97)
    with torch.inference_mode():
        expected = network(images)
        found = network.to('cuda', dtype)(images.to('cuda', dtype)).float().cpu()
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize(('height', 'width'), [(63, 64), (64, 63), (8, 8)])
def test_small_input_is_rejected(height: int, width: int) -> None:
    network = build_network('lednet', 11).eval()
    with pytest.raises(ValueError, match=f'input is {height}x{width}; it must be 64x64 or more'):
        network(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize('name', NAMES)
def test_every_parameter_of_the_outputs_is_trained(name: str) -> None:
    network = build_network(name, 3).train()
    (network(random_images(2, 3, 64, 64)) ** 2).mean().backward()
    without = [key for key, value in network.named_parameters() if value.grad is None]
    assert without == ['encoder.output_conv.weight', 'encoder.output_conv.bias']
    network.zero_grad()
    scores = network.encoder_scores(random_images(2, 3, 64, 64))
    assert scores.shape == (2, 3, 8, 8)
    scores.mean().backward()
    assert network.encoder.output_conv.weight.grad is not None


# --- The builder ----------------------------------------------------------------------------


def test_unknown_network_is_reported() -> None:
    with pytest.raises(ValueError, match="unknown network 'lednt'; allowed: lednet, "):
        build_network('lednt', 11)


@pytest.mark.parametrize('classes', [0, -1])
def test_number_of_classes_is_checked(classes: int) -> None:
    with pytest.raises(ValueError, match=f'num_classes is {classes}; it must be 1 or more'):
        build_network('lednet', classes)


def test_networks_are_named_as_documented() -> None:
    assert [name for name in NETWORKS if name.startswith('lednet')] == NAMES
