# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Runs a network with OpenVINO on the CPU.

Normalization and network are one compiled model, from bytes to class scores at 1/8. The scores
become labels outside of it, because cells whose corners agree need no arithmetic there (see
`host_kernels`), which OpenVINO's operations can't express.
"""

from collections.abc import Sequence
import hashlib
import io
import os
from pathlib import Path

from lednet_ros import __version__
from lednet_ros.files import atomic_path
from lednet_ros.inference.backend import draw_on_host, Outputs, Style, Wanted
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.postprocess import classify_on_host
from lednet_ros.inference.preprocess import resize_on_host
from lednet_ros.models import LEDNet
import numpy as np
from numpy.typing import NDArray
import openvino
import torch
from torch import nn, Tensor

PRECISIONS = {'fp32': 'f32', 'bf16': 'bf16'}


def cpu_has_bf16() -> bool:
    """Tell whether the CPU has instructions for bf16."""
    return 'BF16' in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')


def cache_folder() -> Path:
    """Give the folder of compiled models: `$LEDNET_ROS_CACHE`, or `lednet_ros` in the user's."""
    named = os.environ.get('LEDNET_ROS_CACHE')
    if named:
        return Path(named)
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'lednet_ros'


class _BytesToScores(nn.Module):
    """Images (N, H, W, 3) uint8 RGB to class scores (N, H/8, W/8, num_classes)."""

    def __init__(
        self, network: LEDNet, num_classes: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes
        scale = [1 / (255 * s) for s in std]
        shift = [m / s for m, s in zip(mean, std, strict=True)]
        self.register_buffer('scale', torch.tensor(scale)[:, None, None])
        self.register_buffer('shift', torch.tensor(shift)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        # As `preprocess.normalize`, whose operations in place OpenVINO's converter gets wrong.
        normalized = images.permute(0, 3, 1, 2).float() * self.scale - self.shift
        scores = self.network.scores(normalized)[:, : self.num_classes]
        return scores.permute(0, 2, 3, 1)


class _Request:
    """A compiled model of one batch size with its input and output memory."""

    def __init__(self, compiled: openvino.CompiledModel, shape: tuple[int, ...]) -> None:
        self.images = np.zeros(shape, np.uint8)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self.images, shared_memory=True))

    def run(self) -> NDArray[np.float32]:
        """Give the scores (N, h, w, C) of `images`, valid until the next call."""
        self._request.infer()
        return np.asarray(self._request.get_output_tensor().data)


class OpenVINOBackend:
    """
    OpenVINO on the CPU; models are compiled once for each batch size and kept on disk.

    Parameters
    ----------
    network
        The network with its weights, float32, on the CPU; it is changed.
    num_classes
        Outputs that may win a pixel; the network may have more.
    input_size
        Height and width of the network's input.
    mean, std
        Normalization per channel (red, green, blue).
    precision
        One of `PRECISIONS`.
    num_threads
        CPU threads; 0 leaves it to OpenVINO.

    """

    def __init__(
        self,
        network: LEDNet,
        *,
        num_classes: int,
        input_size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        precision: str,
        num_threads: int,
    ) -> None:
        self._input_size = input_size
        self._core = openvino.Core()
        self._options = {
            'INFERENCE_PRECISION_HINT': PRECISIONS[precision],
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_NUM_THREADS': num_threads,
        }
        network.eval()
        network.fold_batch_norm()
        self._network = _BytesToScores(network, num_classes, mean, std).eval()
        self._fingerprint = self._describe()
        self._requests: dict[int, _Request] = {}

    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """
        Segment a batch; see `Backend.run`.

        Raises
        ------
        RuntimeError
            OpenVINO can't compile or run the network.

        """
        count = len(frames)
        if count not in self._requests:
            shape = (count, *self._input_size, 3)
            self._requests[count] = _Request(self._compile(shape), shape)
        request = self._requests[count]
        for image, frame in zip(request.images, frames, strict=True):
            resize_on_host(frame.pixels, self._input_size, frame.color_order == 'bgr', image)
        for scores, output in zip(request.run(), outputs, strict=True):
            classify_on_host(
                scores,
                style.min_confidence,
                output.array('labels'),
                output.array('confidence') if wanted.confidence else None,
            )
        draw_on_host(frames, outputs, wanted, style)

    def _compile(self, shape: tuple[int, ...]) -> openvino.CompiledModel:
        """Take the compiled model from the cache, or make it and put it there."""
        key = hashlib.sha256(f'{self._fingerprint} {shape}'.encode()).hexdigest()[:32]
        path = cache_folder() / f'{key}.openvino'
        try:
            return self._core.import_model(path.read_bytes(), 'CPU', self._options)
        except (OSError, RuntimeError):
            # Absent, or damaged: made anew.
            pass
        example = torch.zeros(shape, dtype=torch.uint8)
        with torch.inference_mode(mode=False), torch.no_grad():
            model = openvino.convert_model(self._network, example_input=example, input=[shape])
        compiled = self._core.compile_model(model, 'CPU', self._options)
        stream = io.BytesIO()
        compiled.export_model(stream)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_bytes(stream.getvalue())
        except OSError:
            # A full or read-only disk costs the next start some seconds, no more.
            pass
        return compiled

    def _describe(self) -> str:
        """Give everything that a compiled model depends on, but the shape of its input."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._network.state_dict().items()):
            digest.update(f'{name} {tuple(tensor.shape)}'.encode())
            digest.update(tensor.numpy().tobytes())
        processor = self._core.get_property('CPU', 'FULL_DEVICE_NAME')
        capabilities = self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        parts = (
            digest.hexdigest(), self._network.num_classes, self._options, processor, capabilities,
            openvino.__version__, torch.__version__, __version__,
        )
        return ' '.join(map(str, parts))
