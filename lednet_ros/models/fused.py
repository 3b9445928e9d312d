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

They compute the same functions of the same weights, up to rounding. Normalizations are folded into
the convolutions. Splits, shuffles and concatenations are gone, which move every feature map
through memory several times and compute nothing:

- Maps are kept as four tensors, one for each way in which the next two units split the channels,
  so both find their halves without moving anything (`places.py`). After two units the channels
  are regrouped. Narrow maps (`NARROW`) stay one tensor, and their weights get zeros instead.
- A convolution beside a pooling is the sum of two convolutions whose weights have zeros in each
  other's rows.
"""

from collections.abc import Sequence
import copy
import itertools

from lednet_ros.models.fused_shufflenet import FusedShuffleNetV2
from lednet_ros.models.lednet import ConvBNReLU, DownsamplingUnit, LEDNet, SSnbtUnit
from lednet_ros.models.network import affine, convolution, SegmentationNetwork
from lednet_ros.models.places import Layout, Place, Reader, shuffle, Writer
from lednet_ros.models.shufflenet_v2 import ShuffleNetV2
import torch
from torch import nn, Tensor
from torch.nn import functional

NARROW = 32
"""Maps of up to this many channels stay one tensor: a quarter would be too narrow to vectorize."""


def fuse(
    network: SegmentationNetwork, scale: Sequence[float], shift: Sequence[float], num_classes: int
) -> nn.Module:
    """
    Build the network for inference, from bytes (N, H, W, 3) to logits (N, h, w, num_classes).

    Parameters and the network's input and output are those of `FoldedNetwork`.
    """
    if isinstance(network, LEDNet):
        return FusedLEDNet(network, scale, shift, num_classes).eval()
    folded = FoldedNetwork(network, scale, shift, num_classes)
    if isinstance(folded.network, ShuffleNetV2):
        folded.network = FusedShuffleNetV2(folded.network)
    return folded.eval()


class FoldedNetwork(nn.Module):
    """
    A network that takes bytes, with normalizations folded into the convolutions.

    Parameters
    ----------
    network
        The trained network, in evaluation mode; it is not changed.
    scale, shift
        For each color: the trained network's input is `bytes * scale - shift`.
    num_classes
        Number of outputs to keep; the others are dropped.

    """

    def __init__(
        self,
        network: SegmentationNetwork,
        scale: Sequence[float],
        shift: Sequence[float],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer('scale', torch.tensor(scale)[:, None, None])
        self.register_buffer('shift', torch.tensor(shift)[:, None, None])
        self.num_classes = num_classes
        self.network: SegmentationNetwork | FusedShuffleNetV2 = copy.deepcopy(network)
        self.network.fold_batch_norm()

    def prepare(self, images: Tensor) -> Tensor:
        """Map images (N, H, W, 3) uint8 to the trained network's input (N, 3, H, W)."""
        return images.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale - self.shift

    def forward(self, images: Tensor) -> Tensor:
        """
        Compute logits at a fraction of the input size.

        Parameters
        ----------
        images
            RGB, (N, H, W, 3) uint8.

        Returns
        -------
        Tensor
            Logits (N, h, w, num_classes), dtype of the weights.

        """
        scores = self.network.scores(self.prepare(images))
        return scores[:, : self.num_classes].permute(0, 2, 3, 1)


