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

"""What segmented recordings are written into: folders of images, videos and bags."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lednet_ros.files import atomic_path, check_file
from lednet_ros.images import write_png
from lednet_ros.inference.camera_info import camera_info_topic, scale_camera_info
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.bags import (
    BagMessage,
    BagTopic,
    format_stamp,
    IMAGE_TYPE,
    LABEL_INFO_TYPE,
    NODE,
    SourceError,
)
from lednet_ros.recordings.drawing import draw_boundaries, draw_legend
from lednet_ros.recordings.sources import RecordedFrame
from lednet_ros.recordings.writers import BagWriter, VideoWriter
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

CAMERA_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
_NEVER = QosTime(9223372036, 854775807)
# Quality of service of the node's `label_info`.
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
    _NEVER, _NEVER, QosLiveliness.AUTOMATIC, _NEVER, False,
)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """
    Appearance of overlays.

    Attributes
    ----------
    legend
        Colors and names below images and videos.
    boundaries
        White lines where classes meet.

    """

    legend: bool = False
    boundaries: bool = False


@dataclass(frozen=True)
class SegmentedFrame:
    """
    A frame with its results, which nothing overwrites.

    Attributes
    ----------
    recorded
        The frame.
    message
        Its message in a bag; None elsewhere.
    labels, confidence
        (H, W) uint8; the confidence only for bags.
    overlay
        (H, W, 3) uint8 in the frame's color order; None if not needed.
    color
        (H, W, 3) uint8 RGB; None if not needed.

    """

    recorded: RecordedFrame
    message: BagMessage | None
    labels: Pixels
    confidence: Pixels | None
    overlay: Pixels | None
    color: Pixels | None


class Sink(Protocol):
    """Destination of results, called by one thread at a time."""

    def write(self, frame: SegmentedFrame | BagMessage) -> None:
        """Add a frame, or another message of the input bag."""

    def close(self) -> None:
        """Complete the output."""

    def discard(self) -> None:
        """Remove what is incomplete."""


def decorate(frame: SegmentedFrame, label_map: LabelMap, look: Look) -> Pixels:
    """Return the overlay as BGR, with legend and boundaries if requested."""
    assert frame.overlay is not None
    pixels = frame.overlay
    if frame.recorded.frame.color_order == 'rgb':
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    if look.boundaries:
        draw_boundaries(pixels, frame.labels)
    if look.legend:
        pixels = np.vstack([pixels, draw_legend(label_map, pixels.shape[1])])
    return pixels


class ImageSink:
    """
    A folder of PNG files, named like the frames or by stamp, with `_2`, `_3` ... for equal stamps.

    Parameters
    ----------
    folder, kind, label_map, look
        See `segment_recording`.
    name
        Name of the only result, without ending; None takes the frame's.
    overwrite
        Allow to replace older files.

    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        label_map: LabelMap,
        look: Look,
        name: str | None = None,
        overwrite: bool = False,
    ) -> None:
        self._folder = folder
        self._name = name
        self._overwrite = overwrite
        self._written: Counter[str] = Counter()
        self._kind = kind
        self._label_map = label_map
        self._look = look

    def write(self, frame: SegmentedFrame | BagMessage) -> None:
        """Write labels, colors or the overlay of a frame."""
        assert isinstance(frame, SegmentedFrame)
        if self._kind == 'labels':
            pixels = frame.labels
        elif self._kind == 'color':
            assert frame.color is not None
            pixels = frame.color[..., ::-1]
        else:
            pixels = decorate(frame, self._label_map, self._look)
        name = self._name or frame.recorded.name or format_stamp(frame.recorded.stamp)
        self._written[name] += 1
        if (count := self._written[name]) > 1:
            name = f'{name}_{count}'
        path = self._folder / f'{name}.png'
        if not self._overwrite:
            # It may have come after the check before the work.
            check_file(path)
        with atomic_path(path) as temporary:
            write_png(temporary, pixels)

    def close(self) -> None:
        """Do nothing: each file is complete."""

    discard = close


