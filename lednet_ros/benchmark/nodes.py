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
The nodes that are measured, each as a process of its own.

    python -m lednet_ros.benchmark.nodes ours|naive real|null CHECKPOINT H W --ros-args ...

H and W are the network's input. 'null' runs no network: the labels are a fixed pattern, so that
only the transport is left.
"""

from collections.abc import Sequence
from dataclasses import replace
import sys

from lednet_ros.benchmark.baselines import EagerModule, Pixels
from lednet_ros.benchmark.naive_node import NaiveNode
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
    """Give stripes of class ids, (*size,) uint8."""
    rows, columns = np.indices(size)
    return ((rows // 64 + columns // 64) % 11).astype(np.uint8)


class NullBackend:
    """Gives every frame the same labels; the pictures are drawn as always."""

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


class NullNode(SegmentationNode):
    """The package's node without a network."""

    def build_segmenter(self) -> Segmenter:
        """Make a segmenter that runs no network."""
        return Segmenter(load_checkpoint('lednet'), backend=NullBackend, device='cpu')


def make_naive(network: str, checkpoint: Checkpoint) -> Node:
    """Make the naive node."""
    palette = np.ascontiguousarray(checkpoint.label_map.palette[:, ::-1])
    if network == 'real':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        return NaiveNode(EagerModule(checkpoint, device).segment, palette)
    patterns: dict[tuple[int, ...], Pixels] = {}

    def segment(frame: Pixels) -> Pixels:
        height, width = frame.shape[:2]
        if (height, width) not in patterns:
            patterns[height, width] = pattern((height, width))
        return patterns[height, width]

    return NaiveNode(segment, palette)


def main(arguments: Sequence[str]) -> int:
    """Run a node; see the module."""
    kind, network, name, height, width, *rest = arguments
    if kind == 'naive':
        checkpoint = replace(load_checkpoint(name), input_size=(int(height), int(width)))
        return run_node(lambda: make_naive(network, checkpoint), [sys.argv[0], *rest])
    node = NullNode if network == 'null' else SegmentationNode
    parameters = [f'checkpoint:={name}', f'input_size:=[{height},{width}]']
    chosen = [word for parameter in parameters for word in ('-p', parameter)]
    return run_node(lambda: make_node(node), [sys.argv[0], *rest, *chosen])


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