class FusedLEDNet(FoldedNetwork):
    """LEDNet for inference, without splits, shuffles and concatenations."""

    def __init__(
        self, network: LEDNet, scale: Sequence[float], shift: Sequence[float], num_classes: int
    ) -> None:
        super().__init__(network, scale, shift, num_classes)
        folded = self.network
        assert isinstance(folded, LEDNet)
        del self.network
        initial, layers = folded.encoder.initial_block, folded.encoder.layers
        layout, places = _group(initial.bn.num_features)
        self.initial = _Downsampling(initial, [0, 1, 2], places, layout)
        self.initial.take_raw_pooling(self.scale, self.shift)
        self.layers = nn.ModuleList()
        units = 0
        for layer in layers:
            if isinstance(layer, DownsamplingUnit):
                joined = _joined(places)
                layout, places = _group(layer.bn.num_features)
                self.layers.append(_Downsampling(layer, joined, places, layout))
                units = 0
                continue
            assert isinstance(layer, SSnbtUnit)
            if units and units % 2 == 0 and len(layout.widths) > 1:
                joined = _joined(places)
                layout, places = _group(len(places))
                self.layers.append(_Regrouping(joined, places, len(layout.widths)))
            self.layers.append(_Unit(layer, places, layout))
            places = shuffle(places)
            units += 1
        self.pyramid = folded.decoder.apn
        self.merge = folded.merge
        for first in (self.pyramid.branch1[1], self.pyramid.mid[0], self.pyramid.down1):
            assert isinstance(first, ConvBNReLU)
            conv = first.conv[0]
            assert isinstance(conv, nn.Conv2d)
            first.conv[0] = convolution(conv, conv.weight[:, _joined(places)], conv.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits at 1/8 of the input size; see `FoldedNetwork`."""
        pooled = pool_bytes(images).permute(0, 3, 1, 2).to(self.scale.dtype)
        tensors = self.initial.join(self.prepare(images), pooled)
        for layer in self.layers:
            tensors = layer(tensors)
        scores: Tensor = self.merge(self.pyramid(torch.cat(tensors, dim=1)))
        return scores[:, : self.num_classes].permute(0, 2, 3, 1)


def pool_bytes(images: Tensor) -> Tensor:
    """
    Take the largest value of each color in squares of two by two pixels.

    Normalization keeps the order of values, so the bytes can be pooled before it; they are small.

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


def _group(channels: int) -> tuple[Layout, list[Place]]:
    """Place the channels of a map by the halves that they are in for the next two units."""
    layout = Layout()
    if channels <= NARROW:
        return layout, layout.add(channels)
    half = channels // 2
    # Channels that are in the left half after one shuffle.
    left = {position for _, position in shuffle([(0, p) for p in range(channels)])[:half]}
    places: dict[int, Place] = {}
    for halves in itertools.product((True, False), repeat=2):
        group = [p for p in range(channels) if (p < half, p in left) == halves]
        places.update(zip(group, layout.add(len(group)), strict=True))
    return layout, [places[position] for position in range(channels)]


def _joined(places: Sequence[Place]) -> list[int]:
    """List the position of each channel of the joined tensors."""
    return sorted(range(len(places)), key=lambda position: places[position])


class _Downsampling(nn.Module):
    """
    Convolution beside pooling, which computes the first tensors of a stage.

    Parameters
    ----------
    unit
        The trained unit.
    order
        For each channel of the joined tensors, its position in the unit's input.
    places, layout
        Places of the outputs.

    """

    def __init__(
        self, unit: DownsamplingUnit, order: Sequence[int], places: Sequence[Place], layout: Layout
    ) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        convolved = unit.conv.out_channels
        assert unit.conv.bias is not None
        factor, addend = affine(unit.bn)
        rows = unit.conv.weight[:, list(order)] * factor[:convolved, None, None, None]
        bias = unit.conv.bias * factor[:convolved] + addend[:convolved]
        conv = convolution(unit.conv, rows, bias)
        weight = torch.diag(factor[convolved:])[:, list(order), None, None]
        projection = convolution(nn.Conv2d(1, 1, 1), weight, addend[convolved:])
        self.convs = Writer(conv, places[:convolved], layout)
        self.projections = Writer(projection, places[convolved:], layout)

    def take_raw_pooling(self, scale: Tensor, shift: Tensor) -> None:
        """Merge the normalization of bytes into the projections, which then take pooled bytes."""
        for projection in self.projections.parts:
            assert isinstance(projection, nn.Conv2d)
            assert projection.bias is not None
            projection.bias -= (projection.weight * shift).sum(dim=(1, 2, 3))
            projection.weight *= scale

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        """Map the tensors of one stage to those of the next."""
        x = tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)
        return self.join(x, self.pool(x))

    def join(self, x: Tensor, pooled: Tensor) -> list[Tensor]:
        """Map the joined input and its pooling to the tensors of the next stage."""
        sums = self.convs(x)
        for tensor, projected in self.projections(pooled).items():
            sums[tensor] = sums[tensor] + projected if tensor in sums else projected
        return [functional.relu(sums[tensor]) for tensor in sorted(sums)]


class _Regrouping(nn.Module):
    """Moves the channels of the joined tensors to other places."""

    def __init__(self, joined: Sequence[int], places: Sequence[Place], parts: int) -> None:
        super().__init__()
        order = [joined.index(position) for position in _joined(places)]
        self.order: Tensor
        self.register_buffer('order', torch.tensor(order))
        self.parts = parts

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        """Map the tensors to as many others."""
        return list(torch.cat(tensors, dim=1)[:, self.order].chunk(self.parts, dim=1))


class _Branch(nn.Module):
    """The four convolutions of one half of the channels, which are in several places."""

    def __init__(
        self, convs: Sequence[nn.Conv2d], places: Sequence[Place], layout: Layout
    ) -> None:
        super().__init__()
        self.first = Reader(convs[0], places, layout)
        self.second, self.third = convs[1:3]
        self.last = Writer(convs[3], places, layout)

    def forward(self, tensors: Sequence[Tensor]) -> dict[int, Tensor]:
        """Map the tensors to the residuals of some of them, by number."""
        x = functional.relu(self.first(tensors))
        x = functional.relu(self.second(x))
        residuals: dict[int, Tensor] = self.last(functional.relu(self.third(x)))
        return residuals


class _Unit(nn.Module):
    """`SSnbtUnit` of channels in several places; its shuffle needs no operation."""

    def __init__(self, unit: SSnbtUnit, places: Sequence[Place], layout: Layout) -> None:
        super().__init__()
        half = len(places) // 2
        left = (unit.conv3x1_1_l, unit.conv1x3_1_l, unit.conv3x1_2_l, unit.conv1x3_2_l)
        right = (unit.conv1x3_1_r, unit.conv3x1_1_r, unit.conv1x3_2_r, unit.conv3x1_2_r)
        self.left = _Branch(left, places[:half], layout)
        self.right = _Branch(right, places[half:], layout)

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        """Map the tensors to as many others."""
        sums = list(tensors)
        for branch in (self.left, self.right):
            for tensor, residual in branch(tensors).items():
                sums[tensor] = sums[tensor] + residual
        return [functional.relu(total) for total in sums]
