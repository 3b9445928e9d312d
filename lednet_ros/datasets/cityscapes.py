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
from lednet_ros.datasets.frames import DatasetError, imread
from lednet_ros.datasets.pairs import Pair, PairDataset
from lednet_ros.labels import LabelMap
import numpy as np
from numpy.typing import NDArray

IMAGES = 'leftImg8bit'
ANNOTATIONS = ('gtFine', 'gtCoarse')
# The official label ids; license plates, id -1, are 255 in the files.
LABEL_IDS = set(range(34))


class CityscapesDataset(PairDataset):
    """
    Cityscapes as it is downloaded (Cordts et al., CVPR 2016).

    `ROOT/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` with
    `ROOT/gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png` (or gtCoarse); the label ids are mapped by
    the label map's `source_ids`, ids of no class are unlabeled.

    Parameters
    ----------
    root, split
        The folder; train, val, test or, with coarse annotations, train_extra.
    label_map
        The classes.
    annotations
        `gtFine` or `gtCoarse`.
    include, exclude
        Take only, or leave out, frames whose names (`CITY_SEQUENCE_FRAME`) match a shell pattern.
    partial
        Accept images without labels: reading such a frame raises DatasetError.

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
        images = Path(root) / IMAGES / split
        labels = Path(root) / annotations / split
        for folder in (images, labels):
            if not folder.is_dir():
                raise DatasetError(
                    f'{folder} is not a folder; needed: ROOT/{IMAGES}/SPLIT, '
                    f'ROOT/{annotations}/SPLIT'
                )
        ending = f'_{IMAGES}.png'
        files = sorted(images.glob(f'*/*{ending}'))
        if not files:
            raise DatasetError(f'{images} has no CITY/*{ending}')
        pairs = []
        for file in files:
            name = file.name.removesuffix(ending)
            label = labels / file.parent.name / f'{name}_{annotations}_labelIds.png'
            pairs.append(Pair(name, file, label))
        expected = {pair.labels for pair in pairs}
        problems = [
            f'{label} has no image in {images}'
            for label in sorted(labels.glob(f'*/*_{annotations}_labelIds.png'))
            if label not in expected
        ]
        super().__init__(pairs, label_map, LABEL_IDS, include, exclude, problems)
        if not partial:
            self.require_all_labels()

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
