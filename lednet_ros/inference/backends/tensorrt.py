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
A network as a TensorRT engine, for `DeviceBackend`: the same kernels before and after it.

The engine is built from ONNX for each batch size and kept in the cache. Types are those of the
ONNX file; for int8, pairs of quantization and dequantization are put into it.
"""

import contextlib
from typing import Any

from lednet_ros import __version__
from lednet_ros.checkpoint import Checkpoint
from lednet_ros.files import keep_in_cache
from lednet_ros.inference.backends.base import ConfigurationError
from lednet_ros.inference.backends.calibration import Calibration, fold_checkpoint, Ranges
from lednet_ros.inference.backends.compiled import compiled_path, digest_weights
from lednet_ros.inference.onnx_export import export_onnx
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.models import SegmentationNetwork
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor

IMAGES, SCORES = 'images', 'scores'
WORKSPACE_BYTES = 1 << 30
# The first one whose quantization takes fp16.
OPSET = 19
# Scales are fp16, too.
SMALLEST = 1e-3


class _ChannelsLast(nn.Module):
    """Images (N, H, W, 3), as the kernels leave them, to scores (N, C, h, w)."""

    def __init__(self, network: SegmentationNetwork, num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes

    def forward(self, images: Tensor) -> Tensor:
        return self.network.scores(images.permute(0, 3, 1, 2))[:, : self.num_classes]


class OnnxSource:
    """
    Source that engines are built from.

    Parameters
    ----------
    network
        The trained network, float32, on the CPU; it is changed.
    checkpoint
        Its classes and normalization.
    options
        Resolved; precision, calibration and the size of the input are used.

    Attributes
    ----------
    dtype : torch.dtype
        Of images and logits; int8 is put around the convolutions of an fp16 network.

    Raises
    ------
    ConfigurationError
        The calibration folder can't be read or contains no image.

    """

    def __init__(
        self, network: SegmentationNetwork, checkpoint: Checkpoint, options: SegmenterOptions
    ) -> None:
        self.dtype = torch.float32 if options.precision == 'fp32' else torch.float16
        self._ranges: Ranges = {}
        if options.precision == 'int8':
            calibration = Calibration(checkpoint, options)
            self._ranges = calibration.find_ranges(fold_checkpoint(network, checkpoint))
        network.eval()
        network.fold_batch_norm()
        classes = checkpoint.label_map.num_classes
        self._network = _ChannelsLast(network.to(self.dtype), classes).eval()
        self._input_size = options.input_size or checkpoint.input_size

    def export(self, batch_size: int) -> bytes:
        """Export the ONNX file for a batch size."""
        example = torch.zeros((batch_size, *self._input_size, 3), dtype=self.dtype)
        with torch.inference_mode(mode=False), torch.no_grad():
            content = export_onnx(self._network, example, IMAGES, SCORES, OPSET)
        return self._quantize(content) if self._ranges else content

    def describe(self) -> str:
        """Return a text that changes with everything that the file depends on."""
        parts = (
            digest_weights(self._network.state_dict()), self._network.num_classes,
            self._network.network.merge,
            self._input_size, self.dtype, sorted(self._ranges.items()), torch.__version__,
            __version__,
        )
        return ' '.join(map(str, parts))

    def _quantize(self, content: bytes) -> bytes:
        """Put quantization around the convolutions, symmetric and signed as TensorRT needs it."""
        from onnx import helper, load_from_string, numpy_helper

        model = load_from_string(content)
        weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        nodes: list[Any] = []
        quantized: dict[str, str] = {}

        def quantize(name: str, scale: NDArray[Any]) -> str:
            """Return the name of a tensor after quantization and back."""
            if name not in quantized:
                points: dict[str, NDArray[Any]] = {
                    f'{name}_scale': scale.astype(np.float16),
                    f'{name}_zero': np.zeros(scale.shape, np.int8),
                }
                for point, values in points.items():
                    model.graph.initializer.append(numpy_helper.from_array(values, point))
                # Tensors have one scale, weights one for each output channel.
                axis: dict[str, Any] = {'axis': 0} if scale.ndim else {}
                names = f'{name}_int8', f'{name}_quantized'
                for kind, source, result in (
                    ('QuantizeLinear', name, names[0]), ('DequantizeLinear', *names),
                ):
                    nodes.append(helper.make_node(kind, [source, *points], [result], **axis))
                quantized[name] = names[1]
            return quantized[name]

        for node in model.graph.node:
            if node.op_type == 'Conv':
                low, high = self._ranges[node.input[1].removesuffix('.weight')]
                values = np.abs(weights[node.input[1]].astype(np.float32))
                largest = np.maximum(values.reshape(len(values), -1).max(1), SMALLEST)
                node.input[0] = quantize(node.input[0], np.array(max(-low, high, SMALLEST) / 127))
                node.input[1] = quantize(node.input[1], largest / 127)
            nodes.append(node)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        found: bytes = model.SerializeToString()
        return found


class TensorRTNetwork:
    """
    Runs a network by TensorRT, without synchronizing; can be captured in a CUDA graph.

    Parameters
    ----------
    source
        Source that engines are built from.
    device
        A CUDA device.

    Attributes
    ----------
    dtype : torch.dtype
        Of images and scores.

    """

    def __init__(self, source: OnnxSource, device: torch.device) -> None:
        import tensorrt

        self._trt: Any = tensorrt
        self._logger = tensorrt.Logger(tensorrt.Logger.WARNING)
        self._runtime = tensorrt.Runtime(self._logger)
        self._device = device
        self._source = source
        self.dtype = self._source.dtype
        properties = torch.cuda.get_device_properties(device)
        self._hardware = (
            f'{properties.name} {properties.major}.{properties.minor} {torch.version.cuda} '
            f'{tensorrt.__version__}'
        )
        self._fingerprint = f'{self._source.describe()} {self._hardware}'
        self._engines: dict[int, Any] = {}
        # Each stream has a context of its own: contexts hold the memory of the layers.
        self._contexts: dict[tuple[int, int], Any] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W), channels-last, to scores (N, C, h, w)."""
        stream = torch.cuda.current_stream(self._device).cuda_stream
        context = self._context(len(images), stream)
        shape = tuple(context.get_tensor_shape(SCORES))
        scores = torch.empty(shape, dtype=self.dtype, device=self._device)
        context.set_tensor_address(IMAGES, images.data_ptr())
        context.set_tensor_address(SCORES, scores.data_ptr())
        if not context.execute_async_v3(stream):
            raise RuntimeError('TensorRT could not run the network')
        return scores

    def _context(self, count: int, stream: int) -> Any:
        key = (count, stream)
        if key not in self._contexts:
            if count not in self._engines:
                self._engines[count] = self._load(count)
            self._contexts[key] = self._engines[count].create_execution_context()
        return self._contexts[key]

    def _load(self, count: int) -> Any:
        """Take the engine from the cache, or build it and put it there."""
        path = compiled_path(f'{self._fingerprint} {count}', 'tensorrt')
        engine = None
        with contextlib.suppress(OSError):
            # None if the file is damaged; it is made again then.
            engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            plan = self._build(count)
            engine = self._runtime.deserialize_cuda_engine(plan)
            keep_in_cache(path, bytes(plan))
        if engine is None:
            raise ConfigurationError(
                "backend is 'tensorrt', whose own engine it could not load; "
                "allowed: 'cuda_graph' or 'torch_eager'"
            )
        return engine

    def _build(self, count: int) -> Any:
        trt = self._trt
        builder = trt.Builder(self._logger)
        # The only kind of network in newer versions, which lack the flag.
        strong = getattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED', None)
        definition = builder.create_network(0 if strong is None else 1 << int(strong))
        parser = trt.OnnxParser(definition, self._logger)
        if not parser.parse(self._source.export(count)):
            errors = '; '.join(str(parser.get_error(k)) for k in range(parser.num_errors))
            raise ConfigurationError(
                f"backend is 'tensorrt', which can't read the network: {errors}; "
                "allowed: 'cuda_graph' or 'torch_eager'"
            )
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        # What other batch sizes and weights took on this device is not timed again.
        path = compiled_path(f'timing {self._hardware}', 'timings')
        known = b''
        with contextlib.suppress(OSError):
            known = path.read_bytes()
        timings = config.create_timing_cache(known)
        config.set_timing_cache(timings, ignore_mismatch=False)
        plan = builder.build_serialized_network(definition, config)
        if plan is None:
            raise ConfigurationError(
                "backend is 'tensorrt', which can't build the network (its log says why); "
                "allowed: 'cuda_graph' or 'torch_eager'"
            )
        keep_in_cache(path, bytes(timings.serialize()))
        return plan
