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
LEDNet, a lightweight encoder-decoder network for semantic segmentation.

Wang et al., "LEDNet: A Lightweight Encoder-Decoder Network for Real-Time Semantic Segmentation",
ICIP 2019 (arXiv 1905.02423), and its companion, Zhou et al., Sci China Inf Sci 2019, for the
heavy pyramid. Module names follow the authors' release, so that its state dicts load unchanged.
"""

from lednet_ros.models.network import fold_batch_norms, SegmentationNetwork, upsample
import torch
from torch import nn, Tensor
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

BATCH_NORM_EPS = 1e-3

ENCODER_STAGES: tuple[tuple[int, float, tuple[int, ...]], ...] = (
    (32, 0.03, (1, 1, 1)),
    (64, 0.03, (1, 1)),
    (128, 0.3, (1, 2, 5, 9, 2, 5, 9, 17)),
)
"""Channels, dropout and SS-nbt dilations of each stage (LEDNet paper, table 1)."""


class ConvBNReLU(nn.Module):
    """Convolution with bias, batch normalization and ReLU; keeps the spatial size at stride 1."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2),
            nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS),
            nn.ReLU(inplace=True),
        )

    def fold_batch_norm(self) -> None:
        """Merge the normalization into the convolution."""
        fold_batch_norms(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H/stride), ceil(W/stride))."""
        x = self.conv(x)
        return x


class DownsamplingUnit(nn.Module):
    """Stride-2 3x3 convolution beside 2x2 max-pooling, concatenated (paper, section 2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1)
        # ceil_mode lets odd sizes keep their last row and column in both branches.
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.bn = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H/2), ceil(W/2))."""
        return functional.relu(self.bn(torch.cat((self.conv(x), self.pool(x)), dim=1)))


def _vertical(channels: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1))


def _horizontal(channels: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation))


class SSnbtUnit(nn.Module):
    """
    Split-shuffle non-bottleneck residual unit (paper, figure 2).

    The channels are split in halves; each half passes a factorized 3x3 convolution and a dilated
    one, the right half in mirrored order (1x3 before 3x1). The joined halves are added to the
    input and shuffled in two groups.
    """

    def __init__(self, channels: int, dropout: float, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv3x1_1_l = _vertical(half)
        self.conv1x3_1_l = _horizontal(half)
        self.bn1_l = nn.BatchNorm2d(half, eps=BATCH_NORM_EPS)
        self.conv3x1_2_l = _vertical(half, dilation)
        self.conv1x3_2_l = _horizontal(half, dilation)
        self.bn2_l = nn.BatchNorm2d(half, eps=BATCH_NORM_EPS)

        self.conv3x1_1_r = _vertical(half)
        self.conv1x3_1_r = _horizontal(half)
        self.bn1_r = nn.BatchNorm2d(half, eps=BATCH_NORM_EPS)
        self.conv3x1_2_r = _vertical(half, dilation)
        self.conv1x3_2_r = _horizontal(half, dilation)
        self.bn2_r = nn.BatchNorm2d(half, eps=BATCH_NORM_EPS)

        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout2d(dropout)

    def fold_batch_norm(self) -> None:
        """Merge each normalization into the convolution before it."""
        for convolution, normalization in (
            ('conv1x3_1_l', 'bn1_l'),
            ('conv1x3_2_l', 'bn2_l'),
            ('conv3x1_1_r', 'bn1_r'),
            ('conv3x1_2_r', 'bn2_r'),
        ):
            pair = getattr(self, convolution), getattr(self, normalization)
            setattr(self, convolution, fuse_conv_bn_eval(*pair))
            setattr(self, normalization, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        left, right = x.chunk(2, dim=1)

        left = self.conv1x3_1_l(self.relu(self.conv3x1_1_l(left)))
        left = self.relu(self.bn1_l(left))
        left = self.conv1x3_2_l(self.relu(self.conv3x1_2_l(left)))
        left = self.dropout(self.bn2_l(left))

        right = self.conv3x1_1_r(self.relu(self.conv1x3_1_r(right)))
        right = self.relu(self.bn1_r(right))
        right = self.conv3x1_2_r(self.relu(self.conv1x3_2_r(right)))
        right = self.dropout(self.bn2_r(right))

        out = self.relu(x + torch.cat((left, right), dim=1))
        return functional.channel_shuffle(out, 2)


class Encoder(nn.Module):
    """Downsampling units and SS-nbt units down to 128 channels at 1/8 (paper, table 1)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.initial_block = DownsamplingUnit(3, ENCODER_STAGES[0][0])
        self.layers = nn.ModuleList()
        channels = ENCODER_STAGES[0][0]
        for width, dropout, dilations in ENCODER_STAGES:
            if width != channels:
                self.layers.append(DownsamplingUnit(channels, width))
                channels = width
            self.layers.extend(SSnbtUnit(width, dropout, rate) for rate in dilations)
        # Used when the encoder is trained alone, before the decoder.
        self.output_conv = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to features (N, 128, ceil(H/8), ceil(W/8))."""
        x = self.initial_block(x)
        for layer in self.layers:
            x = layer(x)
        return x


class AttentionPyramid(nn.Module):
    """
    Attention pyramid network (paper, figure 1): the decoder.

    A pyramid of stride-2 convolutions computes an attention map that multiplies the class maps; a
    global-average-pooling branch is added. Before that, the class maps pass BatchNorm and ReLU, as
    in the authors' release.

    Parameters
    ----------
    in_channels, num_classes
        Channels in and out.
    width
        Channels inside the pyramid: 1 in the light release, 128 in the heavy one.

    """

    def __init__(self, in_channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        heavy = width > 1
        # The light release filters its one-channel maps with the kernel of their level; the heavy
        # one projects its wide maps to the classes.
        sizes = (1, 1, 1) if heavy else (7, 5, 3)
        lateral = num_classes if heavy else 1
        self.branch1 = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvBNReLU(in_channels, num_classes, 1)
        )
        self.mid = nn.Sequential(ConvBNReLU(in_channels, num_classes, 1))
        self.down1 = ConvBNReLU(in_channels, width, 7, stride=2)
        self.down2 = ConvBNReLU(width, width, 5, stride=2)
        self.down3 = nn.Sequential(
            ConvBNReLU(width, width, 3, stride=2), ConvBNReLU(width, lateral, sizes[2])
        )
        self.conv2 = ConvBNReLU(width, lateral, sizes[1])
        self.conv1 = ConvBNReLU(width, lateral, sizes[0])

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, in_channels, H, W) to logits (N, num_classes, H, W)."""
        down1 = self.down1(x)
        down2 = self.down2(down1)
        down3 = self.down3(down2)
        attention = upsample(down3, _size(down2)) + self.conv2(down2)
        attention = upsample(attention, _size(down1)) + self.conv1(down1)
        # The 1x1 map of the global branch broadcasts; upsampling it would copy it.
        out: Tensor = upsample(attention, _size(x)) * self.mid(x) + self.branch1(x)
        return out


