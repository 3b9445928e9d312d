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

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lednet_ros.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lednet_ros.inference.backends.cuda_graph import DeviceBackend, Ends, TorchEnds, TritonEnds
from lednet_ros.inference.backends.tensorrt import IMAGES, OnnxSource, SCORES
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.inference.preprocess import normalize
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.models import load_network
from lednet_ros.synthetic import StreetScene
import numpy as np
from numpy.typing import NDArray
import pytest
import torch

SIZE = (96, 160)
Groups = Sequence[Sequence[int]]


@pytest.fixture
def content(content_of_each_network: Checkpoint) -> Checkpoint:
    return replace(content_of_each_network, input_size=SIZE)


def make_frame() -> NDArray[np.uint8]:
    return StreetScene(SIZE[1], SIZE[0], seed=3).render(1.0)[0]


def run_engine_source(
    content: Checkpoint, precision: str, image: torch.Tensor, groups: Groups = ()
) -> NDArray[np.float32]:
    """Run what TensorRT's engines are built from."""
    onnxruntime = pytest.importorskip('onnxruntime')
    options = SegmenterOptions(precision=precision, input_size=content.input_size)
    source = OnnxSource(load_network(content, 'test', groups=groups), content, options)
    file = source.export(1)
    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    pixels = image.permute(0, 2, 3, 1).contiguous().to(source.dtype).numpy()
    return session.run([SCORES], {IMAGES: pixels})[0]


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
    frame = make_frame()
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


def test_cuda_graphs_and_kernels_give_the_same(
    content: Checkpoint, kernel_device: torch.device
) -> None:
    network = load_network(content, 'test').eval().to(kernel_device)
    options = SegmenterOptions(
        device=str(kernel_device), backend='torch_eager', precision='fp32', input_size=SIZE
    )
    ends = TritonEnds(content, kernel_device)
    backend = DeviceBackend(network.scores, content, options, ends)
    ours = Segmenter(content, device=kernel_device.type, backend=lambda: backend)
    reference = Segmenter(content, device='cpu', backend='torch_eager', precision='fp32')
    frame = make_frame()
    expected = reference.segment([frame]).labels[0].copy()
    assert (ours.segment([frame]).labels[0] == expected).mean() > 0.999


def test_merged_classes_are_the_same_everywhere(
    content: Checkpoint, merged: Path, kernel_device: torch.device
) -> None:
    """Compare OpenVINO and both ends for a device with PyTorch."""
    pytest.importorskip('openvino')
    options = SegmenterOptions(
        device='cpu', backend='torch_eager', precision='fp32', input_size=SIZE, classes=str(merged)
    )
    reference = Segmenter(content, options)
    frame = make_frame()
    expected = reference.segment([frame], color=True)
    logits = reference.last_logits()[0]
    assert logits.shape[2] == 4
    groups = reference.label_map.groups

    def on_device(ends: Ends) -> Segmenter:
        network = load_network(content, 'test', groups=groups).eval().to(kernel_device)
        own = replace(options, device=str(kernel_device))
        backend = DeviceBackend(network.scores, content, own, ends)
        return Segmenter(content, own, backend=lambda: backend)

    for other in (
        Segmenter(content, options, backend='openvino'),
        on_device(TritonEnds(content, kernel_device)),
        on_device(TorchEnds(content)),
    ):
        found = other.segment([frame], color=True)
        assert found.color is not None
        assert expected.color is not None
        assert (found.labels[0] == expected.labels[0]).mean() > 0.99
        assert (found.color[0] == expected.color[0]).mean() > 0.99
        assert np.abs(other.last_logits()[0] - logits).max() < 1e-3 * np.ptp(logits)


@pytest.mark.parametrize(
    'groups', [(), pytest.param(((0, 3), (1, 2, 4)), marks=pytest.mark.slow)]
)
def test_source_of_engines_has_the_same_logits(content: Checkpoint, groups: Groups) -> None:
    # ONNX Runtime stands for TensorRT, which needs a GPU.
    pytest.importorskip('onnxscript')
    image = normalize(torch.from_numpy(make_frame())[None], content.mean, content.std)
    with torch.no_grad():
        expected = load_network(content, 'test', groups=groups).eval().scores(image).numpy()
    assert expected.shape[1] == (len(groups) or 11)
    found = run_engine_source(content, 'fp32', image, groups)
    assert np.abs(found - expected).max() < 1e-4 * np.ptp(expected)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['shufflenet_v2_deeplab', 'shufflenet_v2_dpc'])
def test_int8_labels_are_close(name: str) -> None:
    # With trained weights: random ones decide by rounding.
    pytest.importorskip('openvino')
    pytest.importorskip('onnxscript')
    shipped = replace(load_checkpoint(name), input_size=SIZE)
    exact, quantized = (
        Segmenter(shipped, device='cpu', backend='openvino', precision=precision)
        for precision in ('fp32', 'int8')
    )
    expected = exact.segment([make_frame()]).labels[0].copy()
    assert (quantized.segment([make_frame()]).labels[0] == expected).mean() > 0.9
    image = normalize(torch.from_numpy(make_frame())[None], shipped.mean, shipped.std)
    with torch.no_grad():
        cells = load_network(shipped, name).eval().scores(image).argmax(1).numpy()
    assert (run_engine_source(shipped, 'int8', image).argmax(1) == cells).mean() > 0.9
