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
Export of networks to other runtimes: from the bytes of a frame to labels or logits.

Normalization is inside, so that whoever runs the file needs to know nothing but its input's size.
"""

import logging
import os
from pathlib import Path
import tempfile
import warnings

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.files import atomic_path, make_folder, publish
from lednet_ros.inference.onnx_export import export_onnx
from lednet_ros.inference.options import ConfigurationError
from lednet_ros.inference.preprocess import byte_factors
from lednet_ros.limits import MIN_SIZE
from lednet_ros.models import load_network
from lednet_ros.models.fused import FoldedNetwork
from lednet_ros.models.network import upsample
import torch
from torch import nn, Tensor

SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml', 'litert': '.tflite'}
PACKAGES = {'onnx': 'onnxscript', 'openvino': 'openvino', 'litert': 'litert-torch ai-edge-litert'}
OUTPUTS = ('labels', 'scores')
IMAGES = 'images'


class ExportedNetwork(nn.Module):
    """
    A checkpoint's network, from bytes to labels or logits.

    Parameters
    ----------
    checkpoint, source
        See `load_network`.
    output
        'labels' for class ids at the input's size, 'scores' for the network's logits.

    """

    def __init__(self, checkpoint: Checkpoint, source: str | Path, output: str) -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise ConfigurationError(f"output is '{output}'; allowed: {', '.join(OUTPUTS)}")
        self.network = FoldedNetwork(
            load_network(checkpoint, source).eval(),
            *byte_factors(checkpoint.mean, checkpoint.std),
            checkpoint.label_map.num_classes,
        ).eval()
        self.labels = output == 'labels'

    def forward(self, images: Tensor) -> Tensor:
        """
        Segment images.

        Parameters
        ----------
        images
            RGB, (N, H, W, 3) uint8.

        Returns
        -------
        Tensor
            Class ids (N, H, W) uint8, or logits (N, h, w, classes) float32.

        """
        logits: Tensor = self.network(images)
        if not self.labels:
            return logits
        full = upsample(logits.permute(0, 3, 1, 2), (images.shape[1], images.shape[2]))
        return full.argmax(1).to(torch.uint8)


def export_network(
    checkpoint: Checkpoint,
    source: str | Path,
    path: Path,
    file_format: str,
    input_size: tuple[int, int] | None = None,
    output: str = 'labels',
    batch_size: int = 1,
) -> Path:
    """
    Write a checkpoint's network as a file for another runtime.

    Parameters
    ----------
    checkpoint, source, output
        See `ExportedNetwork`.
    path
        The file, replaced in one step; OpenVINO's weights go next to it, as `.bin`.
    file_format
        A key of `SUFFIXES`; `path` must have its suffix.
    input_size
        Height and width of the images; None takes the checkpoint's.
    batch_size
        Images in a batch.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigurationError
        A choice is not allowed, or the format's packages are not installed.
    CheckpointError
        The network is unknown, or the weights do not fit it.
    RuntimeError
        The converter can't convert it.
    OSError
        The file can't be written.

    """
    if file_format not in SUFFIXES:
        raise ConfigurationError(f"format is '{file_format}'; allowed: {', '.join(SUFFIXES)}")
    if path.suffix != SUFFIXES[file_format]:
        raise ConfigurationError(
            f"the file is '{path.name}'; with format '{file_format}' it must end with "
            f"'{SUFFIXES[file_format]}'"
        )
    if batch_size < 1:
        raise ConfigurationError(f'batch_size is {batch_size}; it must be 1 or more')
    height, width = input_size or checkpoint.input_size
    if min(height, width) < MIN_SIZE:
        raise ConfigurationError(
            f'input_size is {height}x{width}; it must be {MIN_SIZE}x{MIN_SIZE} or more'
        )
    make_folder(path.parent)
    network = ExportedNetwork(checkpoint, source, output).eval()
    example = torch.zeros((batch_size, height, width, 3), dtype=torch.uint8)
    try:
        # Converters warn about their own code, and about shapes that are fixed on purpose.
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            if file_format == 'openvino':
                _write_openvino(network, example, path, output)
                return path
            if file_format == 'onnx':
                content = export_onnx(network, example, IMAGES, output)
            else:
                content = _to_litert(network, example, output)
    except ImportError as error:
        raise ConfigurationError(
            f"format '{file_format}' needs packages that are not installed here: pip install "
            f'{PACKAGES[file_format]} ({error})'
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def _write_openvino(network: nn.Module, example: Tensor, path: Path, output: str) -> None:
    # Blocks OpenVINO's telemetry, and so comes first.
    from lednet_ros.inference.backends.openvino import convert
    import openvino

    model = convert(network, example)
    model.inputs[0].set_names({IMAGES})
    model.outputs[0].set_names({output})
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        openvino.save_model(model, written, compress_to_fp16=False)
        # The graph comes last: without it there is no model.
        for suffix in ('.bin', '.xml'):
            publish(written.with_suffix(suffix), path.with_suffix(suffix))


def _to_litert(network: nn.Module, example: Tensor, output: str) -> bytes:
    # Read when the converter is imported; its progress would end up in logs.
    os.environ.setdefault('LITERT_TORCH_SHOW_PROGRESS', 'n')
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    for name in ('torchao', 'torch.utils._pytree'):
        logging.getLogger(name).setLevel(logging.ERROR)
    from ai_edge_litert.interpreter import Interpreter
    import litert_torch

    named = _Named(network, output).eval()
    converted = litert_torch.convert(named, sample_kwargs={IMAGES: example})
    content: bytes = converted.model_content()
    # It may return files that can't be run, without an error.
    Interpreter(model_content=content, num_threads=1).allocate_tensors()
    return content


class _Named(nn.Module):
    """Names its output in the file."""

    def __init__(self, network: nn.Module, output: str) -> None:
        super().__init__()
        self.network = network
        self.output = output

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {self.output: self.network(images)}
