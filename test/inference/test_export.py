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

"""Exported files in other runtimes, compared with the original network."""

from dataclasses import replace
from pathlib import Path
import sys
from typing import Any

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.cli.main import main
from lednet_ros.inference.export import export_network, ExportedNetwork, SUFFIXES
from lednet_ros.inference.options import ConfigurationError
from lednet_ros.models import NETWORKS
from lednet_ros.synthetic import StreetScene
import numpy as np
from numpy.typing import NDArray
import pytest
import torch

SIZE = (97, 161)


@pytest.fixture
def content(content_of_each_network: Checkpoint) -> Checkpoint:
    return replace(content_of_each_network, input_size=SIZE)


def run_file(path: Path, images: NDArray[np.uint8], output: str) -> NDArray[Any]:
    """Run an exported file in its runtime."""
    if path.suffix == '.onnx':
        onnxruntime = pytest.importorskip('onnxruntime')
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        assert [value.name for value in session.get_outputs()] == [output]
        return session.run(None, {'images': images})[0]
    if path.suffix == '.xml':
        openvino = pytest.importorskip('openvino')
        options = {'INFERENCE_PRECISION_HINT': 'f32'}
        return openvino.Core().compile_model(path, 'CPU', options)({'images': images})[output]
    litert = pytest.importorskip('ai_edge_litert.interpreter')
    interpreter = litert.Interpreter(str(path), num_threads=1)
    (signature,) = interpreter.get_signature_list().values()
    assert signature == {'inputs': ['images'], 'outputs': [output]}
    return interpreter.get_signature_runner()(images=images)[output]


# Every format of every network; the step from logits to labels is the same for all of them.
EXPORTS = [
    pytest.param(
        network,
        file_format,
        output,
        marks=[pytest.mark.slow] if output == 'labels' and network != 'lednet' else [],
    )
    for network in NETWORKS
    for file_format in SUFFIXES
    for output in ('labels', 'scores')
]


@pytest.mark.parametrize(
    ('content_of_each_network', 'file_format', 'output'),
    EXPORTS,
    indirect=['content_of_each_network'],
)
def test_other_runtimes_compute_the_same(
    content: Checkpoint, tmp_path: Path, file_format: str, output: str
) -> None:
    for package in {'onnx': ('onnxscript', 'onnxruntime'), 'litert': ('litert_torch',)}.get(
        file_format, ('openvino',)
    ):
        pytest.importorskip(package)
    path = tmp_path / f'network{SUFFIXES[file_format]}'
    export_network(content, 'test', path, file_format, output=output)
    assert {p.suffix for p in tmp_path.iterdir()} <= {path.suffix, '.bin'}
    images = np.stack([StreetScene(SIZE[1], SIZE[0], seed=3).render(1.0)[0]])
    found = run_file(path, images, output)
    with torch.no_grad():
        expected = ExportedNetwork(content, 'test', output)(torch.from_numpy(images)).numpy()
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if output == 'labels':
        assert len(np.unique(expected)) > 2
        assert (found == expected).mean() > 0.999
    else:
        assert np.abs(found - expected).max() < 1e-4 * np.ptp(expected)


def test_bad_options_are_named(small_content: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"must end with '\.onnx'"):
        export_network(small_content, 'test', tmp_path / 'a.xml', 'onnx')
    with pytest.raises(ConfigurationError, match="format is 'coreml'"):
        export_network(small_content, 'test', tmp_path / 'a.mlmodel', 'coreml')
    with pytest.raises(ConfigurationError, match="output is 'mask'"):
        export_network(small_content, 'test', tmp_path / 'a.onnx', 'onnx', output='mask')
    path = tmp_path / 'a.onnx'
    with pytest.raises(ConfigurationError, match='input_size is 20x90; it must be 64x64 or more'):
        export_network(small_content, 'test', path, 'onnx', input_size=(20, 90))
    with pytest.raises(ConfigurationError, match='batch_size is 0'):
        export_network(small_content, 'test', path, 'onnx', batch_size=0)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(
    small_content: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'ai_edge_litert', None)
    with pytest.raises(ConfigurationError, match=r"'litert' needs .* pip install litert-torch"):
        export_network(small_content, 'test', tmp_path / 'a.tflite', 'litert')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('file_format', 'package'), [('onnx', 'onnxscript'), ('openvino', 'openvino')]
)
def test_the_command(
    small_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file_format: str,
    package: str,
) -> None:
    pytest.importorskip(package)
    path = tmp_path / 'out' / f'network{SUFFIXES[file_format]}'
    options = ['-o', str(path), '--format', file_format]
    assert main(['export', str(small_checkpoint), *options]) == 0
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    assert size > 1_000_000
    assert capsys.readouterr().out.endswith(f'{path.name}: {size / 1e6:.1f} MB\n')
