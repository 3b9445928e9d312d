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

"""
Image and video files: the only place that hands paths to OpenCV.

OpenCV takes a colon for the end of a protocol's name, and a name that isn't UTF-8 crashes it.
"""

from collections.abc import Iterator
import contextlib
from pathlib import Path
import tempfile
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def find_images(folder: Path) -> list[Path]:
    """
    List the images in a folder, sorted, without hidden ones like `._0001.png` of macOS.

    Links that lead nowhere are listed, so that somebody misses them; folders and pipes are not.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and is_shown(path)
        and (path.is_file() or not path.exists())
    )


def is_shown(path: Path) -> bool:
    """Return whether a file isn't hidden."""
    return not path.name.startswith('.')


def read_image_file(path: Path, flags: int) -> NDArray[Any] | None:
    """
    Read an image file like `cv2.imread`, from any path.

    Returns
    -------
    ndarray or None
        The pixels, BGR if they have three channels; None if the file is not a readable image.

    Raises
    ------
    cv2.error
        The image has more than `OPENCV_IO_MAX_IMAGE_PIXELS` pixels; they are not decoded.
    OSError
        The file can't be read.

    """
    data = np.fromfile(path, np.uint8)
    return cv2.imdecode(data, flags) if data.size else None


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a PNG file, (H, W) or BGR (H, W, 3) uint8; raises OSError."""
    path.write_bytes(cv2.imencode('.png', pixels)[1].data)


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[cv2.VideoCapture]:
    """Provide an open video or camera; `isOpened` says whether OpenCV could open it."""
    name = str(path.absolute())
    with contextlib.ExitStack() as stack:
        try:
            name.encode()
        except UnicodeEncodeError:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            link = Path(folder, 'video')
            link.symlink_to(name)
            name = str(link)
        capture = cv2.VideoCapture(name)
        stack.callback(capture.release)
        yield capture
