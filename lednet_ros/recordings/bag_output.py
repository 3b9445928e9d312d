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

"""Bags with the topics that the node would have published."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lednet_ros.inference.camera_info import scale_camera_info
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.bags import BagMessage, BagTopic, IMAGE_TYPE, NODE, SourceError
from lednet_ros.recordings.types import LABEL_INFO_TYPE
from lednet_ros.recordings.writers import BagWriter
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
UNKNOWN_DIGEST = 'RIHS01_' + '0' * 64


class SegmentedBagWriter:
    """
    Writes an MCAP bag: messages of another bag, and results under the names of the node's topics.

    Parameters
    ----------
    folder
        See `BagWriter`.
    topics
        Of the other bag.
    image_topic
        Which of them is segmented.
    label_map
        The classes, for `label_info`.
    compress
        See `BagWriter`.

    Raises
    ------
    SourceError
        The other bag has topics of the node already.

    """

    def __init__(
        self,
        folder: Path,
        topics: Sequence[BagTopic],
        image_topic: BagTopic,
        label_map: LabelMap,
        compress: bool,
    ) -> None:
        taken = [topic.name for topic in topics if topic.name.startswith(f'{NODE}/')]
        if taken:
            raise SourceError(
                f"the bag has '{taken[0]}' already; it must have no topic of {NODE}"
            )
        self._writer = BagWriter(folder, compress)
        store = self._writer.typestore
        self._types: Any = store.types
        self._label_map = label_map
        self._info: Any = None
        self._info_topic = ''
        self._has_label_info = False
        for topic in topics:
            definition, digest = topic.definition, topic.digest
            if topic.type not in store.types:
                # Older bags don't say what their types are; the messages are kept all the same.
                definition, digest = definition or '', digest or UNKNOWN_DIGEST
            self._writer.add_topic(topic.name, topic.type, definition, digest, topic.qos)
            # As image_transport has it: beside the image.
            folder_name = image_topic.name.removesuffix('/compressed').rpartition('/')[0]
            if topic.type == CAMERA_INFO_TYPE and topic.name == f'{folder_name}/camera_info':
                self._info_topic = topic.name
        self._writer.add_topic(f'{NODE}/label_info', LABEL_INFO_TYPE, qos=[_latched()])
        self.close = self._writer.close
        self.discard = self._writer.discard

    def keep(self, message: BagMessage) -> None:
        """Add a message of the other bag."""
        self._writer.write(message.topic, message.type, message.time, message.data)
        if message.topic == self._info_topic:
            self._info = message.content

    def add(
        self,
        message: BagMessage,
        color_order: str,
        labels: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
        overlay: NDArray[np.uint8],
    ) -> None:
        """
        Add the results of an image message, with its header and its time.

        Parameters
        ----------
        message
            The image.
        color_order
            Of the overlay, 'rgb' or 'bgr'.
        labels, confidence
            (H, W) uint8.
        overlay
            (H, W, 3) uint8.

        """
        original = message.content.header
        # A header of ROS 1 has another type; the fields are the same.
        header = self._types['std_msgs/msg/Header'](
            self._types['builtin_interfaces/msg/Time'](
                original.stamp.sec, original.stamp.nanosec
            ),
            original.frame_id,
        )
        if not self._has_label_info:
            self._has_label_info = True
            self._write('label_info', LABEL_INFO_TYPE, message.time, self._label_info(header))
        for name, pixels, encoding in (
            ('labels', labels, 'mono8'),
            ('confidence', confidence, 'mono8'),
            ('overlay', overlay, f'{color_order}8'),
        ):
            height, width = pixels.shape[:2]
            image = self._types[IMAGE_TYPE](
                header, height, width, encoding, 0, pixels[0].size, pixels.reshape(-1)
            )
            self._write(name, IMAGE_TYPE, message.time, image)
        if self._info is not None:
            height, width = labels.shape
            info = scale_camera_info(self._info, width, height, header)
            self._write('camera_info', CAMERA_INFO_TYPE, message.time, info)

    def _label_info(self, header: Any) -> Any:
        kind = self._types['vision_msgs/msg/VisionClass']
        classes = [kind(index, name) for index, name in enumerate(self._label_map.names)]
        return self._types[LABEL_INFO_TYPE](header, classes, 0.0)

    def _write(self, name: str, kind: str, time: int, content: Any) -> None:
        data = self._writer.typestore.serialize_cdr(content, kind)
        self._writer.write(f'{NODE}/{name}', kind, time, bytes(data))


def _latched() -> Qos:
    """Return the quality of service of the node's `label_info`."""
    never = QosTime(9223372036, 854775807)
    return Qos(
        QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
        never, never, QosLiveliness.AUTOMATIC, never, False,
    )
