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

"""Messages of rosbag2 and ROS 1 bags, and of damaged ones as far as they can be read."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
import contextlib
from dataclasses import dataclass
import functools
from pathlib import Path
import sqlite3
import struct
from typing import Any

from lednet_ros.inference.encodings import decode_message, Frame, FrameError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.convert.converter import migrate_bytes
from rosbags.highlevel import AnyReader
from rosbags.interfaces import MessageDefinitionFormat, Qos
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosbags.typesys.store import Typestore

IMAGE_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_TYPE = 'sensor_msgs/msg/CompressedImage'
IMAGE_TYPES = (IMAGE_TYPE, COMPRESSED_TYPE)
BAG_SUFFIXES = ('.mcap', '.db3', '.bag')
# Namespace of the node's outputs, which are added to bags.
NODE = '/segmentation_node'
# Four bytes of the encoding (ROS 2) or a sequence number (ROS 1), then the stamp.
HEADER_BYTES = 12
LABEL_INFO_TYPE = 'vision_msgs/msg/LabelInfo'
# Definitions of vision_msgs 4, which `rosbags` lacks.
DEFINITIONS = {
    'vision_msgs/msg/VisionClass': 'uint16 class_id\nstring class_name\n',
    LABEL_INFO_TYPE: (
        'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n'
    ),
}


class SourceError(RuntimeError):
    """A recording that can't be read; the message names it and what is wrong."""


@dataclass(frozen=True)
class BagTopic:
    """
    A topic of a bag.

    Attributes
    ----------
    name, type
        Like '/camera/image_raw' and 'sensor_msgs/msg/Image'.
    count
        Number of messages.
    definition, digest
        Definition and digest of the type, which another bag needs; None if unknown.
    qos
        Quality of service that each publisher offers.

    """

    name: str
    type: str  # noqa: A003
    count: int
    definition: str | None = None
    digest: str | None = None
    qos: tuple[Qos, ...] = ()


@dataclass(frozen=True)
class BagMessage:
    """
    A message of a bag, not yet deserialized.

    Attributes
    ----------
    topic, type
        See `BagTopic`.
    time
        Time of recording in nanoseconds.
    data
        Serialized message: CDR, or in the format of ROS 1.
    is_ros1
        Whether it is serialized in the format of ROS 1.

    """

    topic: str
    type: str  # noqa: A003
    time: int
    data: bytes
    is_ros1: bool
    _deserialize: Callable[[bytes, str], Any]

    @functools.cached_property
    def content(self) -> Any:
        """Deserialize the message, once; raises SourceError if it is damaged."""
        try:
            return self._deserialize(self.data, self.type)
        # Damaged bytes raise errors of any type.
        except Exception as error:
            raise SourceError(
                f'{self.topic}: a message of {len(self.data)} bytes is no {self.type}: '
                f'{type(error).__name__}: {error}'
            ) from error

    def header_stamp(self) -> int:
        """
        Return the header's stamp in nanoseconds; the message must begin with its header.

        If the message is too short for a header, return its time of recording.
        """
        if len(self.data) < HEADER_BYTES:
            return self.time
        if self.is_ros1:
            seconds, nanoseconds = struct.unpack_from('<II', self.data, 4)
        else:
            order = '<' if self.data[1] & 1 else '>'
            seconds, nanoseconds = struct.unpack_from(f'{order}iI', self.data, 4)
        return int(seconds) * 10**9 + int(nanoseconds)


