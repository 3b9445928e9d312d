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
Nodes that stand in for the package's, or that it is compared with: `NODES` by name.

Run by `lednet_ros.ros.process` with the name as argument; they have the parameters `checkpoint`
and `input_size`.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
import functools
from functools import partial
import sys
import time

from lednet_ros.benchmark.baselines import EagerModule, Pixels
from lednet_ros.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.inference.backends.base import Outputs, Style, Wanted
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.postprocess import draw_on_host
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.ros.process import run_node
from lednet_ros.ros.segmentation_node import make_node, SegmentationNode
import numpy as np
from rclpy.node import Node
import torch


def pattern(size: tuple[int, int]) -> Pixels:
    """Draw stripes of class ids, (*size,) uint8."""
    rows, columns = np.indices(size)
    return ((rows // 64 + columns // 64) % 11).astype(np.uint8)


class NullBackend:
    """Assigns every frame the same labels; images are drawn as always."""

    def __init__(self) -> None:
        self._patterns: dict[tuple[int, int], Pixels] = {}

    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """Fill the outputs; see `Backend.run`."""
        for output in outputs:
            if output.size not in self._patterns:
                self._patterns[output.size] = pattern(output.size)
            np.copyto(output.array('labels'), self._patterns[output.size])
        draw_on_host(frames, outputs, wanted, style)


class Order(IntEnum):
    """Request of a frame's first byte to `FaultyBackend`; other values request labels."""

    FAIL_ONCE = 250
    FAIL_ALWAYS = 251
    HANG = 252


class FaultyBackend(NullBackend):
    """
    Returns fixed labels, and fails when a frame requests it.

    Stands for what can't be caused at will: a GPU that is lost, memory that is used up. The
    second byte of a frame says which failure it asks for, as each happens once, or for how many
    tenths of a second to hang.
    """

    _failed: set[int] = set()

    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """Fill the outputs unless a frame asks for something else; see `Backend.run`."""
        for frame in frames:
            order, number = map(int, frame.pixels[0, 0, :2])
            fails_once = order == Order.FAIL_ONCE and number not in self._failed
            if fails_once:
                self._failed.add(number)
            if fails_once or order == Order.FAIL_ALWAYS:
                raise RuntimeError('out of memory, as the frame has asked for')
            if order == Order.HANG:
                time.sleep(number / 10)
        super().run(frames, outputs, wanted, style)


class NullNode(SegmentationNode):
    """The package's node without a network."""

    backend = NullBackend

    def build_segmenter(self) -> Segmenter:
        """Make a segmenter that runs no network."""
        return Segmenter(load_checkpoint('lednet'), backend=self.backend, device='cpu')


class FaultyNode(NullNode):
    """The package's node with a backend that fails on demand."""

    backend = FaultyBackend


def _eager(checkpoint: Checkpoint) -> Callable[[Pixels], Pixels]:
    return EagerModule(checkpoint, 'cuda' if torch.cuda.is_available() else 'cpu').segment


def _fixed(_: Checkpoint) -> Callable[[Pixels], Pixels]:
    draw = functools.cache(pattern)
    return lambda frame: draw(frame.shape[:2])


def _make_naive(make_segment: Callable[[Checkpoint], Callable[[Pixels], Pixels]]) -> Node:
    # Needs cv_bridge.
    from lednet_ros.live.naive_node import NaiveNode

    return NaiveNode(make_segment)


NODES = {
    'null': partial(make_node, NullNode),
    'faulty': partial(make_node, FaultyNode),
    'naive': partial(_make_naive, _eager),
    'naive_null': partial(_make_naive, _fixed),
}


def main() -> int:
    """Run the node that the first argument names."""
    return run_node(NODES[sys.argv.pop(1)])
