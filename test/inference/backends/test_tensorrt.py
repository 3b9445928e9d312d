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

"""
Tests of what TensorRT engines are built from, run by ONNX Runtime on the CPU.

The engine itself needs a GPU.
"""

from dataclasses import replace

from lednet_ros.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.inference.backends.tensorrt import IMAGES, OnnxSource, SCORES
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.inference.preprocess import normalize
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.models import load_network
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest
import torch

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

SIZE = (96, 128)
CLASSES = 11


@pytest.fixture(scope='module')
def shipped() -> Checkpoint:
    return replace(load_checkpoint('lednet'), input_size=SIZE)


def make_source(content: Checkpoint, precision: str) -> OnnxSource:
    options = SegmenterOptions(precision=precision, input_size=content.input_size)
    return OnnxSource(load_network(content, 'test'), content, options)


def make_images(content: Checkpoint, count: int) -> torch.Tensor:
    streets = [StreetScene(SIZE[1], SIZE[0], seed=3).render(k)[0] for k in range(count)]
    return normalize(torch.from_numpy(np.stack(streets)), content.mean, content.std)


def run(content: bytes, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    found = session.run([SCORES], {IMAGES: images.permute(0, 2, 3, 1).contiguous().numpy()})[0]
    assert isinstance(found, np.ndarray)
    return found


# In fp32, test_networks.py compares all networks before their export.
@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize(('precision', 'tolerance'), [('fp32', 1e-3), ('fp16', 0.2)])
def test_the_file_is_the_network(shipped: Checkpoint, precision: str, tolerance: float) -> None:
    images = make_images(shipped, 2)
    expected = load_network(shipped, 'test').eval().scores(images).numpy()
    source = make_source(shipped, precision)
    found = run(source.export(2), images.to(source.dtype))
    assert found.shape == (2, CLASSES, 12, 16)
    assert np.abs(found - expected).max() < tolerance


@torch.inference_mode()
def test_int8_has_signed_symmetric_pairs_and_nearly_the_same_labels(shipped: Checkpoint) -> None:
    images = make_images(shipped, 1)
    source = make_source(shipped, 'int8')
    content = source.export(1)
    graph = onnx.load_from_string(content).graph
    points = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type == 'QuantizeLinear']
    assert len(pairs) > 200
    for node in pairs:
        scale, zero = (points[name] for name in node.input[1:])
        # Quantization is put around the convolutions of an fp16 network.
        assert scale.dtype == np.float16
        assert (scale > 0).all()
        assert zero.dtype == np.int8
        assert not zero.any()
    labels = load_network(shipped, 'test').eval().scores(images).argmax(dim=1).numpy()
    assert (run(content, images.to(source.dtype)).argmax(axis=1) == labels).mean() > 0.95


def test_description_changes_with_every_input(shipped: Checkpoint) -> None:
    names = ('fp32', 'fp32', 'fp16')
    first, again, half = (make_source(shipped, name).describe() for name in names)
    assert first == again != half
    assert make_source(replace(shipped, input_size=(64, 96)), 'fp32').describe() != first
    options = SegmenterOptions(precision='fp32', input_size=SIZE)
    network = load_network(shipped, 'test', groups=[[0, 1], range(2, 11)])
    assert OnnxSource(network, shipped, options).describe() != first
    ranges = {name: (low, 2 * high) for name, (low, high) in shipped.activation_ranges.items()}
    other = replace(shipped, activation_ranges=ranges)
    assert make_source(other, 'int8').describe() != make_source(shipped, 'int8').describe()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'int8'])
def test_engine_has_the_labels_of_pytorch(shipped: Checkpoint, precision: str) -> None:
    pytest.importorskip('tensorrt')
    frame = StreetScene(128, 96, seed=3).render(0.0)[0]
    plain = Segmenter(shipped, device='cuda', backend='torch_eager', precision='fp32')
    expected = plain.segment(frame).labels[0]
    for _ in range(2):
        # The second engine is from the cache.
        engine = Segmenter(shipped, device='cuda', backend='tensorrt', precision=precision)
        assert (engine.segment(frame).labels[0] == expected).mean() > 0.95
