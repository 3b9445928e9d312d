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
ShuffleNet V2 with atrous separable convolutions, for semantic segmentation.

Türkmen and Heikkilä, "An efficient solution for semantic segmentation: ShuffleNet V2 with atrous
separable convolutions", SCIA 2019 (the network: section 3, table 1). The encoder is ShuffleNet V2
x1.0 (Ma et al., ECCV 2018) without its last convolution. Its modules have torchvision's names, so
that those weights fit. Heads: DeepLab V3 without atrous rates (Chen et al., 2017), and the dense
prediction cell (Chen et al., NeurIPS 2018).

Where the paper and the authors' release differ, this is the paper's network: in the release, the
last stage has no dilation.
"""

from lednet_ros.models.network import convolution, fold_batch_norms, SegmentationNetwork
import torch
from torch import nn, Tensor
from torch.nn import functional

STEM_CHANNELS = 24
STAGES = ((116, 4), (232, 8), (464, 4))
"""Channels and units of stages 2, 3 and 4 (paper, table 1)."""
HEAD_CHANNELS = 256
DROPOUT = 0.1

DPC_BRANCHES = ((None, (1, 6)), (0, (18, 15)), (1, (6, 3)), (0, (1, 1)), (0, (6, 21)))
"""Input (None for the features, otherwise a branch) and dilations of each branch of the cell."""


def _pointwise(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


def _depthwise(channels: int, stride: int, dilation: tuple[int, int]) -> list[nn.Module]:
    return [
        nn.Conv2d(
            channels, channels, 3, stride, dilation, dilation, groups=channels, bias=False
        ),
        nn.BatchNorm2d(channels),
    ]


class Unit(nn.Module):
    """
    Unit of ShuffleNet V2: half of the channels pass, the other half is filtered.

    Parameters
    ----------
    in_channels, out_channels
        If they differ, all channels go through both branches.
    stride, dilation
        Stride and dilation of the depthwise convolutions.

    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.splits = in_channels == out_channels
        inside = half if self.splits else in_channels
        rates = (dilation, dilation)
        self.branch1 = nn.Sequential()
        if not self.splits:
            self.branch1 = nn.Sequential(
                *_depthwise(in_channels, stride, rates), *_pointwise(in_channels, half)
            )
        self.branch2 = nn.Sequential(
            *_pointwise(inside, half), *_depthwise(half, stride, rates), *_pointwise(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H/stride), ceil(W/stride))."""
        first, second = x.chunk(2, dim=1) if self.splits else (self.branch1(x), x)
        return functional.channel_shuffle(torch.cat((first, self.branch2(second)), dim=1), 2)


class Encoder(nn.Module):
    """
    ShuffleNet V2 x1.0 without its classifier.

    Parameters
    ----------
    output_stride
        16, or 8 for finer features: if a stage keeps its input's size, the convolutions after its
        first unit are dilated instead (paper, section 3).

    """

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        if output_stride not in (8, 16):
            raise ValueError(f'output_stride is {output_stride}; allowed: 8, 16')
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, STEM_CHANNELS, 3, 2, 1, bias=False),
            nn.BatchNorm2d(STEM_CHANNELS),
            nn.ReLU(inplace=True),
        )
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels, reached, dilation = STEM_CHANNELS, 4, 1
        stages = []
        for width, units in STAGES:
            stride = 2 if reached < output_stride else 1
            before = dilation
            if stride == 1:
                dilation *= 2
            reached *= stride
            stage = [Unit(channels, width, stride, before)]
            stage += [Unit(width, width, 1, dilation) for _ in range(units - 1)]
            stages.append(nn.Sequential(*stage))
            channels = width
        self.stage2, self.stage3, self.stage4 = stages

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to features (N, 464, ceil(H/16), ceil(W/16)), or 8."""
        x = self.maxpool(self.conv1(x))
        x = self.stage4(self.stage3(self.stage2(x)))
        return x


