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

"""Folders of images beside folders of label images."""

from pathlib import Path

from lednet_ros.datasets.frames import DatasetError, IMAGE_SUFFIXES
from lednet_ros.datasets.pairs import Pair, PairDataset
from lednet_ros.labels import LabelMap


class FolderDataset(PairDataset):
    """
    Images beside label images: `ROOT/SPLIT/images/STEM.jpg` and `ROOT/SPLIT/labels/STEM.png`.

    Label images have one channel of 8 bit; their values are mapped by the label map's
    `source_ids`.

    Parameters
    ----------
    root, split
        The folder and the split within it.
    label_map
        The classes.
    include, exclude
        Take only, or leave out, images whose stems match a shell pattern.
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
        images = Path(root) / split / 'images'
        labels = Path(root) / split / 'labels'
        for folder in (images, labels):
            if not folder.is_dir():
                raise DatasetError(f'{folder} is not a folder; needed: ROOT/SPLIT/images, labels')
        files = sorted(p for p in images.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise DatasetError(f"{images} has no images; allowed: {', '.join(IMAGE_SUFFIXES)}")
        stems = {file.stem for file in files}
        problems = [
            f'{label} has no image in {images}'
            for label in sorted(labels.glob('*.png'))
            if label.stem not in stems
        ]
        known = {value for label in label_map.labels for value in label.source_ids}
        pairs = [Pair(file.stem, file, labels / f'{file.stem}.png') for file in files]
        super().__init__(pairs, label_map, known, include, exclude, problems)
        if not partial:
            self.require_all_labels()
