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

"""Cityscapes in its official folders."""

from pathlib import Path

import cv2
from lednet_ros.datasets.frames import DatasetError, imread, require_folders
from lednet_ros.datasets.pairs import Pair, PairDataset
from lednet_ros.images import is_shown
from lednet_ros.labels import LabelMap
import numpy as np
from numpy.typing import NDArray

IMAGES = 'leftImg8bit'
ANNOTATIONS = ('gtFine', 'gtCoarse')
# The official label ids; license plates, id -1, are 255 in the files.
LABEL_IDS = range(34)


class CityscapesDataset(PairDataset):
    """
    Cityscapes as downloaded (Cordts et al., CVPR 2016).

    `ROOT/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` with
    `ROOT/gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png` (or gtCoarse). Label ids without a class are
    unlabeled.

    Parameters
    ----------
    root, split
        The folder; train, val, test or, with coarse annotations, train_extra.
    label_map, include, exclude, partial
        See `FolderDataset`; names are `CITY_SEQUENCE_FRAME`.
    annotations
        `gtFine` or `gtCoarse`.

    Raises
    ------
    DatasetError
        A folder is missing or empty, or an image has no label image.

    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        label_map: LabelMap,
        annotations: str = 'gtFine',
        include: str | None = None,
        exclude: str | None = None,
        partial: bool = False,
    ) -> None:
        if annotations not in ANNOTATIONS:
            allowed = ', '.join(ANNOTATIONS)
            raise DatasetError(f"annotations are '{annotations}'; allowed: {allowed}")
        images, labels = Path(root) / IMAGES / split, Path(root) / annotations / split
        require_folders(f'ROOT/{IMAGES}/SPLIT, ROOT/{annotations}/SPLIT', images, labels)
        image_ending, label_ending = f'_{IMAGES}.png', f'_{annotations}_labelIds.png'
        pairs = []
        for file in sorted(filter(is_shown, images.glob(f'*/*{image_ending}'))):
            name = file.name.removesuffix(image_ending)
            pairs.append(Pair(name, file, labels / file.parent.name / f'{name}{label_ending}'))
        if not pairs:
            raise DatasetError(f'{images} has no CITY/*{image_ending}')
        label_files = [*filter(is_shown, labels.glob(f'*/*{label_ending}'))]
        super().__init__(
            pairs, label_files, images, LABEL_IDS, label_map, include, exclude, partial
        )

    def instances(self, index: int) -> NDArray[np.int32]:
        """
        Read the instance ids of a frame.

        Returns
        -------
        ndarray
            (H, W) int32: the label id, or label id * 1000 + number for classes with instances.

        Raises
        ------
        DatasetError
            The file is missing or can't be read.

        """
        labels = self._pairs[index].labels
        path = labels.with_name(labels.name.replace('_labelIds', '_instanceIds'))
        ids = imread(path, cv2.IMREAD_UNCHANGED) if path.is_file() else None
        if ids is None or ids.ndim != 2:
            raise DatasetError(f'{path} is not a readable image of one channel')
        return np.asarray(ids, np.int32)
