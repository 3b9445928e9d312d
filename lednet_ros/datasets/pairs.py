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

"""Images with one label image each, and folders of them."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
from lednet_ros.datasets.frames import (
    DatasetError,
    is_selected,
    LabeledFrame,
    list_images,
    read_image,
    read_labels,
    require_folders,
)
from lednet_ros.images import is_shown
from lednet_ros.labels import LabelMap, LabelMapError, UNLABELED
import numpy as np
from numpy.typing import NDArray


class Pair(NamedTuple):
    """A frame's name and files."""

    name: str
    image: Path
    labels: Path


class PairDataset:
    """
    Labeled frames from pairs of files.

    Parameters
    ----------
    pairs
        The files.
    label_files
        All label images; those without an image become `problems`.
    images
        Folder of the images.
    known_values
        Values that label images may contain in addition to 255.
    label_map, include, exclude, partial
        See `FolderDataset`.

    Attributes
    ----------
    label_map
        The classes.
    problems
        One line for each label image without an image.

    Raises
    ------
    DatasetError
        No pair is left, or an image has no label image.

    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        label_files: Sequence[Path],
        images: Path,
        known_values: Collection[int],
        label_map: LabelMap,
        include: str | None,
        exclude: str | None,
        partial: bool,
    ) -> None:
        self.label_map = label_map
        expected = {pair.labels for pair in pairs}
        self.problems = [
            f'{file} has no image in {images}'
            for file in sorted(label_files)
            if file not in expected
        ]
        self._known = np.zeros(256, bool)
        self._known[[*known_values, UNLABELED]] = True
        self._pairs = [pair for pair in pairs if is_selected(pair.name, include, exclude)]
        if not self._pairs:
            raise DatasetError(
                f'no frame of {len(pairs)} is left; include is {include!r}, exclude {exclude!r}'
            )
        missing = [pair.labels for pair in self._pairs if not pair.labels.is_file()]
        if missing and not partial:
            raise DatasetError(f'{len(missing)} label images are missing, first: {missing[0]}')

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> LabeledFrame:
        """
        Read a frame.

        Raises
        ------
        DatasetError
            A file is missing or can't be read, sizes differ, or a label value is unknown.

        """
        pair = self._pairs[index]
        pixels = read_image(pair.image)
        if not pair.labels.is_file():
            raise DatasetError(f'{pair.labels} is missing; {pair.image} has no labels')
        raw = read_labels(pair.labels)
        if raw.shape[:2] != pixels.shape[:2]:
            raise DatasetError(
                f'{pair.labels} is {raw.shape[1]}x{raw.shape[0]}, '
                f'its image {pixels.shape[1]}x{pixels.shape[0]}'
            )
        if raw.ndim == 3:
            try:
                return LabeledFrame(pair.name, pixels, self.label_map.from_colors(raw))
            except LabelMapError as error:
                raise DatasetError(f'{pair.labels}: {error}') from error
        values: NDArray[np.intp] = np.flatnonzero(np.bincount(raw.ravel(), minlength=256))
        unknown = values[~self._known[values]].tolist()
        if unknown:
            raise DatasetError(
                f"{pair.labels} has the values {unknown}; label map '{self.label_map.name}' "
                f'knows {np.flatnonzero(self._known).tolist()}'
            )
        labels = np.asarray(cv2.LUT(raw, self.label_map.from_source), np.uint8)
        return LabeledFrame(pair.name, pixels, labels)

    def source(self, index: int) -> str:
        """Return the path of a frame's image."""
        return str(self._pairs[index].image)


class FolderDataset(PairDataset):
    """
    Images beside label images: `ROOT/SPLIT/images/STEM.jpg` and `ROOT/SPLIT/labels/STEM.png`.

    Label images have one 8-bit channel, a palette whose indices count, or colors (RGB).

    Parameters
    ----------
    root, split
        The folder and the split within it.
    label_map
        The classes, which map the values or colors of label images.
    include, exclude
        Select, or omit, frames whose names (here: stems) match a shell pattern.
    partial
        Accept images without labels: reading such a frame raises DatasetError.

    Raises
    ------
    DatasetError
        The folder is missing or empty, or an image has no label image.

    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        label_map: LabelMap,
        include: str | None = None,
        exclude: str | None = None,
        partial: bool = False,
    ) -> None:
        images, labels = Path(root) / split / 'images', Path(root) / split / 'labels'
        require_folders('ROOT/SPLIT/images, labels', images, labels)
        pairs = [
            Pair(file.stem, file, labels / f'{file.stem}.png') for file in list_images(images)
        ]
        known = {value for label in label_map.labels for value in label.source_ids}
        known |= {*label_map.unlabeled_ids}
        super().__init__(
            pairs, [*filter(is_shown, labels.glob('*.png'))], images, known, label_map, include,
            exclude, partial,
        )