class DeepLabHead(nn.Module):
    """DeepLab V3's head without atrous rates: the features, and their mean over the image."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.pooling = nn.Sequential(*_pointwise(in_channels, HEAD_CHANNELS))
        self.features = nn.Sequential(*_pointwise(in_channels, HEAD_CHANNELS))
        self.projection = nn.Sequential(*_pointwise(2 * HEAD_CHANNELS, HEAD_CHANNELS))
        self.split: nn.ModuleList | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, in_channels, H, W) to (N, 256, H, W)."""
        mean, features = self.pooling(x.mean((2, 3), keepdim=True)), self.features(x)
        if self.split is not None:
            # The same sum, without 256 channels of one value each.
            return functional.relu(self.split[0](mean) + self.split[1](features))
        mean = mean.expand(-1, -1, *x.shape[2:])
        x = self.projection(torch.cat((mean, features), dim=1))
        return x

    def fold_batch_norm(self) -> None:
        """Merge all normalizations, and split the projection by its two inputs."""
        fold_batch_norms(self)
        whole = self.projection[0]
        assert isinstance(whole, nn.Conv2d)
        of_mean = convolution(whole, whole.weight[:, :HEAD_CHANNELS], None)
        of_features = convolution(whole, whole.weight[:, HEAD_CHANNELS:], whole.bias)
        self.split = nn.ModuleList((of_mean, of_features))
        self.projection = nn.Sequential()


class DensePredictionCell(nn.Module):
    """
    Five separable 3x3 convolutions with rates found by search (Chen et al., 2018, figure 5).

    Parameters
    ----------
    in_channels
        Channels of the features.
    output_stride
        Stride of the features; the published rates are for 16.

    """

    def __init__(self, in_channels: int, output_stride: int) -> None:
        super().__init__()
        factor = 16 // output_stride
        self.branches = nn.ModuleList()
        for source, (vertical, horizontal) in DPC_BRANCHES:
            width = in_channels if source is None else HEAD_CHANNELS
            rates = (factor * vertical, factor * horizontal)
            self.branches.append(
                nn.Sequential(
                    *_depthwise(width, 1, rates),
                    nn.ReLU(inplace=True),
                    *_pointwise(width, HEAD_CHANNELS),
                )
            )
        self.projection = nn.Sequential(
            *_pointwise(len(DPC_BRANCHES) * HEAD_CHANNELS, HEAD_CHANNELS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, in_channels, H, W) to (N, 256, H, W)."""
        results: list[Tensor] = []
        for branch, (source, _) in zip(self.branches, DPC_BRANCHES, strict=True):
            results.append(branch(x if source is None else results[source]))
        x = self.projection(torch.cat(results, dim=1))
        return x


class ShuffleNetV2(SegmentationNetwork):
    """
    ShuffleNet V2 with a segmentation head, for any number of classes and sizes of 64x64 and more.

    Parameters
    ----------
    num_classes
        Output channels.
    head
        'deeplab' or 'dpc'.
    output_stride
        16, or 8 for finer logits at more cost.

    """

    HEADS = ('head.', 'classifier.')
    # Images in -1..1 (paper, equation 1).
    MEAN = (0.5, 0.5, 0.5)
    STD = (0.5, 0.5, 0.5)
    encoder: Encoder
    encoder_channels = STAGES[-1][0]

    def __init__(self, num_classes: int, head: str, output_stride: int = 16) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.encoder = Encoder(output_stride)
        self.head = (
            DensePredictionCell(self.encoder_channels, output_stride)
            if head == 'dpc'
            else DeepLabHead(self.encoder_channels)
        )
        self.dropout = nn.Dropout2d(DROPOUT)
        self.classifier = nn.Conv2d(HEAD_CHANNELS, num_classes, 1)

    def decode(self, features: Tensor) -> Tensor:
        """Map the encoder's features to logits at 1/16 (or 1/8) of the input size."""
        logits: Tensor = self.classifier(self.dropout(self.head(features)))
        return logits

    def fold_batch_norm(self) -> None:
        """Merge normalizations into convolutions; see `SegmentationNetwork`."""
        if isinstance(self.head, DeepLabHead):
            self.head.fold_batch_norm()
        super().fold_batch_norm()


def shufflenet_v2_deeplab(num_classes: int) -> ShuffleNetV2:
    """Build the network with the basic head: 1.15 M parameters at 19 classes."""
    return ShuffleNetV2(num_classes, 'deeplab')


def shufflenet_v2_dpc(num_classes: int) -> ShuffleNetV2:
    """Build the network with the dense prediction cell: 1.5 M parameters at 19 classes."""
    return ShuffleNetV2(num_classes, 'dpc')
