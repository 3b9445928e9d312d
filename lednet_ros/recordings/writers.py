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

from collections.abc import Iterator, Sequence
import contextlib
from fractions import Fraction
from pathlib import Path
import shutil
import tempfile
from typing import Any, Protocol, TypeVar

import cv2
from lednet_ros.files import claim_files, claim_folder, publish, temporary_path
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
# Estimated rates can be anything: clocks are set, and some videos count ticks.
MIN_RATE, MAX_RATE = 1.0, 120.0
CONTAINERS = {'.mkv': 'matroska', '.avi': 'avi'}
# As fast as MPEG-4, which browsers don't play, and sharper.
ENCODING = {'preset': 'ultrafast', 'crf': '20'}

Pixels = NDArray[np.uint8]


class Output(Protocol):
    """Something that is complete at its end."""

    def close(self) -> None:
        """Complete it."""

    def discard(self) -> None:
        """Remove what is incomplete."""


AnyOutput = TypeVar('AnyOutput', bound=Output)


@contextlib.contextmanager
def completing(writer: AnyOutput) -> Iterator[AnyOutput]:
    """Complete what a block writes, or discard it if the block fails."""
    try:
        yield writer
    except BaseException:
        writer.discard()
        raise
    writer.close()


class BagWriter:
    """
    Writes serialized messages into an MCAP bag.

    Parameters
    ----------
    folder
        The bag's folder; it appears when the bag is complete.
    compress
        Compress chunks by Zstandard; readers need no option for it.
    overwrite
        Allow to replace an older bag.

    Attributes
    ----------
    typestore : Typestore
        Known message types.

    Raises
    ------
    OSError
        The folder can't be written, see `claim_folder`.

    """

    def __init__(self, folder: Path, compress: bool = False, overwrite: bool = False) -> None:
        claim_folder(folder, overwrite=overwrite, bag=True)
        self._folder = folder
        # The writer names its file after the folder, so only the parent gets a temporary name.
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
        # Times before 1970, of a clock that was never set, don't fit into the format.
        self._writer.write(self._connections[topic, message_type], max(stamp, 0), data)

    def close(self) -> None:
        """Complete the bag."""
        try:
            self._writer.close()
            publish(self._temporary, self._folder)
        finally:
            shutil.rmtree(self._temporary.parent, ignore_errors=True)

    def discard(self) -> None:
        """Remove the incomplete bag."""
        # What made it incomplete is the error to report.
        with contextlib.suppress(Exception):
            self._writer.close()
        shutil.rmtree(self._temporary.parent, ignore_errors=True)


class VideoWriter:
    """
    Writes frames into a video (H.264) that plays at the rate of their stamps.

    Parameters
    ----------
    path
        The file; it appears when the video is complete.
    rate
        Frames per second.
    overwrite
        Allow to replace an older file.

    Raises
    ------
    ImportError
        PyAV is not installed.
    OSError
        The file can't be written, see `claim_files`.

    """

    def __init__(self, path: Path, rate: float, overwrite: bool = False) -> None:
        claim_files([path], overwrite=overwrite)
        try:
            import av
        except ImportError as error:
            raise ImportError('videos are written by PyAV: pip install av') from error
        self._path = path
        self._rate = Fraction(min(max(rate, MIN_RATE), MAX_RATE)).limit_denominator(1000)
        self._temporary = temporary_path(path)
        self._frame_type = av.VideoFrame
        self._open = av.open
        self._stack = contextlib.ExitStack()
        self._stream: Any = None
        self._size = (0, 0)
        seconds = float(1 / self._rate)
        self._timeline = Timeline(seconds, MAX_REPEATS * seconds)
        self._written = 0

    def write(self, stamp: int, pixels: Pixels) -> None:
        """
        Add a frame, at least once, and repeated to fill the time since the previous frame.

        Parameters
        ----------
        stamp
            Nanoseconds. A clock that stands still or jumps back counts as one frame.
        pixels
            (H, W, 3) uint8 BGR; resized to the first frame's size if necessary.

        """
        if self._stream is None:
            self._start(pixels)
        if pixels.shape[1::-1] != self._size:
            pixels = np.asarray(cv2.resize(pixels, self._size), np.uint8)
        # Colors of half the resolution need even sides.
        width, height = self._size
        padded = cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        due = round(self._timeline.advance(stamp) * self._rate) + 1 - self._written
        for _ in range(max(due, 1)):
            frame = self._frame_type.from_ndarray(np.asarray(padded, np.uint8), 'bgr24')
            frame.pts, frame.time_base = self._written, 1 / self._rate
            self._container.mux(self._stream.encode(frame))
            self._written += 1

    def _start(self, pixels: Pixels) -> None:
        height, width = pixels.shape[:2]
        self._size = (width, height)
        # Python's file takes any name, and its errors arrive here.
        file = self._stack.enter_context(self._temporary.open('wb'))
        kind = CONTAINERS.get(self._path.suffix.lower(), 'mp4')
        self._container = self._stack.enter_context(self._open(file, 'w', format=kind))
        self._stream = self._container.add_stream('libx264', self._rate, options=ENCODING)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = 'yuv420p'

    def close(self) -> None:
        """Complete the video; without frames no file is written."""
        if self._stream is None:
            return
        try:
            self._container.mux(self._stream.encode())
            self._stack.close()
            publish(self._temporary, self._path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove the incomplete video."""
        # What made it incomplete is the error to report.
        with contextlib.suppress(Exception):
            self._stack.close()
        self._temporary.unlink(missing_ok=True)
