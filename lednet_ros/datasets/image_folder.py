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

"""Images in one folder per class, like ImageNet."""

from dataclasses import dataclass
from pathlib import Path

from lednet_ros.datasets.frames import DatasetError, list_images, read_image, require_folders
from lednet_ros.images import is_shown
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassifiedImage:
    """
    An image with its class.

    Attributes
    ----------
    name
        File stem.
    pixels
        (H, W, 3) uint8 RGB.
    class_id
        Index into the data set's `classes`.

    """

    name: str
    pixels: NDArray[np.uint8]
    class_id: int


class ImageFolder:
    """
    Classified images: `ROOT/SPLIT/CLASS/NAME.jpg`.

    Parameters
    ----------
    root, split
        The folder and the split within it.

    Attributes
    ----------
    classes : tuple of str
        Names of the folders, sorted.

    Raises
    ------
    DatasetError
        The folder is missing, or a class has no images.

    """

    def __init__(self, root: str | Path, split: str) -> None:
        folder = Path(root) / split
        require_folders('ROOT/SPLIT/CLASS', folder)
        folders = sorted(path for path in filter(is_shown, folder.iterdir()) if path.is_dir())
        if not folders:
            raise DatasetError(f'{folder} has no folders; needed: one for each class')
        self.classes = tuple(path.name for path in folders)
        self._files = [
            (file, class_id) for class_id, path in enumerate(folders) for file in list_images(path)
        ]

    def __len__(self) -> int:
        """Count the images."""
        return len(self._files)

    def __getitem__(self, index: int) -> ClassifiedImage:
        """Read an image; raises DatasetError, which names the file, if it can't be read."""
        path, class_id = self._files[index]
        return ClassifiedImage(path.stem, read_image(path), class_id)

    def class_id(self, index: int) -> int:
        """Return the class of an image without reading it."""
        return self._files[index][1]

    def source(self, index: int) -> str:
        """Return the path of an image."""
        return str(self._files[index][0])
