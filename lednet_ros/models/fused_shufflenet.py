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

It computes the same function of the same weights, up to rounding. A unit replaces half of the
channels and passes the others on, so each channel is computed once and read once: by the unit that
replaces it, or after the stage. The shuffles determine which unit that is. So channels can stay
where they are:

- The outputs of a unit form a few tensors: the channels that the next unit reads, those that the
  unit after it reads, and so on (`GROUPS`).
- A layer that reads channels of several tensors is a sum of convolutions, with zeros for other
  channels, or one depthwise convolution per tensor.
"""

from collections.abc import Mapping, Sequence

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
"""Largest number of tensors per branch: more would be narrower, fewer would hold more zeros."""


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
        self.merge = network.merge

    def scores(self, x: Tensor) -> Tensor:
        """Compute logits; see `SegmentationNetwork`."""
        tensors = {0: self.stem(x)}
        for unit in self.units:
            tensors |= unit(tensors)
        x = self.merge(self.classifier(self.head(tensors)))
        return x


class _FusedUnit(nn.Module):
    """
    `Unit` of channels in several places; channels that pass need no operation.

    Parameters
    ----------
    unit
        The unit after `fold_batch_norm`.
    read, written, layout
        Places of its inputs, and of the outputs of each branch that computes.

    """

    def __init__(
        self, unit: Unit, read: Sequence[Place], written: Sequence[Sequence[Place]], layout: Layout
    ) -> None:
        super().__init__()
        first, self.second, last = _convolutions(unit.branch2)
        self.first = Reader(first, read, layout)
        self.last = Writer(last, written[-1], layout)
        self.splits = unit.splits
        if not self.splits:
            depthwise, last = _convolutions(unit.branch1)
            self.depthwise = Writer(depthwise, read, layout)
            self.pointwise = Writer(last, written[0], layout)
            # Each of its convolutions reads several tensors, too.
            self.pointwise.parts = nn.ModuleList(
                Reader(part, read, layout)
                for part in self.pointwise.parts
                if isinstance(part, nn.Conv2d)
            )

    def forward(self, tensors: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Map all tensors so far to those of this unit."""
        outputs = {} if self.splits else self.pointwise(self.depthwise(tensors))
        outputs |= self.last(self.second(functional.relu(self.first(tensors))))
        return {tensor: functional.relu(x) for tensor, x in outputs.items()}


class _FusedDeepLabHead(nn.Module):
    """`DeepLabHead` of channels in several places."""

    def __init__(self, head: DeepLabHead, places: Sequence[Place], layout: Layout) -> None:
        super().__init__()
        (pooling,), (features,) = _convolutions(head.pooling), _convolutions(head.features)
        self.pooling = Reader(pooling, places, layout)
        self.features = Reader(features, places, layout)
        assert head.split is not None
        self.of_mean, self.of_features = head.split

    def forward(self, tensors: Mapping[int, Tensor]) -> Tensor:
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
        self.depthwise = Writer(depthwise, places, layout)
        self.pointwise = Reader(pointwise, places, layout)
        self.branches = cell.branches[1:]
        self.projection = cell.projection

    def forward(self, tensors: Mapping[int, Tensor]) -> Tensor:
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
    stage: nn.Sequential, read: Sequence[Place], layout: Layout
) -> tuple[list[nn.Module], list[Place]]:
    """
    Rearrange a stage.

    Parameters
    ----------
    stage
        Its units.
    read
        Places of its input channels.
    layout
        All tensors so far; those of the stage are added.

    Returns
    -------
    tuple
        The rearranged units, and the places of the output channels.

    """
    units = [unit for unit in stage if isinstance(unit, Unit)]
    half = _convolutions(units[0].branch1)[-1].out_channels
    # A channel is named by the branch that computes it (0 and 1 are those of the first unit, then
    # one of each unit) and its number there. `reads` holds the inputs of each unit but the first.
    names = [[(branch, channel) for channel in range(half)] for branch in range(len(units) + 1)]
    order = shuffle([*names[0], *names[1]])
    reads = []
    for computed in names[2:]:
        reads.append(order[half:])
        order = shuffle([*order[:half], *computed])
    reader = {name: number for number, inputs in enumerate(reads) for name in inputs}
    found: dict[tuple[int, int], Place] = {}
    for branch, computed in enumerate(names):
        # Channels that wait for the same number of units share a tensor.
        groups: list[list[tuple[int, int]]] = [[] for _ in range(GROUPS)]
        for name in computed:
            wait = reader.get(name, len(reads) + GROUPS) - max(branch - 1, 0)
            groups[min(wait, GROUPS - 1)].append(name)
        for group in filter(None, groups):
            found.update(zip(group, layout.add(len(group)), strict=True))
    written = [[found[name] for name in computed] for computed in names]
    fused: list[nn.Module] = [_FusedUnit(units[0], read, written[:2], layout)]
    for unit, inputs, outputs in zip(units[1:], reads, written[2:], strict=True):
        fused.append(_FusedUnit(unit, [found[name] for name in inputs], [outputs], layout))
    return fused, [found[name] for name in order]


def _convolutions(part: nn.Module) -> list[nn.Conv2d]:
    """List the convolutions of a branch."""
    return [module for module in part.modules() if isinstance(module, nn.Conv2d)]
