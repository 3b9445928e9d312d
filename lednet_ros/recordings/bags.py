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
import logging
from pathlib import Path
import re
import sqlite3
import struct
import tempfile
from typing import Any

from lednet_ros.files import parse_yaml
from lednet_ros.images import IMAGE_SUFFIXES
from lednet_ros.inference.encodings import decode_message, Frame, FrameError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.convert.converter import migrate_bytes
from rosbags.highlevel import AnyReader
from rosbags.interfaces import MessageDefinitionFormat, Qos
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosbags.typesys.store import Typestore
import yaml
import zstandard

logger = logging.getLogger(__name__)

IMAGE_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_TYPE = 'sensor_msgs/msg/CompressedImage'
IMAGE_TYPES = (IMAGE_TYPE, COMPRESSED_TYPE)
SPLIT_SUFFIXES = ('.mcap', '.db3')
BAG_SUFFIXES = (*SPLIT_SUFFIXES, '.bag')
PACKED = '.zstd'
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
MAX_MESSAGE_BYTES = 1 << 30
METADATA = 'metadata.yaml'
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
        Definition (as MSG) and digest of the type, which another bag needs; None if unknown.
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

    def stamp(self) -> int:
        """Return the header's stamp in nanoseconds, or the time of recording if there is none."""
        stamp = self.header_stamp()
        return stamp if stamp > 0 else self.time


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

    def messages(
        self, names: Collection[str] | None = None, start: int | None = None
    ) -> Iterator[BagMessage]:
        """
        Read messages in the order of their recording.

        Parameters
        ----------
        names
            Topics; None reads all.
        start
            Earliest time of recording in nanoseconds; None reads from the beginning.

        Yields
        ------
        BagMessage
            As many as can be read; `damage` then says why there are no more.

        """
        count = 0
        try:
            for message in self._read(names, start):
                yield message
                count += 1
        # Storage, compression and torn records raise errors of any type.
        except Exception as error:
            expected = sum(t.count for t in self.topics if names is None or t.name in names)
            self.damage = (
                f'{self.path}: {count} of {expected} messages could be read, then: {error}'
            )

    def _read(self, names: Collection[str] | None, start: int | None) -> Iterator[BagMessage]:
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
    """
    Return whether a path looks like a bag.

    That is a file by its suffix, a folder with `metadata.yaml`, or one without, as a recorder
    leaves it that was killed: it has files of bags, but no images and no folders.
    """
    if not path.is_dir():
        return path.is_file() and _unpacked_name(path).endswith(BAG_SUFFIXES)
    if (path / METADATA).is_file():
        return True
    others = any(
        entry.is_dir() or entry.suffix.lower() in IMAGE_SUFFIXES for entry in path.iterdir()
    )
    return bool(_list_splits(path)) and not others


