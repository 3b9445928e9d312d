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
Networks for inference; LEDNet rearranged into convolutions and almost nothing else.

The same function of the same weights, but for rounding. Normalizations are folded into the
convolutions. Splits, shuffles and concatenations, which move every feature map through memory
several times and compute nothing, are gone:

- `channel_shuffle(x, 2)` of C = 2**m channels rotates the m bits of a channel's position to the
  left. So channels can stay where they are: what the k-th unit calls its left half are the
  channels whose first position has a 0 in the k-th bit from the top, and its weights are put into
  that order once.
- Maps are kept as four tensors, one for each value of the two bits that the next two units split
  by, so both find their halves without moving anything. After two units the channels are
  regrouped. Narrow maps (`NARROW`) stay one tensor, and their weights get zeros instead.
- A convolution beside a pooling is the sum of two convolutions whose weights have zeros in each
  other's rows.
"""

from collections.abc import Sequence
import copy

from lednet_ros.models.fused_shufflenet import FusedShuffleNetV2
from lednet_ros.models.lednet import (
    AttentionPyramid,
    ConvBNReLU,
    DownsamplingUnit,
    LEDNet,
    SSnbtUnit,
)
from lednet_ros.models.network import convolution, SegmentationNetwork
from lednet_ros.models.shufflenet_v2 import ShuffleNetV2
import torch
from torch import nn, Tensor
from torch.nn import functional

NARROW = 32
"""Maps of up to this many channels stay one tensor: a quarter would be too narrow to vectorize."""

Groups = list[list[int]]
"""Which channels each tensor holds, by their first position in the stage."""


def rotate(position: int, steps: int, bits: int) -> int:
    """Rotate the bits of a position to the left: where `steps` shuffles put that channel."""
    steps %= bits
    return (position << steps | position >> (bits - steps)) & ((1 << bits) - 1)


def fuse(
    network: SegmentationNetwork, scale: Sequence[float], shift: Sequence[float], num_classes: int
) -> nn.Module:
    """
    Make a network for inference, from bytes (N, H, W, 3) to scores (N, h, w, num_classes).

    Parameters
    ----------
    network
        The trained network, in evaluation mode; it is not changed.
    scale, shift, num_classes
        See `FusedLEDNet`.

    """
    if isinstance(network, LEDNet):
        return FusedLEDNet(network, scale, shift, num_classes).eval()
    folded = FoldedNetwork(network, scale, shift, num_classes)
    if isinstance(folded.network, ShuffleNetV2):
        folded.network = FusedShuffleNetV2(folded.network)
    return folded.eval()


class _FromBytes(nn.Module):
    """What makes a network's input of bytes."""

    def __init__(
        self, scale: Sequence[float], shift: Sequence[float], num_classes: int
    ) -> None:
        super().__init__()
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer('scale', torch.tensor(scale)[:, None, None])
        self.register_buffer('shift', torch.tensor(shift)[:, None, None])
        self.num_classes = num_classes

    def prepare(self, images: Tensor) -> Tensor:
        """Map images (N, H, W, 3) uint8 to a network's input (N, 3, H, W)."""
        return images.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale - self.shift


class FoldedNetwork(_FromBytes):
    """
    A network as it is, but for normalizations, which are folded into the convolutions.

    Parameters are those of `FusedLEDNet`.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        scale: Sequence[float],
        shift: Sequence[float],
        num_classes: int,
    ) -> None:
        super().__init__(scale, shift, num_classes)
        self.network: SegmentationNetwork | FusedShuffleNetV2 = copy.deepcopy(network)
        self.network.fold_batch_norm()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, H, W, 3) uint8 to logits (N, h, w, num_classes)."""
        scores = self.network.scores(self.prepare(images))
        return scores[:, : self.num_classes].permute(0, 2, 3, 1)


