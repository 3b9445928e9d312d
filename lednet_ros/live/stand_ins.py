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
Nodes that replace the package's node, or that it is compared with.

`lednet_ros.ros.process` runs them, with a name of `NODES` as argument. All have the parameters
`checkpoint` and `input_size`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import IntEnum
import functools
from functools import partial
import sys
import time

from lednet_ros.benchmark.baselines import EagerModule, overlay_with_numpy, Pixels
from lednet_ros.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.inference.backends.base import Outputs, Style, Wanted
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.ros.process import run_node
from lednet_ros.ros.segmentation_node import make_node, SegmentationNode
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image
import torch


@functools.cache
def pattern(size: tuple[int, ...]) -> Pixels:
    """Draw a checkerboard of class ids, (*size,) uint8; don't modify it."""
    rows, columns = np.indices(size)
    return ((rows // 64 + columns // 64) % 11).astype(np.uint8)


class NullBackend:
    """Assigns every frame the same labels; images are drawn as usual."""

    draws = False

    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """Fill the outputs; see `Backend.run`."""
        for output in outputs:
            np.copyto(output.array('labels'), pattern(output.size))


class Order(IntEnum):
    """Request of a frame's first byte to `FaultyBackend`; other values request labels."""

    FAIL_ONCE = 250
    FAIL_ALWAYS = 251
    HANG = 252


class FaultyBackend(NullBackend):
    """
    Returns fixed labels, and fails when a frame requests it.

    Simulates failures that can't be triggered at will, like a lost GPU or exhausted memory. The
    second byte of a frame is the number of the failure, as each happens once, or the tenths of a
    second to hang.
    """

    _failed: set[int] = set()

    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """Fill the outputs unless a frame requests a failure; see `Backend.run`."""
        for frame in frames:
            order, number = map(int, frame.pixels[0, 0, :2])
            fails_once = order == Order.FAIL_ONCE and number not in self._failed
            if fails_once:
                self._failed.add(number)
            if fails_once or order == Order.FAIL_ALWAYS:
                raise RuntimeError('out of memory, as the frame requested')
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


class NaiveNode(Node):
    """
    The node that most people write: cv_bridge, one callback, NumPy overlay.

    Segments `image` in the subscription's callback and publishes `~/labels` and `~/overlay`. It is
    deliberately plain, as the package's node is compared with it.

    Parameters
    ----------
    make_segment
        Makes, from a checkpoint, the function that turns a BGR frame (height, width, 3) uint8
        into labels (height, width) uint8.

    """

    def __init__(self, make_segment: Callable[[Checkpoint], Callable[[Pixels], Pixels]]) -> None:
        # Optional: other stand-ins work without it.
        from cv_bridge import CvBridge

        super().__init__('segmentation_node')
        checkpoint = load_checkpoint(self.declare_parameter('checkpoint', 'lednet').value)
        size = self.declare_parameter('input_size', [360, 480]).value
        self.segment = make_segment(replace(checkpoint, input_size=tuple(size)))
        # BGR, by id.
        self.palette = np.ascontiguousarray(checkpoint.label_map.palette[:, ::-1])
        self.bridge = CvBridge()
        self.labels = self.create_publisher(Image, '~/labels', 10)
        self.overlay = self.create_publisher(Image, '~/overlay', 10)
        self.create_subscription(Image, 'image', self.on_image, 10)

    def on_image(self, message: Image) -> None:
        """Segment a frame and publish the results."""
        frame = self.bridge.imgmsg_to_cv2(message, 'bgr8')
        labels = self.segment(frame)
        overlay = overlay_with_numpy(frame, labels, self.palette)
        for publisher, pixels, encoding in (
            (self.labels, labels, 'mono8'), (self.overlay, overlay, 'bgr8')
        ):
            result = self.bridge.cv2_to_imgmsg(pixels, encoding)
            result.header = message.header
            publisher.publish(result)


def _eager(checkpoint: Checkpoint) -> Callable[[Pixels], Pixels]:
    return EagerModule(checkpoint, 'cuda' if torch.cuda.is_available() else 'cpu').segment


def _fixed(_: Checkpoint) -> Callable[[Pixels], Pixels]:
    return lambda frame: pattern(frame.shape[:2])


NODES = {
    'null': partial(make_node, NullNode),
    'faulty': partial(make_node, FaultyNode),
    'naive': partial(NaiveNode, _eager),
    'naive_null': partial(NaiveNode, _fixed),
}


def main() -> int:
    """Run the node named by the first argument."""
    return run_node(NODES[sys.argv.pop(1)])