@contextlib.contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """
    Open a bag.

    Parameters
    ----------
    path
        A rosbag2 (its folder, or its `.mcap` or `.db3` file), which is read up to the damage if it
        is damaged, or a `.bag` of ROS 1. Topics in other encodings than CDR are skipped with a
        warning.

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
        try:
            bag = _open(path, stack)
        except OSError as error:
            raise SourceError(f'{path} is not a readable bag: {error}') from error
        yield bag


def _open(path: Path, stack: contextlib.ExitStack) -> Bag:
    splits = _list_splits(path) if path.is_dir() else [path]
    try:
        if path.is_dir() and (path / METADATA).is_file():
            whole = [path]
        else:
            whole = splits = _prepare(path, splits, stack)
        reader = AnyReader(whole, default_typestore=make_typestore())
        return _WholeBag(path, stack.enter_context(reader))
    except SourceError:
        raise
    # Damaged files make their readers raise errors of any type.
    except Exception as error:
        return _TornBag(path, [_unpack(split, stack) for split in splits], error)


def _unpacked_name(file: Path) -> str:
    return file.name.lower().removesuffix(PACKED)


def _list_splits(folder: Path) -> list[Path]:
    """List the files of a rosbag2 in the order of their numbers: 9 is before 10."""
    files = [
        file for file in folder.iterdir()
        if _unpacked_name(file).endswith(SPLIT_SUFFIXES)
        and file.is_file() and not file.name.startswith('.')
    ]
    # Text and numbers alternate.
    return sorted(
        files, key=lambda file: [
            int(part) if place % 2 else part
            for place, part in enumerate(re.split('([0-9]+)', file.name))
        ]
    )


def _prepare(path: Path, splits: list[Path], stack: contextlib.ExitStack) -> list[Path]:
    """Return the files of a bag without metadata as `rosbags` reads them."""
    if path.is_dir() and splits:
        names = {re.split(r'(_[0-9]+)?\.', split.name)[0] for split in splits}
        if len(names) > 1:
            raise SourceError(
                f'{path} has no {METADATA}, and files of several bags: '
                f'{", ".join(sorted(names))}; name one of its files'
            )
        _warn(f'{path} has no {METADATA}; its {len(splits)} files are read without it')
    return [_unpack(split, stack) for split in splits]


def _unpack(file: Path, stack: contextlib.ExitStack) -> Path:
    """Return a file by a name in lower case, and decompressed, for as long as the stack lives."""
    if file.name.endswith(BAG_SUFFIXES):
        return file
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix='lednet_ros'))
    unpacked = Path(folder) / _unpacked_name(file)
    if not file.name.lower().endswith(PACKED):
        unpacked.symlink_to(file.resolve())
        return unpacked
    with (
        file.open('rb') as source,
        unpacked.open('wb') as target,
        # What could be decompressed is read like any other damaged file.
        contextlib.suppress(zstandard.ZstdError),
    ):
        zstandard.ZstdDecompressor().copy_stream(source, target)
    return unpacked


@functools.cache
def _warn(text: str) -> None:
    """Log a warning once, however often the bag is opened."""
    logger.warning(text)


def _warn_of_encoding(path: Path, topic: str, encoding: str) -> None:
    _warn(f"{path}: {topic} is skipped: its messages are in '{encoding}'; only 'cdr' is read")


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
        self._connections = []
        for connection in reader.connections:
            encoding = getattr(connection.ext, 'serialization_format', 'cdr')
            if encoding != 'cdr':
                _warn_of_encoding(path, connection.topic, encoding)
                continue
            self._connections.append(connection)
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

    def _read(self, names: Collection[str] | None, start: int | None) -> Iterator[BagMessage]:
        connections = [c for c in self._connections if names is None or c.topic in names]
        # A method of the types, not of the reader, because messages may outlive the reader.
        types = self._reader.typestore
        read = types.deserialize_ros1 if self.is_ros1 else types.deserialize_cdr
        # File by file, like `_TornBag`: the clock may have been set in between.
        for owner in dict.fromkeys(connection.owner for connection in connections):
            of_file = [connection for connection in connections if connection.owner is owner]
            for connection, time, data in self._reader.messages(of_file, start):
                plain = bytes(data) if self.is_ros1 else _decompress(bytes(data))
                yield BagMessage(
                    connection.topic, connection.msgtype, time, plain, self.is_ros1, read
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

    def __init__(self, path: Path, files: list[Path], error: Exception) -> None:
        self._path = path
        self._files = files
        # By file.
        self._torn: dict[str, str] = {}
        # By type.
        self._definitions: dict[str, str] = {}
        counts = Counter((message.topic, message.type) for message in self._read(None, None))
        if not counts:
            raise SourceError(f'{path}: not a readable bag: {error}') from error
        topics = [
            BagTopic(name, kind, count, self._definitions.get(kind))
            for (name, kind), count in counts.items()
        ]
        losses = [*self._torn.values(), *_find_missing_files(path)]
        if not losses:
            _warn(f'{path} is read without its index: {error}')
        damage = f'{path}: {"; ".join(losses)}' if losses else ''
        super().__init__(path, topics, False, 0.0, damage)

    def _read(self, names: Collection[str] | None, start: int | None) -> Iterator[BagMessage]:
        typestore = make_typestore()
        for file in self._files:
            read = self._read_mcap if file.suffix == '.mcap' else self._read_database
            count = 0
            try:
                for topic, kind, time, data in read(file):
                    count += 1
                    if (names is None or topic in names) and (start is None or time >= start):
                        yield BagMessage(topic, kind, time, data, False, typestore.deserialize_cdr)
            # Torn records raise errors of any type.
            except Exception as error:
                self._torn[file.name] = (
                    f'{file.name} is damaged after {count} messages ({error})'
                )

    def _read_mcap(self, file: Path) -> Iterator[tuple[str, str, int, bytes]]:
        """Yield topic, type, time and data of the messages in file order."""
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        with file.open('rb') as stream:
            for record in StreamReader(stream).records:
                if isinstance(record, Schema):
                    schemas[record.id] = record
                    if record.encoding == 'ros2msg':
                        self._definitions[record.name] = record.data.decode()
                elif isinstance(record, Channel):
                    channels[record.id] = record
                elif isinstance(record, Message):
                    channel = channels[record.channel_id]
                    if channel.message_encoding == 'cdr':
                        kind = schemas[channel.schema_id].name
                        yield channel.topic, kind, record.log_time, record.data
                    else:
                        _warn_of_encoding(self._path, channel.topic, channel.message_encoding)

    def _read_database(self, file: Path) -> Iterator[tuple[str, str, int, bytes]]:
        """Do the same as `_read_mcap` for SQLite."""
        uri = f'{file.resolve().as_uri()}?mode=ro'
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            topics = {
                row[0]: row[1:] for row in database.execute('SELECT id, name, type FROM topics')
            }
            # Without the index, which may be damaged.
            for topic, time, data in database.execute(
                'SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY rowid'
            ):
                yield *topics[topic], time, _decompress(data)


def _decompress(data: bytes) -> bytes:
    """Decompress a message if it is compressed, which only metadata say; CDR starts with 0."""
    if not data.startswith(ZSTD_MAGIC):
        return data
    if zstandard.frame_content_size(data) > MAX_MESSAGE_BYTES:
        raise SourceError(f'a compressed message has more than {MAX_MESSAGE_BYTES >> 20} MiB')
    return zstandard.decompress(data, MAX_MESSAGE_BYTES)


def _find_missing_files(path: Path) -> list[str]:
    """Describe the files that the metadata of a bag's folder lists but the folder lacks."""
    try:
        metadata = parse_yaml((path / METADATA).read_text(encoding='utf-8'))
        # Older bags list them with their folder.
        listed = [
            path / Path(name).name
            for name in metadata['rosbag2_bagfile_information']['relative_file_paths']
        ]
        return [f'{file.name} is missing' for file in listed if not file.is_file()]
    # Without metadata, or with damaged ones, nothing is known to be missing.
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return []
