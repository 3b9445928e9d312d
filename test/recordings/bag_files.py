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

"""Bags for tests: real files of every kind, with images and label images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED = 'sensor_msgs/msg/CompressedImage'
ROS2 = get_typestore(Stores.ROS2_JAZZY)
ROS1 = get_typestore(Stores.ROS1_NOETIC)


@dataclass(frozen=True)
class Entry:
    """
    A message to write.

    Attributes
    ----------
    topic
        Its topic.
    stamp, time
        Nanoseconds of the header and of the recording.
    pixels
        (H, W) or (H, W, 3) uint8, or the bytes of a compressed image.
    encoding
        Like 'bgr8'; 'png' and 'jpeg' produce compressed images of BGR pixels.
    length
        Number of bytes after which the serialized message is cut off.
    image_format
        `format` of a compressed image, if not its encoding.

    """

    topic: str
    stamp: int
    time: int
    pixels: np.ndarray | bytes
    encoding: str = 'bgr8'
    length: int | None = None
    image_format: str = ''


def write_bag(
    path: Path, entries: Sequence[Entry], plugin: StoragePlugin = StoragePlugin.MCAP
) -> Path:
    """Write a rosbag2."""
    with Writer(path, version=8, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for entry in entries:
            message, kind = _message(entry, ROS2)
            if entry.topic not in connections:
                connections[entry.topic] = writer.add_connection(
                    entry.topic, kind, typestore=ROS2
                )
            data = ROS2.serialize_cdr(message, kind)[: entry.length]
            writer.write(connections[entry.topic], entry.time, data)
    return path


def write_ros1_bag(path: Path, entries: Sequence[Entry]) -> Path:
    """Write a ROS 1 bag."""
    with Writer1(path) as writer:
        connections: dict[str, Any] = {}
        for entry in entries:
            message, kind = _message(entry, ROS1)
            if entry.topic not in connections:
                connections[entry.topic] = writer.add_connection(
                    entry.topic, kind, typestore=ROS1
                )
            data = ROS1.serialize_ros1(message, kind)[: entry.length]
            writer.write(connections[entry.topic], entry.time, data)
    return path


def write_recording(kind: str, path: Path) -> Path:
    """
    Write a recording with one topic, '/camera'.

    It is 'mcap', 'sqlite3', 'ros1', 'folder' (of one image), 'torn' or 'no metadata'.
    """
    entries = [
        Entry('/camera', i * 10**8, i * 10**8, np.zeros((600, 800, 3), np.uint8))
        for i in range(6)
    ]
    if kind == 'ros1':
        return write_ros1_bag(path.with_suffix('.bag'), entries)
    if kind == 'folder':
        path.mkdir()
        assert cv2.imwrite(str(path / '0.png'), np.zeros((8, 8, 3), np.uint8))
        return path
    plugin = StoragePlugin.SQLITE3 if kind == 'sqlite3' else StoragePlugin.MCAP
    write_bag(path, entries, plugin)
    if kind == 'torn':
        (file,) = path.glob('*.mcap')
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    if kind == 'no metadata':
        (path / 'metadata.yaml').unlink()
    return path


def _message(entry: Entry, typestore: Any) -> tuple[Any, str]:
    types = typestore.types
    stamp = types['builtin_interfaces/msg/Time'](
        sec=entry.stamp // 10**9, nanosec=entry.stamp % 10**9
    )
    sequence = {'seq': 0} if typestore is ROS1 else {}
    header = types['std_msgs/msg/Header'](stamp=stamp, frame_id='cam', **sequence)
    if entry.encoding in ('png', 'jpeg'):
        if isinstance(entry.pixels, bytes):
            data = np.frombuffer(entry.pixels, np.uint8)
        else:
            good, data = cv2.imencode('.' + entry.encoding, entry.pixels)
            assert good
        message = types[COMPRESSED](
            header=header, format=entry.image_format or entry.encoding, data=data.ravel()
        )
        return message, COMPRESSED
    height, width = entry.pixels.shape[:2]
    pixels = np.ascontiguousarray(entry.pixels).ravel()
    message = types[IMAGE](
        header=header, height=height, width=width, encoding=entry.encoding, is_bigendian=0,
        step=pixels.size // height, data=pixels,
    )
    return message, IMAGE
