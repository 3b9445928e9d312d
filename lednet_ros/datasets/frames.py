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

"""Labeled frames, the interface of data sets, and access to image files."""

from dataclasses import dataclass
from fnmatch import fnmatch
import io
import os
from pathlib import Path
import struct
from typing import Any, Protocol

import cv2
from lednet_ros.images import find_images, IMAGE_SUFFIXES, read_image_file
from lednet_ros.labels import LabelMap
import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

PNG_START = b'\x89PNG\r\n\x1a\n'
# Width, height, bits of a sample and kind of color.
PNG_HEADER = struct.Struct('>16xIIBB')
PALETTE = 3
# Gray, RGB and RGBA.
LABEL_COLORS = (0, 2, 6)


class DatasetError(RuntimeError):
    """A data set that can't be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class LabeledFrame:
    """
    A frame with its ground truth.

    Attributes
    ----------
    name
        File stem or another short name.
    pixels
        (H, W, 3) uint8 RGB.
    labels
        (H, W) uint8 class ids of the label map; 255 is unlabeled.

    """

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class Dataset(Protocol):
    """Labeled frames by index."""

    @property
    def label_map(self) -> LabelMap:
        """Return the classes."""

    def __len__(self) -> int:
        """Count the frames."""

    def __getitem__(self, index: int) -> LabeledFrame:
        """Read a frame; raises DatasetError, which names the file, if it can't be read."""

    def source(self, index: int) -> str:
        """Name a frame's origin for messages, such as its file."""


def require_folders(needed: str, *folders: Path) -> None:
    """Raise DatasetError, which names the `needed` folders, if a folder is missing."""
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(f'{folder} is not a folder; needed: {needed}')


def list_images(folder: Path) -> list[Path]:
    """List the images in a folder, sorted; raises DatasetError if there are none."""
    files = find_images(folder)
    if not files:
        raise DatasetError(f"{folder} has no images; allowed: {', '.join(IMAGE_SUFFIXES)}")
    return files


def is_selected(name: str, include: str | None, exclude: str | None) -> bool:
    """Return whether a name matches the shell pattern `include` and doesn't match `exclude`."""
    return (include is None or fnmatch(name, include)) and (
        exclude is None or not fnmatch(name, exclude)
    )


def imread(path: Path, flags: int) -> NDArray[Any] | None:
    """
    Read an image file as `read_image_file` does.

    Returns
    -------
    ndarray or None
        The pixels, BGR if they have three channels; None if the file is not a readable image.

    Raises
    ------
    DatasetError
        The file can't be opened, or the image has more than `OPENCV_IO_MAX_IMAGE_PIXELS` pixels.

    """
    try:
        return read_image_file(path, flags)
    except OSError as error:
        raise DatasetError(f'{path} is not a readable image: {error.strerror}') from error
    except cv2.error as error:
        limit = os.environ['OPENCV_IO_MAX_IMAGE_PIXELS']
        raise DatasetError(
            f'{path} is too large: {error.err}; OPENCV_IO_MAX_IMAGE_PIXELS is {limit}'
        ) from error


def read_image(path: Path) -> NDArray[np.uint8]:
    """
    Read an image file.

    Returns
    -------
    ndarray
        (H, W, 3) uint8 RGB.

    Raises
    ------
    DatasetError
        The file can't be read or is too large.

    """
    pixels = imread(path, cv2.IMREAD_COLOR)
    if pixels is None:
        raise DatasetError(f'{path} is not a readable image')
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def read_labels(source: Path | bytes, name: str = '') -> NDArray[np.uint8]:
    """
    Read a label image.

    The ids of an image with a palette are its indices: its colors are those of the tool that wrote
    it.

    Parameters
    ----------
    source
        A PNG file, or its content.
    name
        Name of the image in messages; the path by default.

    Returns
    -------
    ndarray
        uint8: class ids (H, W), or RGB colors (H, W, 3).

    Raises
    ------
    DatasetError
        It can't be read, is too large or is another kind of image.

    """
    name = name or str(source)
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise DatasetError(f'{name} is not a readable image: {error.strerror}') from error
    if not data.startswith(PNG_START) or len(data) < PNG_HEADER.size:
        is_jpeg = data.startswith(b'\xff\xd8')
        kind = 'a JPEG, which changes labels' if is_jpeg else 'not a readable image'
        raise DatasetError(f'{name} is {kind}; it must be a PNG')
    width, height, depth, color = PNG_HEADER.unpack_from(data)
    limit = int(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'])
    if width * height > limit:
        raise DatasetError(
            f'{name} is too large: {width}x{height} pixels; OPENCV_IO_MAX_IMAGE_PIXELS is {limit}'
        )
    if color != PALETTE and (color not in LABEL_COLORS or depth != 8):
        kind = {0: 'gray', 2: 'RGB', 4: 'gray and alpha', 6: 'RGBA'}.get(color, 'unknown colors')
        raise DatasetError(
            f'{name} has {kind} of {depth} bits a channel; labels must be gray of 8 bits or have '
            'a palette (class ids), or be RGB of 8 bits (colors)'
        )
    if color != PALETTE:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise DatasetError(f'{name} is not a readable image')
        if color:
            return np.asarray(pixels[..., 2::-1], np.uint8)
        # With a transparent value, gray becomes four channels.
        return np.asarray(pixels.reshape(height, width, -1)[..., 0], np.uint8)
    try:
        # Not by Image.open, which has a limit and a warning of its own.
        with PngImageFile(io.BytesIO(data)) as image:
            return np.array(image)
    # Damaged files raise errors of any type.
    except Exception as error:
        raise DatasetError(f'{name} is not a readable image: {error}') from error
