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
Channels that stay where they are, in several tensors, while a network splits and shuffles them.

A place is a tensor and a channel in it. Reordering channels reorders a list of places, once, and
the weights of the convolutions follow that order.
"""

from collections.abc import Mapping, Sequence

from lednet_ros.models.network import convolution
from torch import nn, Tensor

Place = tuple[int, int]
"""Number of a tensor, and a channel in it."""


class Layout:
    """Widths of all tensors, by number."""

    def __init__(self) -> None:
        self.widths: list[int] = []

    def add(self, width: int) -> list[Place]:
        """Add a tensor and return the places of its channels."""
        self.widths.append(width)
        return [(len(self.widths) - 1, channel) for channel in range(width)]


def shuffle(order: Sequence[Place]) -> list[Place]:
    """Reorder places as `channel_shuffle(x, 2)` reorders channels."""
    half = len(order) // 2
    return [place for pair in zip(order[:half], order[half:], strict=True) for place in pair]


def _by_tensor(places: Sequence[Place]) -> dict[int, tuple[list[int], list[int]]]:
    """Map each tensor to the positions in the list that are in it, and to their channels."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    for position, (tensor, channel) in enumerate(places):
        positions, channels = found.setdefault(tensor, ([], []))
        positions.append(position)
        channels.append(channel)
    return found


class Reader(nn.Module):
    """A convolution whose inputs are in several tensors: the sum of one convolution for each."""

    def __init__(self, whole: nn.Conv2d, places: Sequence[Place], layout: Layout) -> None:
        super().__init__()
        self.tensors: list[int] = []
        self.parts = nn.ModuleList()
        for tensor, (positions, channels) in _by_tensor(places).items():
            # Zeros for channels that are not inputs.
            weight = whole.weight.new_zeros(
                whole.out_channels, layout.widths[tensor], *whole.kernel_size
            )
            weight[:, channels] = whole.weight.detach()[:, positions]
            # The bias is added once.
            bias = None if self.tensors else whole.bias
            self.parts.append(convolution(whole, weight, bias))
            self.tensors.append(tensor)

    def forward(self, tensors: Sequence[Tensor] | Mapping[int, Tensor]) -> Tensor:
        """Map tensors (N, *, H, W) to (N, out_channels, H, W)."""
        x: Tensor = self.parts[0](tensors[self.tensors[0]])
        for part, tensor in zip(self.parts[1:], self.tensors[1:], strict=True):
            x = x + part(tensors[tensor])
        return x


class Writer(nn.Module):
    """
    A convolution whose outputs belong into several tensors: one convolution for each.

    Parameters
    ----------
    whole
        The convolution, with bias. If it is depthwise, its inputs are in the same places.
    places, layout
        Places of the outputs. The other channels of their tensors are 0.

    """

    def __init__(self, whole: nn.Conv2d, places: Sequence[Place], layout: Layout) -> None:
        super().__init__()
        assert whole.bias is not None
        self.depthwise = whole.groups > 1
        self.tensors: list[int] = []
        self.parts = nn.ModuleList()
        for tensor, (positions, channels) in _by_tensor(places).items():
            width = layout.widths[tensor]
            weight = whole.weight.new_zeros(width, *whole.weight.shape[1:])
            weight[channels] = whole.weight.detach()[positions]
            bias = whole.bias.new_zeros(width)
            bias[channels] = whole.bias.detach()[positions]
            self.parts.append(convolution(whole, weight, bias, width if self.depthwise else 1))
            self.tensors.append(tensor)

    def forward(
        self, x: Tensor | Sequence[Tensor] | Mapping[int, Tensor]
    ) -> dict[int, Tensor]:
        """Map (N, in_channels, H, W), or tensors if depthwise, to the outputs by tensor."""
        return {
            tensor: part(x[tensor] if self.depthwise else x)
            for part, tensor in zip(self.parts, self.tensors, strict=True)
        }