class FusedLEDNet(_FromBytes):
    """
    LEDNet for inference, without splits, shuffles and concatenations.

    Parameters
    ----------
    network
        The trained network, in evaluation mode; it is not changed.
    scale, shift
        For each color: the trained network's input is `bytes * scale - shift`.
    num_classes
        Outputs to give; those after them are left out.

    """

    def __init__(
        self,
        network: LEDNet,
        scale: Sequence[float],
        shift: Sequence[float],
        num_classes: int,
    ) -> None:
        super().__init__(scale, shift, num_classes)
        initial = network.encoder.initial_block
        groups = _groups(0, _bits(initial))
        self.initial = _Downsampling(initial, [0, 1, 2], groups)
        self.initial.take_raw_pooling(self.scale, self.shift)
        self.layers = nn.ModuleList()
        bits, step = _bits(initial), 0
        for layer in network.encoder.layers:
            if isinstance(layer, DownsamplingUnit):
                order = _order(groups, step, bits)
                bits, step = _bits(layer), 0
                groups = _groups(step, bits)
                self.layers.append(_Downsampling(layer, order, groups))
            else:
                assert isinstance(layer, SSnbtUnit)
                new = _groups(step, bits)
                if new != groups:
                    self.layers.append(_Regrouping(groups, new))
                    groups = new
                self.layers.append(_Unit(layer, step, groups))
                step += 1
        self.pyramid = _fold_pyramid(network.decoder.apn, _order(groups, step, bits))

    def forward(self, images: Tensor) -> Tensor:
        """
        Class scores at 1/8 of the input size.

        Parameters
        ----------
        images
            RGB, (N, H, W, 3) uint8.

        Returns
        -------
        Tensor
            Logits (N, ceil(H/8), ceil(W/8), num_classes), dtype of the weights.

        """
        pooled = pool_bytes(images).permute(0, 3, 1, 2).to(self.scale.dtype)
        return self.scores(self.prepare(images), pooled).permute(0, 2, 3, 1)

    def scores(self, x: Tensor, pooled: Tensor) -> Tensor:
        """
        Class scores of images that are prepared elsewhere.

        Parameters
        ----------
        x
            Normalized images, (N, 3, H, W), floating point.
        pooled
            Largest byte of each color in squares of two by two pixels, (N, 3, ceil(H/2),
            ceil(W/2)), dtype of `x`.

        Returns
        -------
        Tensor
            Logits (N, num_classes, ceil(H/8), ceil(W/8)).

        """
        tensors = self.initial.join(x, pooled)
        for layer in self.layers:
            tensors = layer(tensors)
        out: Tensor = self.pyramid(torch.cat(tensors, dim=1))
        return out[:, : self.num_classes]


def pool_bytes(images: Tensor) -> Tensor:
    """
    Take the largest value of each color in squares of two by two pixels.

    Bytes are pooled rather than what they become, because normalization keeps their order and
    they are small.

    Parameters
    ----------
    images
        (N, H, W, 3) uint8.

    Returns
    -------
    Tensor
        (N, ceil(H/2), ceil(W/2), 3) uint8.

    """
    height, width = images.shape[1:3]
    if height % 2 or width % 2:
        images = functional.pad(images, (0, 0, 0, width % 2, 0, height % 2))
    rows = torch.maximum(images[:, 0::2], images[:, 1::2])
    return torch.maximum(rows[:, :, 0::2], rows[:, :, 1::2])


def _bits(unit: DownsamplingUnit) -> int:
    """Give the number of bits of a position among a unit's output channels."""
    bits = unit.bn.num_features.bit_length() - 1
    assert unit.bn.num_features == 1 << bits
    return bits


def _order(groups: Groups, step: int, bits: int) -> list[int]:
    """Give the position, after some units, of each channel of the joined tensors."""
    return [rotate(position, step, bits) for group in groups for position in group]


def _groups(step: int, bits: int) -> Groups:
    """Group the channels for a unit and, if its step is even, for the unit after it."""
    positions = range(1 << bits)
    if 1 << bits <= NARROW:
        return [list(positions)]
    first = step - step % 2
    high, low = ((bits - 1 - k) % bits for k in (first, first + 1))
    return [
        [p for p in positions if (p >> high & 1, p >> low & 1) == value]
        for value in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]


