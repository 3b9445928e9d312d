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
A larger network for training alone: it supervises small ones, and no node runs it.

Its encoder is EfficientNet-Lite0 (Tan and Le, ICML 2019; without squeeze-and-excitation and with
ReLU6, as in the TPU repository of TensorFlow), its decoder a feature pyramid (Kirillov et al.,
"Panoptic Feature Pyramid Networks", CVPR 2019) with separable convolutions.
"""

from collections import ChainMap
from typing import Any

from lednet_ros.models import Builders, NETWORKS, SegmentationNetwork
from lednet_ros.models.network import upsample
from torch import nn, Tensor
from torch.nn import functional

# Kernel, stride, expansion, output channels and repetitions of EfficientNet-Lite0's stages.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS = 32
# Stages whose outputs the decoder uses, at 1/4, 1/8, 1/16 and 1/32 of the input size.
TAPS = (1, 2, 4, 6)
WIDTH = 128
# Of the decoder. At 1/4, gradients of 5x5 would take a quarter of a training step on a CPU.
KERNELS = (3, 5, 5, 5)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding, which depends on the size of the input."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H/stride), ceil(W/stride))."""
        pads = []
        for side, kernel, stride in zip(
            reversed(x.shape[2:]), self.kernel_size, self.stride, strict=True
        ):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads))


def _unit(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
) -> list[nn.Module]:
    """List a convolution, its normalization and, if `active`, ReLU6."""
    kind = SameConv2d if stride > 1 else nn.Conv2d
    padding = 0 if stride > 1 else kernel // 2
    conv = kind(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    normalization = nn.BatchNorm2d(outputs, eps=1e-3)
    return [conv, normalization, *([nn.ReLU6(inplace=True)] if active else [])]


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection, added to the input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, factor: int) -> None:
        super().__init__()
        width = inputs * factor
        expand = _unit(inputs, width, 1) if factor > 1 else []
        self.layers = nn.Sequential(
            *expand,
            *_unit(width, width, kernel, stride, groups=width),
            *_unit(width, outputs, 1, active=False),
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y


class EfficientNetLite0(nn.Module):
    """Maps images to features at 1/4, 1/8, 1/16 and 1/32 of their size."""

    CHANNELS = tuple(STAGES[tap][3] for tap in TAPS)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_unit(3, STEM_CHANNELS, 3, 2))
        self.stages = nn.ModuleList()
        inputs = STEM_CHANNELS
        for kernel, stride, factor, outputs, count in STAGES:
            blocks = []
            for index in range(count):
                steps = 1 if index else stride
                blocks.append(InvertedResidual(inputs, outputs, kernel, steps, factor))
                inputs = outputs
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalized RGB images (N, 3, H, W) to features, the finest ones first."""
        x = self.stem(x)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in TAPS:
                features.append(x)
        return features


def _separable(kernel: int) -> nn.Sequential:
    return nn.Sequential(*_unit(WIDTH, WIDTH, kernel, groups=WIDTH), *_unit(WIDTH, WIDTH, 1))


class PyramidDecoder(nn.Module):
    """Merges features from coarse to fine, and adds up all levels at 1/4 of the input size."""

    def __init__(self) -> None:
        super().__init__()
        channels = EfficientNetLite0.CHANNELS
        self.lateral = nn.ModuleList(
            nn.Sequential(*_unit(inputs, WIDTH, 1, active=False)) for inputs in channels
        )
        self.merge = nn.ModuleList(_separable(kernel) for kernel in KERNELS)
        self.level = nn.ModuleList(_separable(kernel) for kernel in KERNELS)
        self.fuse = nn.Sequential(*(_separable(KERNELS[0]) for _ in range(2)), nn.Dropout2d(0.1))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map the encoder's features to (N, WIDTH, H/4, W/4)."""
        size = (features[0].shape[2], features[0].shape[3])
        merged: Tensor | None = None
        total = features[0].new_zeros(())
        for level in reversed(range(len(features))):
            x = self.lateral[level](features[level])
            if merged is not None:
                x = x + upsample(merged, (x.shape[2], x.shape[3]))
            merged = self.merge[level](x)
            total = total + upsample(self.level[level](merged), size)
        fused: Tensor = self.fuse(total)
        return fused


class EfficientNetLite0Pyramid(SegmentationNetwork):
    """
    EfficientNet-Lite0 with a feature pyramid; logits at 1/4 of the input size.

    Parameters
    ----------
    num_classes
        Output channels.

    """

    HEADS = ('decoder.', 'classifier.')
    # Those of the pretrained weights.
    MEAN = (127 / 255,) * 3
    STD = (128 / 255,) * 3
    encoder: EfficientNetLite0
    encoder_channels = EfficientNetLite0.CHANNELS[-1]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.encoder = EfficientNetLite0()
        self.decoder = PyramidDecoder()
        self.classifier = nn.Conv2d(WIDTH, num_classes, 1)

    def decode(self, features: Any) -> Tensor:
        """Map the encoder's list of features to logits at 1/4 of the input size."""
        logits: Tensor = self.classifier(self.decoder(features))
        return logits


# What training can build; a node knows `lednet_ros.models.NETWORKS` alone.
TRAINABLE: Builders = ChainMap(
    NETWORKS, {'efficientnet_lite0_pyramid': EfficientNetLite0Pyramid}
)
