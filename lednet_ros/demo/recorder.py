# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the demo leaves behind: a bag, a video and a contact sheet."""

from dataclasses import dataclass
from pathlib import Path
import shutil

import cv2
from lednet_ros.files import atomic_path
from lednet_ros.inference.postprocess import colorize
from lednet_ros.labels import LabelMap
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

VIDEO_RATE = 10.0
# A gap in the stamps fills the video with at most so many repetitions.
MAX_REPEATS = 20
SHEET_ROWS = 5
TILE_WIDTH = 400
CAPTION_HEIGHT = 28
LEGEND_HEIGHT = 56
FONT = cv2.FONT_HERSHEY_SIMPLEX

Pixels = NDArray[np.uint8]


class BagRecorder:
    """
    Writes serialized messages into an MCAP bag.

    Parameters
    ----------
    folder
        The bag's folder; it appears, and replaces an older one, when the bag is complete.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # The writer names the file inside after its folder, so that only the parent is temporary.
        self._temporary = folder.parent / '.part' / folder.name
        shutil.rmtree(self._temporary.parent, ignore_errors=True)
        self._temporary.parent.mkdir(parents=True)
        self._typestore = get_typestore(Stores.ROS2_JAZZY)
        self._writer = Writer(self._temporary, version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connections: dict[str, Connection] = {}

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
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, message_type, typestore=self._typestore
            )
        self._writer.write(self._connections[topic], stamp, data)

    def close(self) -> None:
        """Complete the bag."""
        self._writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._temporary.rename(self._folder)
        self._temporary.parent.rmdir()


class VideoRecorder:
    """
    Writes frames into an MP4 video that plays at the pace of their stamps.

    Parameters
    ----------
    path
        The file; it appears when the video is complete.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f'.{path.stem}.part{path.suffix}')
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._first = 0
        self._written = 0

    def write(self, stamp: int, pixels: Pixels) -> None:
        """
        Add a frame, repeated as often as the time since the frame before asks for.

        Parameters
        ----------
        stamp
            Nanoseconds.
        pixels
            (H, W, 3) uint8 BGR; resized to the first frame's size where it differs.

        """
        if self._writer is None:
            self._size = (pixels.shape[1], pixels.shape[0])
            self._first = stamp
            self._writer = cv2.VideoWriter(
                str(self._temporary), cv2.VideoWriter.fourcc(*'mp4v'), VIDEO_RATE, self._size
            )
            if not self._writer.isOpened():
                raise OSError(f"{self._path} can't be written as a video")
        if (pixels.shape[1], pixels.shape[0]) != self._size:
            pixels = cv2.resize(pixels, self._size)
        due = round((stamp - self._first) / 1e9 * VIDEO_RATE) + 1 - self._written
        for _ in range(min(max(due, 0), MAX_REPEATS)):
            self._writer.write(pixels)
            self._written += 1

    def close(self) -> None:
        """Complete the video; without frames there is none."""
        if self._writer is not None:
            self._writer.release()
            self._temporary.replace(self._path)


@dataclass(frozen=True)
class Sample:
    """
    One frame with everything that belongs to it.

    Attributes
    ----------
    frame, overlay
        (H, W, 3) uint8 BGR.
    labels
        (H, W) uint8 class ids.
    truth
        (H, W) uint8 class ids; None where there is no ground truth.

    """

    frame: Pixels
    overlay: Pixels
    labels: Pixels
    truth: Pixels | None


class SampleKeeper:
    """Keeps some samples, spread evenly over a run of unknown length."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._stride = 1
        self._seen = 0

    def offer(self, sample: Sample) -> None:
        """Keep the sample if it falls on the present stride."""
        if self._seen % self._stride == 0:
            self.samples.append(sample)
            if len(self.samples) >= 4 * SHEET_ROWS:
                self.samples = self.samples[::2]
                self._stride *= 2
        self._seen += 1

    def spread(self, count: int) -> list[Sample]:
        """Choose up to `count` samples from the first to the last."""
        if len(self.samples) <= count:
            return self.samples
        places = np.linspace(0, len(self.samples) - 1, count).round().astype(int)
        return [self.samples[place] for place in places]


def write_contact_sheet(
    path: Path, samples: list[Sample], label_map: LabelMap, title: str
) -> None:
    """
    Draw samples side by side: frame, ground truth where there is one, labels, overlay.

    Parameters
    ----------
    path
        PNG file to write.
    samples
        The rows; without any, nothing is written.
    label_map
        Colors and names of the classes, for the legend.
    title
        Line above the pictures.

    """
    if not samples:
        return
    palette = np.ascontiguousarray(label_map.palette[:, ::-1])
    with_truth = any(sample.truth is not None for sample in samples)
    captions = ['frame', *(['ground truth'] if with_truth else []), 'labels', 'overlay']
    rows = []
    for sample in samples:
        colors = np.empty((*sample.labels.shape, 3), np.uint8)
        colorize(sample.labels, palette, colors)
        tiles = [sample.frame, colors, sample.overlay]
        if with_truth:
            truth = np.zeros_like(colors)
            if sample.truth is not None:
                truth = np.empty((*sample.truth.shape, 3), np.uint8)
                colorize(sample.truth, palette, truth)
            tiles.insert(1, truth)
        rows.append(np.hstack([_tile(pixels, samples[0].frame.shape) for pixels in tiles]))
    body = np.vstack(rows)
    header = np.full((2 * CAPTION_HEIGHT, body.shape[1], 3), 255, np.uint8)
    _text(header, title, (8, 20))
    for index, caption in enumerate(captions):
        _text(header, caption, (8 + index * TILE_WIDTH, 20 + CAPTION_HEIGHT))
    sheet = np.vstack([header, body, _legend(label_map, palette, body.shape[1])])
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), sheet)


def _tile(pixels: Pixels, shape: tuple[int, ...]) -> Pixels:
    height = round(TILE_WIDTH * shape[0] / shape[1])
    return cv2.resize(pixels, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)


def _legend(label_map: LabelMap, palette: Pixels, width: int) -> Pixels:
    per_row = -(-label_map.num_classes // 2)
    cell = width // per_row
    legend = np.full((LEGEND_HEIGHT, width, 3), 255, np.uint8)
    for index, name in enumerate(label_map.names):
        x = index % per_row * cell
        y = index // per_row * LEGEND_HEIGHT // 2
        color = tuple(int(value) for value in palette[index])
        cv2.rectangle(legend, (x + 6, y + 6), (x + 26, y + 22), color, cv2.FILLED)
        _text(legend, name, (x + 32, y + 20))
    return legend


def _text(image: Pixels, text: str, place: tuple[int, int]) -> None:
    cv2.putText(image, text, place, FONT, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
