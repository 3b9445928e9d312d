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
Runs a network with OpenVINO on the CPU.

Normalization and network are one compiled model, from bytes to logits at 1/8. The scores
become labels outside of it, because cells whose corners agree need no arithmetic there (see
`host_kernels`), which OpenVINO's operations can't express.

For int8, quantization is put around the convolutions, with the ranges of `calibration.py`. It pays
on CPUs without matrix units (AMX), whose int8 instructions do twice the work of the bf16 ones.
"""

from collections.abc import Sequence
import functools
import io
import os
import re
import sys
import warnings

from lednet_ros import __version__
from lednet_ros.checkpoint import Checkpoint
from lednet_ros.files import keep_in_cache
from lednet_ros.inference.backends.base import Outputs, Style, Wanted
from lednet_ros.inference.backends.calibration import Calibration, fuse_checkpoint, Ranges
from lednet_ros.inference.backends.compiled import compiled_path, digest_weights
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.inference.postprocess import classify_on_host
from lednet_ros.inference.preprocess import resize_on_host
from lednet_ros.machine import int8_sums_saturate, processor_has_bf16
from lednet_ros.models import SegmentationNetwork
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn

# With this package OpenVINO reports its use to a server from a forked process. The fork may hang
# in a lock of another thread; then the node never ends.
sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
import openvino  # noqa: E402
from openvino import opset13  # noqa: E402

# Channels that are always 0 need a scale, too.
SMALLEST_RANGE = 1e-6

_converted: dict[str, openvino.Model] = {}
"""The last network that was converted."""


def convert(network: nn.Module, example: torch.Tensor) -> openvino.Model:
    """Convert a network, in evaluation mode, for inputs of the shape and type of the example."""
    # OpenVINO's own tracing checks itself by a second one, which takes half the time.
    traced = torch.jit.trace(  # type: ignore[no-untyped-call]
        network, example, strict=False, check_trace=False
    )
    return openvino.convert_model(traced, example_input=example, input=[tuple(example.shape)])


@functools.cache
def _core() -> openvino.Core:
    """
    Return the only core of this process, which lives as long as the process.

    Each core gives the thread that makes it another stack for signal handlers. When several end,
    in whatever order, that stack may be memory that is gone, and the next signal a crash.
    """
    return openvino.Core()


def cpu_capabilities() -> list[str]:
    """List what OpenVINO can use of this CPU, like 'BF16'."""
    return list(_core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))


def cpu_has_bf16() -> bool:
    """Return whether the CPU has bf16 instructions, and OpenVINO uses them."""
    return processor_has_bf16() and 'BF16' in cpu_capabilities()


class _Request:
    """A compiled model of one batch size with its input and output memory."""

    def __init__(self, compiled: openvino.CompiledModel, shape: tuple[int, ...]) -> None:
        self.images = np.zeros(shape, np.uint8)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self.images, shared_memory=True))

    def run(self) -> NDArray[np.float32]:
        """Run the model on `images`; return logits (N, h, w, C), valid until the next call."""
        self._request.infer()
        return np.asarray(self._request.get_output_tensor().data)


def quantize(model: openvino.Model, ranges: Ranges, weight_bits: int = 8) -> None:
    """
    Put quantization to 8 bits around the convolutions of a model, in place.

    Activations have one scale for each tensor; all that takes such a tensor takes it quantized.
    Weights are symmetric, with one scale for each output channel.

    Parameters
    ----------
    model
        A fused network, whose operations are named after its modules.
    ranges
        Of the inputs of the network's convolutions.
    weight_bits
        8, or 7 for processors that add two products in 16 bits: 255 * 127 * 2 would not fit.

    """
    for operation in model.get_ordered_ops():
        kind = operation.get_type_name()
        if kind not in ('Convolution', 'GroupConvolution'):
            continue
        module = re.match(r'__module\.(.+?)/', operation.get_friendly_name())
        assert module is not None, operation.get_friendly_name()
        source, weights = operation.input_value(0), operation.input_value(1)
        if source.get_node().get_type_name() != 'FakeQuantize':
            low, high = ranges[module[1]]
            bounds = np.float32(low), np.float32(max(high, low + SMALLEST_RANGE))
            takers = source.get_target_inputs()
            quantized = opset13.fake_quantize(source, *bounds, *bounds, 256)
            for taker in takers:
                taker.replace_source_output(quantized.output(0))
        constant = weights.get_node()
        while constant.get_type_name() != 'Constant':
            constant = constant.input_value(0).get_node()
        channels = 1 if kind == 'Convolution' else 2
        values = np.abs(constant.data).astype(np.float32)
        largest = values.max(axis=tuple(range(channels, values.ndim)), keepdims=True)
        # With 7 bits the largest weight is in the middle of the range.
        largest = np.maximum(largest, SMALLEST_RANGE) * 2 ** (8 - weight_bits)
        quantized = opset13.fake_quantize(weights, -largest, largest, -largest, largest, 255)
        operation.input(1).replace_source_output(quantized.output(0))
    model.validate_nodes_and_infer_types()


class OpenVINOBackend:
    """
    OpenVINO on the CPU; models are compiled once for each batch size and kept on disk.

    Parameters
    ----------
    network
        The network with its weights, float32, on the CPU; it is changed.
    checkpoint
        Its classes and normalization; the network may have more outputs.
    options
        Resolved; precision, calibration, the size of the input and the number of threads count.

    Raises
    ------
    ConfigurationError
        The calibration folder can't be read or holds no image.

    """

    draws = False

    def __init__(
        self, network: SegmentationNetwork, checkpoint: Checkpoint, options: SegmenterOptions
    ) -> None:
        precision, num_threads = options.precision, options.num_threads
        input_size = options.input_size or checkpoint.input_size
        self._input_size = input_size
        self._core = _core()
        low = 'bf16' if cpu_has_bf16() else 'f32'
        self._options = {
            # Of what isn't quantized, for int8.
            'INFERENCE_PRECISION_HINT': {'fp32': 'f32', 'bf16': 'bf16', 'int8': low}[precision],
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_NUM_THREADS': num_threads,
            # Several processes with fewer threads than cores would all be tied to the same ones.
            'ENABLE_CPU_PINNING': not 0 < num_threads < (os.cpu_count() or 1),
        }
        self._calibration = Calibration(checkpoint, options) if precision == 'int8' else None
        self._classes = f'{checkpoint.label_map.num_classes} {network.merge}'
        self._weight_bits = 7 if int8_sums_saturate() else 8
        self._network = fuse_checkpoint(network, checkpoint)
        self._weights = digest_weights(self._network.state_dict())
        self._fingerprint = self._describe()
        self._requests: dict[int, _Request] = {}
        self._logits: NDArray[np.float32] = np.empty((0, 0, 0, 0), np.float32)

    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """
        Segment a batch; see `Backend.run`.

        Raises
        ------
        ConfigurationError
            A calibration image can't be read.
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
        self._logits = request.run()
        for logits, output in zip(self._logits, outputs, strict=True):
            classify_on_host(
                logits,
                style,
                output.array('labels'),
                output.array('confidence') if wanted.confidence else None,
            )

    def last_logits(self) -> NDArray[np.float32]:
        """Return the logits of the last batch; see `Backend.last_logits`."""
        return self._logits

    def _compile(self, shape: tuple[int, ...]) -> openvino.CompiledModel:
        """Take the compiled model from the cache, or make it and put it there."""
        path = compiled_path(f'{self._fingerprint} {shape}', 'openvino')
        try:
            return self._core.import_model(path.read_bytes(), 'CPU', self._options)
        except (OSError, RuntimeError):
            # Absent, or damaged: made again.
            pass
        model = self._convert(shape)
        if self._calibration is not None:
            ranges = self._calibration.find_ranges(self._network)
            quantize(model, ranges, self._weight_bits)
        compiled = self._core.compile_model(model, 'CPU', self._options)
        stream = io.BytesIO()
        compiled.export_model(stream)
        keep_in_cache(path, stream.getvalue())
        return compiled

    def _convert(self, shape: tuple[int, ...]) -> openvino.Model:
        """Convert the network: once, as it takes seconds, for all precisions and batch sizes."""
        single = (1, *shape[1:])
        key = f'{self._weights} {self._classes} {single}'
        if key not in _converted:
            example = torch.zeros(single, dtype=torch.uint8)
            with torch.inference_mode(mode=False), torch.no_grad(), warnings.catch_warnings():
                # Shapes are fixed on purpose.
                warnings.simplefilter('ignore')
                model = convert(self._network, example)
            _converted.clear()
            _converted[key] = model
        model = _converted[key].clone()
        model.reshape(list(shape))
        return model

    def _describe(self) -> str:
        """Describe everything that a compiled model depends on except the shape of its input."""
        processor = self._core.get_property('CPU', 'FULL_DEVICE_NAME')
        capabilities = self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        parts = (
            self._weights, self._classes,
            '' if self._calibration is None else self._calibration.describe(), self._options,
            processor, capabilities, self._weight_bits,
            openvino.__version__, torch.__version__, __version__,
        )
        return ' '.join(map(str, parts))