class Bag:
    """
    An open bag; see `open_bag`.

    Attributes
    ----------
    path : Path
        Its folder or file.
    topics : list of BagTopic
        Its topics.
    is_ros1 : bool
        Whether it is a ROS 1 bag.
    seconds : float
        Time from the first message to the last; 0 if unknown.
    damage : str
        What could not be read, known once all messages have been requested; empty if nothing.

    """

    def __init__(
        self, path: Path, topics: list[BagTopic], is_ros1: bool, seconds: float, damage: str
    ) -> None:
        self.path = path
        self.topics = topics
        self.is_ros1 = is_ros1
        self.seconds = seconds
        self.damage = damage

    def messages(self, names: Collection[str] | None = None) -> Iterator[BagMessage]:
        """
        Read messages in the order of their recording.

        Parameters
        ----------
        names
            Topics; None reads all.

        Yields
        ------
        BagMessage
            As many as can be read; `damage` then says why there are no more.

        """
        count = 0
        try:
            for message in self._read(names):
                yield message
                count += 1
        # Storage, compression and torn records raise errors of any type.
        except Exception as error:
            expected = sum(t.count for t in self.topics if names is None or t.name in names)
            self.damage = (
                f'{self.path}: {count} of {expected} messages could be read, then: {error}'
            )

    def _read(self, names: Collection[str] | None) -> Iterator[BagMessage]:
        raise NotImplementedError

    def cdr(self, message: BagMessage) -> bytes:
        """Return the bytes of a message in the format of ROS 2; raise SourceError if damaged."""
        return message.data

    def choose_topic(
        self, name: str | None, types: Collection[str], what: str, other_than: str | None = None
    ) -> BagTopic:
        """
        Find a topic.

        Parameters
        ----------
        name
            Its name; None selects the only one of these types that the node did not publish.
        types
            Allowed types.
        what
            Description for error messages, like 'image topic'.
        other_than
            A topic to ignore.

        Raises
        ------
        SourceError
            Not exactly one topic fits; the message lists topics, types and counts.

        """
        fitting = [t for t in self.topics if t.type in types and t.name != other_than]
        if name is None:
            # The node may be in any namespace.
            fitting = [t for t in fitting if f'{NODE}/' not in t.name]
        else:
            fitting = [topic for topic in fitting if topic.name == name]
        if len(fitting) == 1:
            return fitting[0]
        listed = ''.join(f'\n  {t.name} ({t.type}, {t.count})' for t in self.topics)
        wanted = f"{what} '{name}'" if name else f'a single {what}'
        raise SourceError(
            f'{self.path}: {wanted} ({" or ".join(types)}) is needed; '
            f'the bag has:{listed or " nothing"}'
        )


