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

"""Networks for `DeviceBackend`: by eager PyTorch, by fused cuDNN operations, or by Triton."""

from importlib.util import find_spec

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.inference.backends.cuda_graph import (
    DeviceBackend,
    DeviceNetwork,
    Ends,
    TorchEnds,
    TritonEnds,
)
from lednet_ros.inference.backends.torch_eager import PRECISIONS
from lednet_ros.inference.options import ConfigurationError, SegmenterOptions
from lednet_ros.models import LEDNet, SegmentationNetwork
from lednet_ros.models.fused_shufflenet import FusedShuffleNetV2
from lednet_ros.models.lednet import ConvBNReLU, DownsamplingUnit, SSnbtUnit
from lednet_ros.models.network import affine, convolution
from lednet_ros.models.shufflenet_v2 import ShuffleNetV2
import torch
from torch import nn, Tensor


def make_device_backend(
    network: SegmentationNetwork, checkpoint: Checkpoint, options: SegmenterOptions
) -> DeviceBackend:
    """
    Make a backend for a CUDA device, on the thread that will run it.

    Parameters
    ----------
    network
        The trained network, float32, on the CPU; it is changed.
    checkpoint
        Its classes, input size and normalization.
    options
        Resolved.

    Raises
    ------
    ConfigurationError
        The backend has no way to run this network, precision or device.

    """
    device = torch.device(options.device)
    # Process-wide, before the first convolution: plans are cached without these flags. Sizes
    # stay the same, so it pays to try cuDNN's algorithms; fp32 is not TF32.
    torch.backends.cudnn.benchmark = True
    if options.precision == 'fp32':
        torch.backends.cudnn.allow_tf32 = False
    ends: Ends = TorchEnds(checkpoint)
    if options.backend != 'torch_eager' and find_spec('triton') is not None:
        ends = TritonEnds(checkpoint, device)
    run: DeviceNetwork
    if options.backend == 'tensorrt':
        # Optional, and slow to import.
        from lednet_ros.inference.backends.tensorrt import OnnxSource, TensorRTNetwork

        run = TensorRTNetwork(OnnxSource(network, checkpoint, options), device)
    else:
        network.eval()
        network.fold_batch_norm()
        if options.backend == 'triton':
            _use_triton(network, device, options.precision)
        placed = use_cudnn(network) if options.backend == 'cuda_graph' else network
        placed.to(device=device, dtype=PRECISIONS[options.precision])
        placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        run = placed.scores
    return DeviceBackend(run, checkpoint, options, ends, options.backend != 'torch_eager')


def _use_triton(network: SegmentationNetwork, device: torch.device, precision: str) -> None:
    from lednet_ros.inference.backends.cuda_units import units_fit, use_triton_units

    if not isinstance(network, LEDNet):
        raise ConfigurationError(
            f"backend is 'triton', which has no kernels for {type(network).__name__}; "
            "allowed: 'auto', 'cuda_graph', 'tensorrt' or 'torch_eager'"
        )
    if not units_fit(device, PRECISIONS[precision]):
        raise ConfigurationError(
            f"backend is 'triton' with precision '{precision}' on '{device}'; it needs fp16 or "
            'bf16 and a GPU of compute capability 8.0 or more'
        )
    use_triton_units(network)


def use_cudnn(network: SegmentationNetwork) -> SegmentationNetwork | FusedShuffleNetV2:
    """
    Make convolutions with their ReLUs one operation each, and keep maps channels-last.

    Parameters
    ----------
    network
        In evaluation mode, its normalizations folded; it is changed.

    """
    if isinstance(network, ShuffleNetV2):
        return FusedShuffleNetV2(network)
    if isinstance(network, LEDNet):
        encoder = network.encoder
        encoder.initial_block = CudnnDownsampling(encoder.initial_block)  # type: ignore[assignment]
        kinds = {SSnbtUnit: CudnnUnit, DownsamplingUnit: CudnnDownsampling}
        for index, layer in enumerate(encoder.layers):
            encoder.layers[index] = kinds[type(layer)](layer)
        for module in list(network.decoder.modules()):
            for name, child in module.named_children():
                if isinstance(child, ConvBNReLU):
                    setattr(module, name, CudnnConvReLU(child.conv[0]))
    return network


class CudnnConvReLU(nn.Module):
    """A convolution, what may be added to it, and ReLU, in one operation."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(conv.padding, tuple)
        self.weight, self.bias = conv.weight, conv.bias
        self.geometry = conv.stride, conv.padding, conv.dilation, conv.groups

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, h, w), the shape of `added`."""
        if added is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.geometry)
        return torch.cudnn_convolution_add_relu(
            x, self.weight, added, 1.0, self.bias, *self.geometry
        )


class CudnnDownsampling(nn.Module):
    """A downsampling unit whose normalization is folded."""

    def __init__(self, unit: DownsamplingUnit) -> None:
        super().__init__()
        convolved = unit.conv.out_channels
        assert unit.conv.bias is not None
        factor, addend = affine(unit.bn)
        weight = unit.conv.weight * factor[:convolved, None, None, None]
        bias = unit.conv.bias * factor[:convolved] + addend[:convolved]
        self.conv = CudnnConvReLU(convolution(unit.conv, weight, bias))
        self.pool = unit.pool
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer('scale', factor[None, convolved:, None, None])
        self.register_buffer('shift', addend[None, convolved:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """See `DownsamplingUnit`."""
        pooled = torch.addcmul(self.shift, self.pool(x), self.scale)
        return torch.cat((self.conv(x), pooled.relu_()), dim=1)


class CudnnUnit(nn.Module):
    """An SS-nbt unit whose channels never leave the channels-last layout."""

    def __init__(self, unit: SSnbtUnit) -> None:
        super().__init__()
        left = unit.conv3x1_1_l, unit.conv1x3_1_l, unit.conv3x1_2_l, unit.conv1x3_2_l
        right = unit.conv1x3_1_r, unit.conv3x1_1_r, unit.conv1x3_2_r, unit.conv3x1_2_r
        self.left = nn.ModuleList(map(CudnnConvReLU, left))
        self.right = nn.ModuleList(map(CudnnConvReLU, right))

    def forward(self, x: Tensor) -> Tensor:
        """See `SSnbtUnit`."""
        halves = []
        for half, convs in zip(x.chunk(2, dim=1), (self.left, self.right), strict=True):
            out = half = half.contiguous(memory_format=torch.channels_last)
            for conv in convs[:3]:
                out = conv(out)
            # Channels last, where the stack below is the shuffle: `channel_shuffle` would leave
            # the layout.
            halves.append(convs[3](out, half).permute(0, 2, 3, 1))
        return torch.stack(halves, dim=-1).flatten(-2).permute(0, 3, 1, 2)