class Decoder(nn.Module):
    """The pyramid, under the name that the authors gave it."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.apn = AttentionPyramid(ENCODER_STAGES[-1][0], num_classes, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, 128, H, W) to logits (N, num_classes, H, W)."""
        x = self.apn(x)
        return x


class LEDNet(SegmentationNetwork):
    """
    LEDNet for any number of classes and any input size of at least 64x64.

    Parameters
    ----------
    num_classes
        Output channels.
    pyramid_width
        Channels inside the attention pyramid.

    """

    HEADS = ('decoder.', 'encoder.output_conv.')
    # Red, green and blue of ImageNet, to which all data sets here are close.
    MEAN = (0.485, 0.456, 0.406)
    STD = (0.229, 0.224, 0.225)
    encoder: Encoder
    encoder_channels = ENCODER_STAGES[-1][0]

    def __init__(self, num_classes: int, pyramid_width: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.encoder = Encoder(num_classes)
        self.decoder = Decoder(num_classes, pyramid_width)

    @property
    def encoder_classifier(self) -> nn.Module:
        """Return the encoder's last convolution."""
        return self.encoder.output_conv

    def decode(self, features: Tensor) -> Tensor:
        """Map the encoder's features to logits at 1/8 of the input size."""
        logits: Tensor = self.decoder(features)
        return logits

    def fold_batch_norm(self) -> None:
        """Merge normalizations, except those after a concatenation; see `SegmentationNetwork`."""
        super().fold_batch_norm()
        for layer in self.encoder.layers:
            if isinstance(layer, SSnbtUnit):
                layer.fold_batch_norm()


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def lednet(num_classes: int) -> LEDNet:
    """Build the light release: a one-channel pyramid, 925,663 parameters at 20 classes."""
    return LEDNet(num_classes, pyramid_width=1)


def lednet_heavy(num_classes: int) -> LEDNet:
    """Build the second release: a 128-channel pyramid, 2,288,140 parameters at 20 classes."""
    return LEDNet(num_classes, pyramid_width=128)
