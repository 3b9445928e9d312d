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

"""Images with a label image each: what folders and Cityscapes have in common."""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import cv2
from lednet_ros.datasets.frames import DatasetError, imread, LabeledFrame, read_image
from lednet_ros.labels import LabelMap, UNLABELED
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
    label_map
        The classes; the values of label files are mapped by its `source_ids`.
    known_values
        Values of label files that may occur, beside 255.
    include, exclude
        Take only, or leave out, frames whose names match a shell pattern.
    problems
        What is wrong with files that are in no pair, one line each.

    Attributes
    ----------
    label_map
        The classes.
    problems
        What is wrong with the files' names: missing label images, label images without image.

    Raises
    ------
    DatasetError
        No pair is left.

    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        label_map: LabelMap,
        known_values: set[int],
        include: str | None,
        exclude: str | None,
        problems: Sequence[str],
    ) -> None:
        self.label_map = label_map
        self.problems = list(problems)
        self._known = np.zeros(256, bool)
        self._known[[*known_values, UNLABELED]] = True
        self._pairs = [
            pair
            for pair in pairs
            if (include is None or fnmatch(pair.name, include))
            and (exclude is None or not fnmatch(pair.name, exclude))
        ]
        if pairs and not self._pairs:
            raise DatasetError(
                f'no frame of {len(pairs)} is left; include is {include!r}, exclude {exclude!r}'
            )

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> LabeledFrame:
        """
        Read a frame.

        Raises
        ------
        DatasetError
            A file is missing or can't be read, sizes differ, or a label value is not known.

        """
        pair = self._pairs[index]
        pixels = read_image(pair.image)
        if not pair.labels.is_file():
            raise DatasetError(f'{pair.labels} is missing; {pair.image} has no labels')
        raw = imread(pair.labels, cv2.IMREAD_UNCHANGED)
        if raw is None or raw.ndim != 2 or raw.dtype != np.uint8:
            raise DatasetError(f'{pair.labels} is not a readable 8-bit image of one channel')
        if raw.shape != pixels.shape[:2]:
            raise DatasetError(
                f'{pair.labels} is {raw.shape[1]}x{raw.shape[0]}, '
                f'its image {pixels.shape[1]}x{pixels.shape[0]}'
            )
        values: NDArray[np.intp] = np.flatnonzero(np.bincount(raw.ravel(), minlength=256))
        strange = values[~self._known[values]].tolist()
        if strange:
            raise DatasetError(
                f"{pair.labels} has the values {strange}; label map '{self.label_map.name}' "
                f'knows {np.flatnonzero(self._known).tolist()}'
            )
        labels = np.asarray(cv2.LUT(raw, self.label_map.from_source), np.uint8)
        return LabeledFrame(pair.name, pixels, labels)

    def source(self, index: int) -> str:
        """Name a frame's image file."""
        return str(self._pairs[index].image)

    def require_all_labels(self) -> None:
        """
        Refuse a data set in which label images are missing.

        Raises
        ------
        DatasetError
            Some are.

        """
        missing = [str(pair.labels) for pair in self._pairs if not pair.labels.is_file()]
        if missing:
            raise DatasetError(f'{len(missing)} label images are missing, first: {missing[0]}')
