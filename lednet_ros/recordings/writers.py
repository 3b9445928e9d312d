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

"""Bags and videos that appear under their names once they are complete."""

from collections.abc import Sequence
from pathlib import Path
import shutil
import tempfile

import cv2
from lednet_ros.recordings.bags import make_typestore
from lednet_ros.recordings.sources import Timeline
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter, Schema, write_schema
from rosbags.typesys import get_types_from_msg, get_typestore, Stores

# A gap in the stamps is filled with at most this many repetitions.
MAX_REPEATS = 20

Pixels = NDArray[np.uint8]


class BagWriter:
    """
    Writes serialized messages into an MCAP bag.

    Parameters
    ----------
    folder
        The bag's folder; it appears, or replaces an older one, when the bag is complete.
    compress
        Compress chunks by Zstandard; readers need no option for it.

    Attributes
    ----------
    typestore : Typestore
        Known message types.

    """

    def __init__(self, folder: Path, compress: bool = False) -> None:
        self._folder = folder
        # The writer names its file after the folder, so only the parent gets a temporary name.
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = tempfile.mkdtemp(prefix='.part', dir=folder.parent)
        self._temporary = Path(part) / folder.name
        self.typestore = make_typestore()
        self._writer = Writer(self._temporary, version=8, storage_plugin=StoragePlugin.MCAP)
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[tuple[str, str], Connection] = {}

    def add_topic(
        self,
        topic: str,
        message_type: str,
        definition: str | None = None,
        digest: str | None = None,
        qos: Sequence[Qos] = (),
    ) -> None:
        """
        Add a topic before its first message, to specify more than its type.

        Parameters
        ----------
        topic, message_type
            See `write`.
        definition, digest
            See `BagTopic`; None uses those of ROS 2 Jazzy, or none for a type that it lacks.
        qos
            Quality of service that its publishers offer.

        """
        if definition is not None and digest is None:
            # Bags older than Iron have no digests; a wrong one makes the whole bag unreadable.
            types = get_typestore(Stores.EMPTY)
            try:
                types.register(get_types_from_msg(definition, message_type))
                digest = types.hash_rihs01(message_type)
            # Damaged definitions raise errors of any type.
            except Exception:
                definition = None
        if definition is None and message_type not in self.typestore.types:
            connection = self._add_undefined(topic, message_type, qos)
        else:
            connection = self._writer.add_connection(
                topic,
                message_type,
                typestore=self.typestore,
                msgdef=definition,
                rihs01=digest,
                offered_qos_profiles=qos,
            )
        self._connections[topic, message_type] = connection

    def _add_undefined(self, topic: str, message_type: str, qos: Sequence[Qos]) -> Connection:
        """Add a topic without a definition, as rosbag2 does; `Writer` can't."""
        writer = self._writer
        assert isinstance(writer.storage, McapWriter)
        connection = Connection(
            len(writer.connections) + 1, topic, message_type,
            MessageDefinition(MessageDefinitionFormat.NONE, ''), '', 0,
            ConnectionExtRosbag2('cdr', [*qos]), writer,
        )
        if message_type not in writer.added_types:
            writer.added_types.add(message_type)
            schema = Schema(len(writer.storage.schemas) + 1, message_type, '', '')
            writer.storage.schemas.append(schema)
            write_schema(writer.storage.chunk.bio, schema)
        writer.storage.add_connection(connection, '')
        writer.connections.append(connection)
        writer.counts[connection.id] = 0
        return connection

    def write(self, topic: str, message_type: str, stamp: int, data: bytes) -> None:
        """
        Add a message.

        Parameters
        ----------
        topic, message_type
            Like '/camera/image' and 'sensor_msgs/msg/Image'.
        stamp
            Nanoseconds.
        data
            The serialized message (CDR).

        """
        if (topic, message_type) not in self._connections:
            self.add_topic(topic, message_type)
        self._writer.write(self._connections[topic, message_type], stamp, data)

    def close(self) -> None:
        """Complete the bag."""
        self._writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._temporary.rename(self._folder)
        self._temporary.parent.rmdir()

    def discard(self) -> None:
        """Remove the incomplete bag."""
        self._writer.close()
        shutil.rmtree(self._temporary.parent)


class VideoWriter:
    """
    Writes frames into an MP4 video that plays at the rate of their stamps.

    Parameters
    ----------
    path
        The file; it appears when the video is complete.
    rate
        Frames per second.

    """

    def __init__(self, path: Path, rate: float) -> None:
        self._path = path
        self._rate = rate
        self._temporary = path.with_name(f'.{path.stem}.part{path.suffix}')
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._timeline = Timeline(1 / rate, MAX_REPEATS / rate)
        self._written = 0

    def write(self, stamp: int, pixels: Pixels) -> None:
        """
        Add a frame, at least once, and repeated to fill the time since the previous frame.

        Parameters
        ----------
        stamp
            Nanoseconds.
        pixels
            (H, W, 3) uint8 BGR; resized to the first frame's size if necessary.

        """
        if self._writer is None:
            self._size = (pixels.shape[1], pixels.shape[0])
            self._writer = cv2.VideoWriter(
                str(self._temporary), cv2.VideoWriter.fourcc(*'mp4v'), self._rate, self._size
            )
            if not self._writer.isOpened():
                raise OSError(f"{self._path} can't be written as a video")
        if (pixels.shape[1], pixels.shape[0]) != self._size:
            pixels = np.asarray(cv2.resize(pixels, self._size), np.uint8)
        due = round(self._timeline.advance(stamp) * self._rate) + 1 - self._written
        for _ in range(max(due, 1)):
            self._writer.write(pixels)
            self._written += 1

    def close(self) -> None:
        """Complete the video; without frames no file is written."""
        if self._writer is not None:
            self._writer.release()
            self._temporary.replace(self._path)

    def discard(self) -> None:
        """Remove the incomplete video."""
        if self._writer is not None:
            self._writer.release()
            self._temporary.unlink()
