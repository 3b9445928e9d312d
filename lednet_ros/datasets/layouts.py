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

"""The layouts of data sets: which one a folder has, which splits it holds, how they are opened."""

from pathlib import Path

from lednet_ros.datasets.cityscapes import ANNOTATIONS, CityscapesDataset, IMAGES
from lednet_ros.datasets.coco import CocoDataset, OBJECTS
from lednet_ros.datasets.folder import FolderDataset
from lednet_ros.datasets.frames import Dataset, DatasetError
from lednet_ros.labels import LabelMap

LABELED = {'folder': 'camvid', 'cityscapes': 'cityscapes', 'coco': 'coco_driving'}
"""Layouts of labeled frames, with the label map that is taken where none is named."""
LAYOUTS = (*LABELED, 'image_folder')
PARTS = ('images', 'labels')


def guess_layout(root: Path) -> str:
    """
    Tell the layout of a data set from its folders.

    Parameters
    ----------
    root
        The data set.

    Returns
    -------
    str
        One of `LAYOUTS`; `folder` when nothing speaks for another one.

    """
    if (root / IMAGES).is_dir():
        return 'cityscapes'
    if any(root.glob(OBJECTS.format('*'))):
        return 'coco'
    splits = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    classes = [path for split in splits for path in split.iterdir() if path.is_dir()]
    if classes and not any(path.name in PARTS for path in classes):
        return 'image_folder'
    return 'folder'


def find_splits(root: Path, layout: str, annotations: str = ANNOTATIONS[0]) -> list[str]:
    """
    List the splits of a data set.

    Parameters
    ----------
    root
        The data set.
    layout
        One of `LAYOUTS`.
    annotations
        Of Cityscapes: splits without these are left out.

    Returns
    -------
    list of str
        Names, sorted.

    Raises
    ------
    DatasetError
        There is none.

    """
    if layout == 'coco':
        before, after = OBJECTS.split('{}')
        objects = (str(path.relative_to(root)) for path in root.glob(OBJECTS.format('*')))
        names = [name.removeprefix(before).removesuffix(after) for name in objects]
    else:
        folder = root / annotations if layout == 'cityscapes' else root
        found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        if layout == 'folder':
            found = [path for path in found if any((path / part).is_dir() for part in PARTS)]
        names = [path.name for path in found]
    if not names:
        needed = {
            'folder': 'ROOT/SPLIT/images, labels',
            'cityscapes': f'ROOT/{IMAGES}/SPLIT, ROOT/{annotations}/SPLIT',
            'coco': f"ROOT/SPLIT, ROOT/{OBJECTS.format('SPLIT')}",
            'image_folder': 'ROOT/SPLIT/CLASS',
        }[layout]
        raise DatasetError(f'{root} has no splits of layout {layout!r}; needed: {needed}')
    return sorted(names)


def open_labeled(
    layout: str,
    root: str | Path,
    split: str,
    label_map: LabelMap,
    annotations: str = ANNOTATIONS[0],
    include: str | None = None,
    exclude: str | None = None,
    min_pixels: int = 0,
    partial: bool = False,
) -> Dataset:
    """
    Open a split of a data set of labeled frames.

    Parameters
    ----------
    layout
        A key of `LABELED`.
    root, split, label_map, include, exclude
        See the layout's data set.
    annotations
        Of Cityscapes.
    min_pixels
        Of COCO.
    partial
        Accept images without labels (of COCO, all have some).

    Raises
    ------
    DatasetError
        The layout is another one, or the folder isn't what the layout says.

    """
    if layout == 'folder':
        return FolderDataset(root, split, label_map, include, exclude, partial)
    if layout == 'cityscapes':
        return CityscapesDataset(
            root, split, label_map, annotations, include, exclude, partial
        )
    if layout == 'coco':
        return CocoDataset(root, split, label_map, min_pixels, include, exclude)
    raise DatasetError(f"layout is '{layout}'; labeled frames have: {', '.join(LABELED)}")
