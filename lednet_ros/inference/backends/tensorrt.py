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
from pathlib import Path
import tempfile
from typing import Any

from lednet_ros import __version__
from lednet_ros.checkpoint import Checkpoint
from lednet_ros.files import keep_in_cache
from lednet_ros.inference.backends.base import ConfigurationError
from lednet_ros.inference.backends.calibration import Calibration
from lednet_ros.inference.backends.compiled import compiled_path, digest_weights
from lednet_ros.inference.onnx_export import export_onnx
from lednet_ros.inference.preprocess import normalize
from lednet_ros.models import SegmentationNetwork
import torch
from torch import nn, Tensor

IMAGES, SCORES = 'images', 'scores'
WORKSPACE_BYTES = 1 << 30


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
        Its classes, input size and normalization.
    precision
        'fp32', 'fp16' or 'int8'.
    calibration
        Folder with images like those that the network will see, for int8; None takes synthetic
        streets.

    Attributes
    ----------
    dtype : torch.dtype
        Of images and scores.

    Raises
    ------
    ConfigurationError
        The calibration folder can't be read or holds no image.

    """

    def __init__(
        self,
        network: SegmentationNetwork,
        checkpoint: Checkpoint,
        precision: str,
        calibration: Path | None,
    ) -> None:
        self.dtype = torch.float16 if precision == 'fp16' else torch.float32
        network.eval()
        network.fold_batch_norm()
        classes = checkpoint.label_map.num_classes
        self._network = _ChannelsLast(network.to(self.dtype), classes).eval()
        self._input_size = checkpoint.input_size
        self._mean, self._std = checkpoint.mean, checkpoint.std
        self._quantized = precision == 'int8'
        self._calibration = Calibration(
            calibration if self._quantized else None, checkpoint.input_size
        )

    def export(self, batch_size: int) -> bytes:
        """Export the ONNX file for a batch size."""
        example = torch.zeros((batch_size, *self._input_size, 3), dtype=self.dtype)
        with torch.inference_mode(mode=False), torch.no_grad():
            content = export_onnx(self._network, example, IMAGES, SCORES)
        return self._quantize(content, batch_size) if self._quantized else content

    def describe(self) -> str:
        """Return a text that changes with everything that the file depends on."""
        parts = (
            digest_weights(self._network), self._network.num_classes, self._input_size, self._mean,
            self._std, self.dtype, self._quantized, self._calibration.describe(),
            torch.__version__, __version__,
        )
        return ' '.join(map(str, parts))

    def _quantize(self, content: bytes, batch_size: int) -> bytes:
        """Put quantization around the convolutions, symmetric and signed as TensorRT needs it."""
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, quantize_static, QuantType

        inputs = (
            {IMAGES: normalize(torch.from_numpy(batch), self._mean, self._std)
             .permute(0, 2, 3, 1).contiguous().numpy()}
            for batch in self._calibration.batches(batch_size)
        )

        class Reader(CalibrationDataReader):  # type: ignore[misc]

            def get_next(self) -> dict[str, Any] | None:
                return next(inputs, None)

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'quantized.onnx'
            quantize_static(
                onnx.load_from_string(content),
                path,
                Reader(),
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=['Conv'],
                extra_options={
                    'ActivationSymmetric': True,
                    'WeightSymmetric': True,
                    'AddQDQPairToWeight': True,
                    # TensorRT adds biases in higher precision by itself.
                    'QuantizeBias': False,
                },
            )
            return path.read_bytes()


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
        self._fingerprint = ' '.join(
            map(str, (
                self._source.describe(), properties.name, properties.major, properties.minor,
                torch.version.cuda, tensorrt.__version__,
            ))
        )
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
        plan = builder.build_serialized_network(definition, config)
        if plan is None:
            raise ConfigurationError(
                "backend is 'tensorrt', which can't build the network (its log says why); "
                "allowed: 'cuda_graph' or 'torch_eager'"
            )
        return plan
