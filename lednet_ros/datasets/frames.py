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
import os
from pathlib import Path
from typing import Any, Protocol

import cv2
from lednet_ros.labels import LabelMap
import numpy as np
from numpy.typing import NDArray

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')


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
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
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
    Read an image file as `cv2.imread` does.

    Returns
    -------
    ndarray or None
        The pixels, BGR if they have three channels; None if the file is not a readable image.

    Raises
    ------
    DatasetError
        The image has more than `OPENCV_IO_MAX_IMAGE_PIXELS` pixels; they are not decoded.

    """
    try:
        return cv2.imread(str(path), flags)
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