def make_typestore() -> Typestore:
    """Return the message types of ROS 2 Jazzy and those of `label_info`."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in DEFINITIONS.items():
        typestore.register(get_types_from_msg(definition, name))
    return typestore


def format_stamp(stamp: int) -> str:
    """Format nanoseconds as seconds with nine decimals."""
    return f'{stamp // 10**9}.{stamp % 10**9:09d}'


def is_bag(path: Path) -> bool:
    """Return whether a path looks like a bag: a folder with metadata, or a file by its suffix."""
    return (path / 'metadata.yaml').is_file() or (
        path.is_file() and path.suffix in BAG_SUFFIXES
    )


@contextlib.contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """
    Open a bag.

    Parameters
    ----------
    path
        A rosbag2 (its folder, or its `.mcap` or `.db3` file), which is read up to the damage if it
        is damaged, or a `.bag` of ROS 1.

    Yields
    ------
    Bag
        The open bag.

    Raises
    ------
    SourceError
        It is missing, or nothing of it can be read.

    """
    if not path.exists():
        raise SourceError(f'{path} does not exist')
    with contextlib.ExitStack() as stack:
        bag: Bag
        try:
            bag = _WholeBag(
                path, stack.enter_context(AnyReader([path], default_typestore=make_typestore()))
            )
        # Damaged files make their readers raise errors of any type.
        except Exception as error:
            bag = _TornBag(path, error)
        yield bag


def decode_image(message: BagMessage) -> Frame:
    """
    Decode an image message.

    Raises
    ------
    FrameError
        It is damaged or has an unknown encoding.

    """
    try:
        content = message.content
    except SourceError as error:
        raise FrameError(str(error), reason='truncated') from error
    return decode_message(content)


class _WholeBag(Bag):
    """A bag that `rosbags` reads."""

    def __init__(self, path: Path, reader: AnyReader) -> None:
        self._reader = reader
        self._ros2_types = make_typestore()
        self._migrations: dict[str, object] = {}
        topics: dict[tuple[str, str], BagTopic] = {}
        for connection in reader.connections:
            key = connection.topic, connection.msgtype
            # Each publisher of a topic has a connection.
            before = topics[key].count if key in topics else 0
            definition = None
            if connection.msgdef.format == MessageDefinitionFormat.MSG:
                definition = connection.msgdef.data
            topics[key] = BagTopic(
                *key,
                before + connection.msgcount,
                definition,
                connection.digest or None,
                tuple(getattr(connection.ext, 'offered_qos_profiles', ())),
            )
        super().__init__(path, [*topics.values()], not reader.is2, reader.duration / 1e9, '')

    def _read(self, names: Collection[str] | None) -> Iterator[BagMessage]:
        connections = [c for c in self._reader.connections if names is None or c.topic in names]
        if not connections:
            # `rosbags` would read all.
            return
        # A method of the types, not of the reader, because messages may outlive the reader.
        types = self._reader.typestore
        read = types.deserialize_ros1 if self.is_ros1 else types.deserialize_cdr
        for connection, time, data in self._reader.messages(connections):
            yield BagMessage(
                connection.topic, connection.msgtype, time, bytes(data), self.is_ros1, read
            )

    def cdr(self, message: BagMessage) -> bytes:
        """See `Bag`."""
        if not self.is_ros1:
            return message.data
        kind = message.type
        try:
            return bytes(
                migrate_bytes(
                    self._reader.typestore, self._ros2_types, kind, kind, self._migrations,
                    message.data, src_is2=False, dst_is2=True,
                )
            )
        # Damaged bytes raise errors of any type.
        except Exception as error:
            raise SourceError(f'{message.topic}: no {kind} of ROS 2: {error!r}') from error


class _TornBag(Bag):
    """Files that `rosbags` refuses with `error`: everything before the damage."""

    def __init__(self, path: Path, error: Exception) -> None:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        self._files = [file for file in files if file.suffix in _SALVAGE]
        self._torn = ''
        counts = Counter((message.topic, message.type) for message in self._read(None))
        if not counts:
            raise SourceError(f'{path}: not a readable bag: {error}') from error
        topics = [BagTopic(name, kind, count) for (name, kind), count in counts.items()]
        super().__init__(path, topics, False, 0.0, f'{path}: {self._torn or error}')

    def _read(self, names: Collection[str] | None) -> Iterator[BagMessage]:
        typestore = make_typestore()
        for file in self._files:
            count = 0
            try:
                for topic, kind, time, data in _SALVAGE[file.suffix](file):
                    count += 1
                    if names is None or topic in names:
                        yield BagMessage(topic, kind, time, data, False, typestore.deserialize_cdr)
            # Torn records raise errors of any type.
            except Exception as error:
                self._torn = f'{file.name} is damaged after {count} messages ({error})'


Salvaged = Iterator[tuple[str, str, int, bytes]]


def _salvage_mcap(path: Path) -> Salvaged:
    """Yield topic, type, time and data of the messages in file order."""
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    with path.open('rb') as stream:
        for record in StreamReader(stream).records:
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                channel = channels[record.channel_id]
                kind = schemas[channel.schema_id].name
                yield channel.topic, kind, record.log_time, record.data


def _salvage_database(path: Path) -> Salvaged:
    """Do the same as `_salvage_mcap` for SQLite."""
    with contextlib.closing(sqlite3.connect(f'{path.resolve().as_uri()}?mode=ro', uri=True)) as db:
        topics = {row[0]: row[1:] for row in db.execute('SELECT id, name, type FROM topics')}
        # Without the index, which may be damaged.
        for topic, time, data in db.execute(
            'SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY rowid'
        ):
            yield *topics[topic], time, data


_SALVAGE = {'.mcap': _salvage_mcap, '.db3': _salvage_database}
