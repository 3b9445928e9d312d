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
ShuffleNet V2 for inference, without splits, shuffles and concatenations of features.

The same function of the same weights, but for rounding. A unit replaces half of the channels and
passes the others on, so each channel is computed once and read once: by the unit that replaces
it, or by what comes after the stage. Which unit that is follows from the shuffles. So channels
can stay where they are:

- What a unit computes becomes a few tensors: the channels that the next unit reads, those of the
  one after it, and so on (`GROUPS`).
- What reads channels of several tensors is a sum of convolutions, with zeros for channels that
  others read, or one depthwise convolution for each tensor.
"""

from collections.abc import Sequence

from lednet_ros.models.network import convolution
from lednet_ros.models.places import Layout, Place, Reader, shuffle, Writer
from lednet_ros.models.shufflenet_v2 import (
    DeepLabHead,
    DensePredictionCell,
    DPC_BRANCHES,
    ShuffleNetV2,
    STEM_CHANNELS,
    Unit,
)
import torch
from torch import nn, Tensor
from torch.nn import functional

GROUPS = 4
"""Tensors that a unit's channels are put into, at most: more are narrower, fewer have zeros."""


class FusedShuffleNetV2(nn.Module):
    """
    ShuffleNet V2 with channels that never move.

    Parameters
    ----------
    network
        The trained network after `fold_batch_norm`, in evaluation mode; it is not changed, and
        shares weights.

    """

    def __init__(self, network: ShuffleNetV2) -> None:
        super().__init__()
        self.stem = nn.Sequential(network.encoder.conv1, network.encoder.maxpool)
        layout = Layout()
        places = layout.add(STEM_CHANNELS)
        self.units = nn.ModuleList()
        for stage in (network.encoder.stage2, network.encoder.stage3, network.encoder.stage4):
            units, places = _fuse_stage(stage, places, layout)
            self.units += units
        head = network.head
        self.head = (
            _FusedCell(head, places, layout)
            if isinstance(head, DensePredictionCell)
            else _FusedDeepLabHead(head, places, layout)
        )
        self.classifier = network.classifier

    def scores(self, x: Tensor) -> Tensor:
        """Compute logits; see `SegmentationNetwork`."""
        tensors = [self.stem(x)]
        for unit in self.units:
            tensors += unit(tensors)
        x = self.classifier(self.head(tensors))
        return x


