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

"""Every network in every backend that runs here, by its checkpoint alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lednet_ros.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.models import build_network, load_network, NETWORKS
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest
import torch

SIZE = (96, 160)
MakeWeights = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture(params=NETWORKS)
def content(
    request: pytest.FixtureRequest, small_content: Checkpoint, make_weights: MakeWeights
) -> Checkpoint:
    """Give a checkpoint of each network, with weights by rule."""
    network = build_network(request.param, 11)
    return replace(
        small_content,
        network=request.param,
        input_size=SIZE,
        mean=network.MEAN,
        std=network.STD,
        state_dict=make_weights(network, 0, 6.0),
    )


def test_checkpoints_come_back(content: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / 'network.safetensors'
    save_checkpoint(content, path)
    again = load_checkpoint(path)
    assert (again.network, again.mean, again.std) == (content.network, content.mean, content.std)
    network = load_network(again, path)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, content.state_dict[key])


@pytest.mark.parametrize('backend', ['torch_eager', 'openvino'])
def test_labels_are_those_of_the_network(content: Checkpoint, backend: str) -> None:
    if backend == 'openvino':
        pytest.importorskip('openvino')
    frame = StreetScene(SIZE[1], SIZE[0], seed=3).render(1.0)[0]
    segmenter = Segmenter(content, device='cpu', backend=backend, precision='fp32')
    labels = segmenter.segment([frame]).labels[0]
    network = load_network(content, 'test').eval()
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].double() / 255
    mean, std = (torch.tensor(v).double()[:, None, None] for v in (content.mean, content.std))
    with torch.no_grad():
        scores = network.double()((image - mean) / std)[0]
    expected = scores.argmax(0).numpy()
    assert len(np.unique(expected)) > 2
    # Where the two best are as good as equal, rounding decides.
    best = scores.topk(2, dim=0).values
    clear = (best[0] - best[1] > 1e-4 * float(scores.abs().max())).numpy()
    assert clear.mean() > 0.99
    assert np.array_equal(labels[clear], expected[clear])
