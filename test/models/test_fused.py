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

"""Rearranged networks compute the same logits as the original ones."""

from collections.abc import Callable

from lednet_ros.models import build_network, NETWORKS
from lednet_ros.models.fused import fuse, pool_bytes
from lednet_ros.models.places import shuffle
import numpy as np
import pytest
import torch
from torch import nn, Tensor
from torch.nn import functional

MakeWeights = Callable[[nn.Module, int, float], dict[str, Tensor]]
SCALE, SHIFT = (0.017, 0.018, 0.016), (2.1, 2.0, 1.8)


def images(count: int, height: int, width: int) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, height, width, 3), np.uint8))


@pytest.mark.parametrize('channels', [4, 32, 58, 128])
def test_places_are_shuffled_like_channels(channels: int) -> None:
    x = torch.arange(channels, dtype=torch.float32)[None, :, None, None]
    places = [(0, channel) for channel in range(channels)]
    for _ in range(9):
        x = functional.channel_shuffle(x, 2)
        places = shuffle(places)
        assert [channel for _, channel in places] == x.flatten().tolist()


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('size', [(64, 96), (65, 97), (77, 131)])
def test_logits_are_those_of_the_network(
    make_weights: MakeWeights, name: str, size: tuple[int, int]
) -> None:
    network = build_network(name, 12)
    network.load_state_dict(make_weights(network, 0, 6.0))
    network.double().eval()
    batch = images(2, *size)
    scale, shift = (torch.tensor(x).double()[:, None, None] for x in (SCALE, SHIFT))
    fused = fuse(network, SCALE, SHIFT, 11).double().eval()
    with torch.inference_mode():
        expected = network.scores(batch.permute(0, 3, 1, 2).double() * scale - shift)[:, :11]
        scores = fused(batch)
    assert expected.std() > 0.1
    torch.testing.assert_close(scores.permute(0, 3, 1, 2), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', NETWORKS)
def test_the_network_is_not_changed(name: str) -> None:
    network = build_network(name, 11).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fuse(network, SCALE, SHIFT, 11)
    after = network.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize('size', [(4, 6), (5, 7), (1, 1), (2, 3)])
def test_bytes_are_pooled_like_the_maps(size: tuple[int, int]) -> None:
    batch = images(2, *size)
    expected = functional.max_pool2d(
        batch.permute(0, 3, 1, 2).float(), 2, stride=2, ceil_mode=True
    )
    assert torch.equal(pool_bytes(batch).permute(0, 3, 1, 2).float(), expected)


@pytest.mark.parametrize('name', NETWORKS)
def test_channels_are_neither_split_nor_shuffled(name: str) -> None:
    fused = fuse(build_network(name, 11).eval(), SCALE, SHIFT, 11)
    with torch.no_grad():
        traced = torch.jit.trace(fused, images(1, 64, 96))
    text = str(traced.inlined_graph)
    assert 'channel_shuffle' not in text
    assert 'batch_norm' not in text
    # LEDNet's channels are regrouped after every second unit.
    assert name.startswith('lednet') or 'aten::chunk' not in text
