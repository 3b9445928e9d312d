# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded frames from rosbag2 files, videos and folders of images, without ROS."""

from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from lednet_ros.datasets import IMAGE_SUFFIXES
from lednet_ros.inference.encodings import decode, decode_compressed, Frame
import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.typesys import get_typestore, Stores

IMAGE_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_TYPE = 'sensor_msgs/msg/CompressedImage'
FOLDER_RATE = 10.0
BAG_SUFFIXES = ('.mcap', '.db3')


class SourceError(RuntimeError):
    """A recording that can't be read; the message names it and what is wrong."""


@dataclass(frozen=True)
class RecordedFrame:
    """
    A frame of a recording.

    Attributes
    ----------
    stamp
        Nanoseconds: the header's in a bag, counted from 0 in videos and folders.
    frame_id
        The header's in a bag, otherwise 'camera'.
    frame
        The pixels.

    """

    stamp: int
    frame_id: str
    frame: Frame


def read_frames(path: Path, topic: str | None = None) -> Iterator[RecordedFrame]:
    """
    Read the frames of a recording, in order.

    Parameters
    ----------
    path
        A rosbag2 (its folder or its `.mcap` or `.db3` file), a video, an image, or a folder of
        images, which are read in the order of their names at 10 frames per second.
    topic
        Image topic of a bag; None takes the only one.

    Yields
    ------
    RecordedFrame
        The frames.

    Raises
    ------
    SourceError
        The recording is missing or unreadable, or the topic is not there or not clear.
    FrameError
        A frame is damaged.

    """
    if not path.exists():
        raise SourceError(f'{path} does not exist')
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        return _read_folder(path)
    if path.is_dir() or path.suffix in BAG_SUFFIXES:
        return _read_bag(path, topic)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return iter([_read_image(path, 0)])
    return _read_video(path)


def find_image_topic(bag: Path, topic: str | None = None) -> tuple[str, str]:
    """
    Find the image topic of a bag and its type.

    Parameters
    ----------
    bag
        The bag's folder or file.
    topic
        The wanted topic; None takes the only image topic.

    Returns
    -------
    tuple of str
        Topic and type, like 'sensor_msgs/msg/Image'.

    Raises
    ------
    SourceError
        The bag can't be read, no topic fits, or several do.

    """
    with _open_bag(bag) as reader:
        connection = choose_image_topic(list(reader.connections), topic, bag)
    return connection.topic, connection.msgtype


def choose_image_topic(connections: list[Connection], topic: str | None, bag: Path) -> Connection:
    """
    Find the image topic of a bag.

    Parameters
    ----------
    connections
        The bag's topics.
    topic
        The wanted one; None takes the only image topic.
    bag
        For messages.

    Raises
    ------
    SourceError
        No topic fits, or several do; the message lists topics, types and counts.

    """
    images = [c for c in connections if c.msgtype in (IMAGE_TYPE, COMPRESSED_TYPE)]
    if topic is not None:
        images = [c for c in images if c.topic == topic]
    if len({c.topic for c in images}) == 1:
        return images[0]
    there = ''.join(f'\n  {c.topic} ({c.msgtype}, {c.msgcount})' for c in connections)
    wanted = f"image topic '{topic}'" if topic else 'a single image topic'
    raise SourceError(f'{bag}: {wanted} is needed; the bag has:{there or " nothing"}')


@contextlib.contextmanager
def _open_bag(path: Path) -> Iterator[AnyReader]:
    if not path.exists():
        raise SourceError(f'{path} does not exist')
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
            yield reader
    except (AnyReaderError, FileNotFoundError) as error:
        raise SourceError(f'{path}: not a readable bag: {error}') from error


def _read_bag(path: Path, topic: str | None) -> Iterator[RecordedFrame]:
    with _open_bag(path) as reader:
        connection = choose_image_topic(list(reader.connections), topic, path)
        for _, _, data in reader.messages([connection]):
            message: Any = reader.deserialize(data, connection.msgtype)
            if connection.msgtype == COMPRESSED_TYPE:
                frame = decode_compressed(message.data)
            else:
                frame = decode(
                    message.data,
                    encoding=message.encoding,
                    height=message.height,
                    width=message.width,
                    step=message.step,
                    is_bigendian=bool(message.is_bigendian),
                )
            stamp = message.header.stamp
            yield RecordedFrame(
                stamp.sec * 10**9 + stamp.nanosec, message.header.frame_id, frame
            )


def _read_video(path: Path) -> Iterator[RecordedFrame]:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise SourceError(f'{path} is neither a bag, an image nor a video that OpenCV reads')
    try:
        rate = capture.get(cv2.CAP_PROP_FPS) or FOLDER_RATE
        index = 0
        while True:
            there, pixels = capture.read()
            if not there:
                break
            frame = Frame(np.asarray(pixels, np.uint8), 'bgr')
            yield RecordedFrame(round(index / rate * 1e9), 'camera', frame)
            index += 1
    finally:
        capture.release()


def _read_folder(path: Path) -> Iterator[RecordedFrame]:
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise SourceError(f"{path} has no images; allowed: {', '.join(IMAGE_SUFFIXES)}")
    for index, file in enumerate(files):
        yield _read_image(file, round(index / FOLDER_RATE * 1e9))


def _read_image(path: Path, stamp: int) -> RecordedFrame:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SourceError(f'{path} is not a readable image')
    return RecordedFrame(stamp, 'camera', Frame(np.asarray(pixels, np.uint8), 'bgr'))