class VideoSink:
    """A video of overlays."""

    def __init__(
        self, path: Path, rate: float, label_map: LabelMap, look: Look, overwrite: bool = False
    ) -> None:
        self._writer = VideoWriter(path, rate, overwrite)
        self._label_map = label_map
        self._look = look
        self.close = self._writer.close
        self.discard = self._writer.discard

    def write(self, frame: SegmentedFrame | BagMessage) -> None:
        """Add the overlay of a frame."""
        assert isinstance(frame, SegmentedFrame)
        self._writer.write(frame.recorded.stamp, decorate(frame, self._label_map, self._look))


class BagSink:
    """
    An MCAP bag: the messages of another bag, and results under the names of the node's topics.

    Parameters
    ----------
    folder, compress, overwrite
        See `BagWriter`.
    topics
        Topics of the other bag.
    image_topic
        The one that is segmented.
    label_map
        The classes, for `label_info`.
    look
        Appearance of overlays.

    Raises
    ------
    SourceError
        The other bag already has topics of the node.

    """

    def __init__(
        self,
        folder: Path,
        topics: Sequence[BagTopic],
        image_topic: BagTopic,
        label_map: LabelMap,
        look: Look,
        compress: bool,
        overwrite: bool = False,
    ) -> None:
        taken = [topic.name for topic in topics if topic.name.startswith(f'{NODE}/')]
        if taken:
            raise SourceError(f"the bag has '{taken[0]}' already; it must have no topic of {NODE}")
        self._writer = BagWriter(folder, compress, overwrite)
        self._types: Any = self._writer.typestore.types
        self._label_map = label_map
        self._look = look
        self._info: Any = None
        self._has_label_info = False
        self._info_topic = camera_info_topic(image_topic.name), CAMERA_INFO_TYPE
        for topic in topics:
            self._writer.add_topic(
                topic.name, topic.type, topic.definition, topic.digest, topic.qos
            )
        self._writer.add_topic(f'{NODE}/label_info', LABEL_INFO_TYPE, qos=[LATCHED])
        self.close = self._writer.close
        self.discard = self._writer.discard

    def write(self, frame: SegmentedFrame | BagMessage) -> None:
        """Add a message of the other bag, for a frame followed by its results."""
        message = frame if isinstance(frame, BagMessage) else frame.message
        assert message is not None
        self._writer.write(message.topic, message.type, message.time, message.data)
        if isinstance(frame, SegmentedFrame):
            self._add_results(frame, message)
        elif (message.topic, message.type) == self._info_topic:
            self._info = message.content

    def _add_results(self, frame: SegmentedFrame, message: BagMessage) -> None:
        """Add results with the header and time of the image."""
        assert frame.confidence is not None
        assert frame.overlay is not None
        if self._look.boundaries:
            draw_boundaries(frame.overlay, frame.labels)
        original = message.content.header
        # A ROS 1 header has another type with the same fields.
        header = self._types['std_msgs/msg/Header'](
            self._types['builtin_interfaces/msg/Time'](
                original.stamp.sec, original.stamp.nanosec
            ),
            original.frame_id,
        )
        if not self._has_label_info:
            self._has_label_info = True
            kind = self._types['vision_msgs/msg/VisionClass']
            classes = list(map(kind, self._label_map.ids, self._label_map.names))
            label_info = self._types[LABEL_INFO_TYPE](header, classes, 0.0)
            self._add('label_info', LABEL_INFO_TYPE, message.time, label_info)
        for name, pixels, encoding in (
            ('labels', frame.labels, 'mono8'),
            ('confidence', frame.confidence, 'mono8'),
            ('overlay', frame.overlay, f'{frame.recorded.frame.color_order}8'),
        ):
            height, width = pixels.shape[:2]
            image = self._types[IMAGE_TYPE](
                header, height, width, encoding, 0, pixels[0].size, pixels.reshape(-1)
            )
            self._add(name, IMAGE_TYPE, message.time, image)
        if self._info is not None:
            height, width = frame.labels.shape
            info = scale_camera_info(self._info, width, height, header)
            self._add('camera_info', CAMERA_INFO_TYPE, message.time, info)

    def _add(self, name: str, kind: str, time: int, content: Any) -> None:
        data = self._writer.typestore.serialize_cdr(content, kind)
        self._writer.write(f'{NODE}/{name}', kind, time, bytes(data))