def _factors(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Give what a normalization multiplies by and then adds, (channels,) each."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return factor.detach(), (bn.bias - bn.running_mean * factor).detach()


def _fold(conv: nn.Conv2d, bn: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Give weight and bias of a convolution with the normalization after it."""
    assert conv.bias is not None
    if bn is None:
        return conv.weight.detach(), conv.bias.detach()
    factor, addend = _factors(bn)
    return conv.weight.detach() * factor[:, None, None, None], conv.bias * factor + addend


class _Downsampling(nn.Module):
    """
    Convolution beside pooling; gives the groups of the stage that begins.

    Parameters
    ----------
    unit
        The trained unit.
    order
        Which channel of the unit's input each channel of the joined tensors is.
    groups
        Of the result.

    """

    def __init__(self, unit: DownsamplingUnit, order: Sequence[int], groups: Groups) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        convolved = unit.conv.out_channels
        factor, addend = _factors(unit.bn)
        rows = unit.conv.weight[:, list(order)] * factor[:convolved, None, None, None]
        assert unit.conv.bias is not None
        bias = unit.conv.bias * factor[:convolved] + addend[:convolved]
        self.convs = nn.ModuleList()
        self.projections = nn.ModuleList()
        for group in groups:
            own = [place for place, channel in enumerate(group) if channel < convolved]
            pooled = [place for place, channel in enumerate(group) if channel >= convolved]
            conv: nn.Module | None = None
            projection: nn.Module | None = None
            if own:
                weight = rows.new_zeros(len(group), *rows.shape[1:])
                weight[own] = rows[[group[place] for place in own]]
                padded = bias.new_zeros(len(group))
                padded[own] = bias[[group[place] for place in own]]
                conv = convolution(unit.conv, weight, padded)
            if pooled:
                weight = rows.new_zeros(len(group), len(order), 1, 1)
                padded = bias.new_zeros(len(group))
                for place in pooled:
                    channel = group[place]
                    weight[place, order.index(channel - convolved), 0, 0] = factor[channel]
                    padded[place] = addend[channel]
                projection = convolution(nn.Conv2d(1, 1, 1), weight, padded)
            self.convs.append(conv or nn.Identity())
            self.projections.append(projection or nn.Identity())
        self.kinds = [
            (isinstance(conv, nn.Conv2d), isinstance(projection, nn.Conv2d))
            for conv, projection in zip(self.convs, self.projections, strict=True)
        ]

    def take_raw_pooling(self, scale: Tensor, shift: Tensor) -> None:
        """Let the projections take pooled bytes, which are normalized by scale and shift."""
        for projection in self.projections:
            if isinstance(projection, nn.Conv2d) and projection.bias is not None:
                weight = projection.weight.detach()
                projection.bias -= (weight * shift).sum(dim=(1, 2, 3))
                projection.weight *= scale

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        x = tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)
        return self.join(x, self.pool(x))

    def join(self, x: Tensor, pooled: Tensor) -> list[Tensor]:
        """Give the groups of the result from the joined input and its pooling."""
        result = []
        for conv, projection, kinds in zip(
            self.convs, self.projections, self.kinds, strict=True
        ):
            if kinds == (True, True):
                out = conv(x) + projection(pooled)
            elif kinds[0]:
                out = conv(x)
            else:
                out = projection(pooled)
            result.append(functional.relu(out))
        return result


class _Regrouping(nn.Module):
    """Moves channels from one grouping to another."""

    def __init__(self, old: Groups, new: Groups) -> None:
        super().__init__()
        joined = [position for group in old for position in group]
        order = [joined.index(position) for group in new for position in group]
        self.order: Tensor
        self.register_buffer('order', torch.tensor(order))
        self.parts = len(new)

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        return list(torch.cat(tensors, dim=1)[:, self.order].chunk(self.parts, dim=1))


class _Branch(nn.Module):
    """
    The four convolutions of one half.

    Parameters
    ----------
    convs
        Weight, bias and geometry of each.
    places
        For each tensor, the place of each of its channels in this half; None for those of the
        other half.

    """

    def __init__(
        self,
        convs: Sequence[tuple[Tensor, Tensor, nn.Conv2d]],
        places: Sequence[Sequence[int | None]],
    ) -> None:
        super().__init__()
        (weight, bias, like), second, third, (last_weight, last_bias, last_like) = convs
        self.sources = [
            index for index, group in enumerate(places) if any(p is not None for p in group)
        ]
        self.first = nn.ModuleList()
        self.last = nn.ModuleList()
        for source in self.sources:
            own = [k for k, place in enumerate(places[source]) if place is not None]
            half = [place for place in places[source] if place is not None]
            width = len(places[source])
            inward = weight.new_zeros(weight.shape[0], width, *weight.shape[2:])
            inward[:, own] = weight[:, half]
            # The bias belongs to the sum of all, so to one of them.
            own_bias = bias if source == self.sources[0] else None
            self.first.append(convolution(like, inward, own_bias))
            outward = last_weight.new_zeros(width, *last_weight.shape[1:])
            outward[own] = last_weight[half]
            out_bias = last_bias.new_zeros(width)
            out_bias[own] = last_bias[half]
            self.last.append(convolution(last_like, outward, out_bias))
        self.second = convolution(second[2], second[0], second[1])
        self.third = convolution(third[2], third[0], third[1])

    def forward(self, tensors: list[Tensor], sums: list[Tensor]) -> None:
        """Add the branch of the tensors to the sums."""
        x = self.first[0](tensors[self.sources[0]])
        for conv, source in zip(self.first[1:], self.sources[1:], strict=True):
            x = x + conv(tensors[source])
        x = functional.relu(x)
        x = functional.relu(self.second(x))
        x = functional.relu(self.third(x))
        for conv, source in zip(self.last, self.sources, strict=True):
            sums[source] = sums[source] + conv(x)


class _Unit(nn.Module):
    """
    An SS-nbt unit on grouped channels.

    Parameters
    ----------
    unit
        The trained unit.
    step
        How many units of the stage come before it.
    groups
        Channels of the tensors.

    """

    def __init__(self, unit: SSnbtUnit, step: int, groups: Groups) -> None:
        super().__init__()
        half = unit.bn1_l.num_features
        bits = half.bit_length()
        left = (
            (*_fold(unit.conv3x1_1_l, None), unit.conv3x1_1_l),
            (*_fold(unit.conv1x3_1_l, unit.bn1_l), unit.conv1x3_1_l),
            (*_fold(unit.conv3x1_2_l, None), unit.conv3x1_2_l),
            (*_fold(unit.conv1x3_2_l, unit.bn2_l), unit.conv1x3_2_l),
        )
        right = (
            (*_fold(unit.conv1x3_1_r, None), unit.conv1x3_1_r),
            (*_fold(unit.conv3x1_1_r, unit.bn1_r), unit.conv3x1_1_r),
            (*_fold(unit.conv1x3_2_r, None), unit.conv1x3_2_r),
            (*_fold(unit.conv3x1_2_r, unit.bn2_r), unit.conv3x1_2_r),
        )
        now = [[rotate(position, step, bits) for position in group] for group in groups]
        self.left = _Branch(left, [[p if p < half else None for p in group] for group in now])
        self.right = _Branch(
            right, [[p - half if p >= half else None for p in group] for group in now]
        )

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        sums = list(tensors)
        self.left(tensors, sums)
        self.right(tensors, sums)
        return [functional.relu(total) for total in sums]


def _fold_pyramid(pyramid: AttentionPyramid, order: Sequence[int]) -> AttentionPyramid:
    """Copy a pyramid, with its normalizations folded and its input in another order."""
    pyramid = copy.deepcopy(pyramid)
    for block in list(pyramid.modules()):
        if isinstance(block, ConvBNReLU):
            block.fold_batch_norm()
    for first in (pyramid.branch1[1], pyramid.mid[0], pyramid.down1):
        assert isinstance(first, ConvBNReLU)
        conv = first.conv[0]
        assert isinstance(conv, nn.Conv2d)
        weight = conv.weight.detach()[:, list(order)].contiguous()
        conv.weight = nn.Parameter(weight, requires_grad=False)
    return pyramid