class _FirstUnit(nn.Module):
    """The first unit of a stage: both branches take all channels."""

    def __init__(
        self,
        unit: Unit,
        places: Sequence[Place],
        groups: Sequence[Sequence[Sequence[int]]],
        layout: Layout,
    ) -> None:
        super().__init__()
        depthwise, last = _convolutions(unit.branch1)
        self.depthwise = Writer(depthwise, places, layout, depthwise=True)
        self.first_outputs = nn.ModuleList(
            Reader(_rows(last, group), places, layout) for group in groups[0]
        )
        first, self.second, last = _convolutions(unit.branch2)
        self.first = Reader(first, places, layout)
        self.second_outputs = nn.ModuleList(_rows(last, group) for group in groups[1])

    def forward(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors of this unit."""
        filtered = self.depthwise(tensors)
        x = self.second(functional.relu(self.first(tensors)))
        results = [output(filtered) for output in self.first_outputs]
        results += [output(x) for output in self.second_outputs]
        return [functional.relu(result) for result in results]


class _NextUnit(nn.Module):
    """Another unit of a stage: half of the channels pass, which needs no doing."""

    def __init__(
        self,
        unit: Unit,
        places: Sequence[Place],
        groups: Sequence[Sequence[int]],
        layout: Layout,
    ) -> None:
        super().__init__()
        first, self.second, last = _convolutions(unit.branch2)
        self.first = Reader(first, places, layout)
        self.outputs = nn.ModuleList(_rows(last, group) for group in groups)

    def forward(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors of this unit."""
        x = self.second(functional.relu(self.first(tensors)))
        return [functional.relu(output(x)) for output in self.outputs]


class _FusedDeepLabHead(nn.Module):
    """`DeepLabHead` of channels in several places."""

    def __init__(self, head: DeepLabHead, places: Sequence[Place], layout: Layout) -> None:
        super().__init__()
        (pooling,), (features,) = _convolutions(head.pooling), _convolutions(head.features)
        self.pooling = Reader(pooling, places, layout)
        self.features = Reader(features, places, layout)
        assert head.split is not None
        self.of_mean, self.of_features = head.split

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Map the encoder's tensors to (N, 256, H, W)."""
        means = {
            tensor: tensors[tensor].mean((2, 3), keepdim=True) for tensor in self.pooling.tensors
        }
        mean = functional.relu(self.pooling(means))
        features = functional.relu(self.features(tensors))
        return functional.relu(self.of_mean(mean) + self.of_features(features))


class _FusedCell(nn.Module):
    """`DensePredictionCell` of channels in several places."""

    def __init__(
        self, cell: DensePredictionCell, places: Sequence[Place], layout: Layout
    ) -> None:
        super().__init__()
        depthwise, pointwise = _convolutions(cell.branches[0])
        self.depthwise = Writer(depthwise, places, layout, depthwise=True)
        self.pointwise = Reader(pointwise, places, layout)
        self.branches = cell.branches[1:]
        self.projection = cell.projection

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Map the encoder's tensors to (N, 256, H, W)."""
        filtered = {
            tensor: functional.relu(x) for tensor, x in self.depthwise(tensors).items()
        }
        results = [functional.relu(self.pointwise(filtered))]
        for branch, (source, _) in zip(self.branches, DPC_BRANCHES[1:], strict=True):
            assert source is not None
            results.append(branch(results[source]))
        x: Tensor = self.projection(torch.cat(results, dim=1))
        return x


def _fuse_stage(
    stage: nn.Sequential, places: Sequence[Place], layout: Layout
) -> tuple[list[nn.Module], list[Place]]:
    """
    Rearrange a stage.

    Parameters
    ----------
    stage
        Its units.
    places
        Where its input's channels are.
    layout
        All tensors so far; those of the stage are added.

    Returns
    -------
    tuple
        The units, and where the stage's output's channels are.

    """
    units = [unit for unit in stage if isinstance(unit, Unit)]
    half = _convolutions(units[0].branch1)[-1].out_channels
    # Channels are named by who computes them (the first unit's branches are 0 and 1) and their
    # number there. `reads` has those that each unit but the first reads, in its order.
    computed = [[(source, channel) for channel in range(half)] for source in range(len(units) + 1)]
    order = shuffle([*computed[0], *computed[1]])
    reads = []
    for results in computed[2:]:
        reads.append(order[half:])
        order = shuffle([*order[:half], *results])
    reader = {name: number for number, names in enumerate(reads) for name in names}
    found: dict[tuple[int, int], Place] = {}

    def groups_of(source: int) -> list[list[int]]:
        """Group the channels that are computed there by how long they wait, and place them."""
        groups: list[list[int]] = [[] for _ in range(GROUPS)]
        following = max(source - 1, 0)
        for name in computed[source]:
            wait = reader.get(name, len(reads) + GROUPS) - following
            groups[min(wait, GROUPS - 1)].append(name[1])
        groups = [group for group in groups if group]
        for group in groups:
            for channel, place in zip(group, layout.add(len(group)), strict=True):
                found[source, channel] = place
        return groups

    first = [groups_of(0), groups_of(1)]
    fused: list[nn.Module] = [_FirstUnit(units[0], places, first, layout)]
    for number, (unit, names) in enumerate(zip(units[1:], reads, strict=True)):
        read = [found[name] for name in names]
        fused.append(_NextUnit(unit, read, groups_of(number + 2), layout))
    return fused, [found[name] for name in order]


def _convolutions(part: nn.Module) -> list[nn.Conv2d]:
    """List the convolutions of a branch."""
    return [module for module in part.modules() if isinstance(module, nn.Conv2d)]


def _rows(whole: nn.Conv2d, rows: Sequence[int]) -> nn.Conv2d:
    """Return the 1x1 convolution that computes some of another one's outputs."""
    assert whole.bias is not None
    rows = list(rows)
    return convolution(whole, whole.weight[rows], whole.bias[rows])
