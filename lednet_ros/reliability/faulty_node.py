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
The package's node on a backend that fails when a frame says so.

Stands for what can't be brought about at will: a GPU that is lost, memory that is used up. Run as
a module, as `lednet_ros.ros.segmentation_node`.
"""

from collections.abc import Sequence
from enum import IntEnum
import itertools
import sys
import time

from lednet_ros.benchmark.nodes import NullBackend
from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.inference.backends.base import Outputs, Style, Wanted
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.ros.process import run_node
from lednet_ros.ros.segmentation_node import make_node, SegmentationNode

HANG_SECONDS = 2.0


class Order(IntEnum):
    """What the first byte of a frame asks of the backend; other values ask for labels."""

    FAIL_ONCE = 250
    FAIL_ALWAYS = 251
    HANG = 252


class FaultyBackend(NullBackend):
    """Gives fixed labels, and fails on demand."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self._is_first = next(self._numbers) == 0

    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """Fill the outputs unless a frame asks for something else; see `Backend.run`."""
        for frame in frames:
            order = int(frame.pixels[0, 0, 0])
            if order == Order.FAIL_ALWAYS or (order == Order.FAIL_ONCE and self._is_first):
                raise RuntimeError('out of memory, as the frame has asked for')
            if order == Order.HANG:
                time.sleep(HANG_SECONDS)
        super().run(frames, outputs, wanted, style)


class FaultyNode(SegmentationNode):
    """The package's node with a backend that fails on demand."""

    def build_segmenter(self) -> Segmenter:
        """Make a segmenter that fails on demand."""
        return Segmenter(load_checkpoint('lednet'), backend=FaultyBackend, device='cpu')


def main() -> int:
    """Run the node."""
    return run_node(lambda: make_node(FaultyNode))


if __name__ == '__main__':
    sys.exit(main())
