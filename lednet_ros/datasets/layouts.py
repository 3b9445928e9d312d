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

"""The layouts of data sets: how each is recognized, its splits, and how it is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lednet_ros.datasets.cityscapes import ANNOTATIONS, CityscapesDataset, IMAGES
from lednet_ros.datasets.coco import CocoDataset, OBJECTS
from lednet_ros.datasets.frames import Dataset, DatasetError
from lednet_ros.datasets.pairs import FolderDataset
from lednet_ros.labels import LabelMap

PARTS = ('images', 'labels')


@dataclass(frozen=True)
class Layout:
    """
    A layout of data sets.

    Attributes
    ----------
    needed
        The folders of a split, for messages; `{}` is replaced by the annotations.
    is_at
        Returns whether a folder has this layout.
    splits
        Lists the splits in a folder that have certain annotations.
    label_map
        Name of the default label map; None for classified images.
    dataset, options
        Class of the labeled frames, and the optional arguments of `open_labeled` that it accepts.

    """

    needed: str
    is_at: Callable[[Path], bool]
    splits: Callable[[Path, str], list[str]]
    label_map: str | None = None
    dataset: Callable[..., Dataset] | None = None
    options: tuple[str, ...] = ()


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _has_classes(root: Path) -> bool:
    classes = [path.name for split in _folders(root) for path in _folders(split)]
    return bool(classes) and not {*PARTS} & {*classes}


def _coco_splits(root: Path, _: str = '') -> list[str]:
    before, after = OBJECTS.split('{}')
    files = (path.relative_to(root).as_posix() for path in root.glob(OBJECTS.format('*')))
    return [name.removeprefix(before).removesuffix(after) for name in files]


LAYOUTS = {
    'folder': Layout(
        needed='ROOT/SPLIT/images, labels',
        # The layout if no other one matches.
        is_at=lambda root: False,
        splits=lambda root, _: [
            path.name for path in _folders(root) if any((path / part).is_dir() for part in PARTS)
        ],
        label_map='camvid',
        dataset=FolderDataset,
        options=('partial',),
    ),
    'cityscapes': Layout(
        needed=f'ROOT/{IMAGES}/SPLIT, ROOT/{{}}/SPLIT',
        is_at=lambda root: (root / IMAGES).is_dir(),
        splits=lambda root, annotations: [path.name for path in _folders(root / annotations)],
        label_map='cityscapes',
        dataset=CityscapesDataset,
        options=('annotations', 'partial'),
    ),
    'coco': Layout(
        needed=f"ROOT/SPLIT, ROOT/{OBJECTS.format('SPLIT')}",
        is_at=lambda root: bool(_coco_splits(root)),
        splits=_coco_splits,
        label_map='coco_driving',
        dataset=CocoDataset,
        options=('min_pixels',),
    ),
    'image_folder': Layout(
        needed='ROOT/SPLIT/CLASS',
        is_at=_has_classes,
        splits=lambda root, _: [path.name for path in _folders(root)],
    ),
}
LABELED = {name: layout.label_map for name, layout in LAYOUTS.items() if layout.label_map}
"""Layouts of labeled frames and their default label maps."""


def guess_layout(root: Path) -> str:
    """Guess the layout of a data set from its folders; returns a key of `LAYOUTS`."""
    return next((name for name, layout in LAYOUTS.items() if layout.is_at(root)), 'folder')


def find_splits(root: Path, layout: str, annotations: str = ANNOTATIONS[0]) -> list[str]:
    """
    List the splits of a data set, sorted.

    Parameters
    ----------
    root
        The data set.
    layout
        A key of `LAYOUTS`.
    annotations
        Annotations that splits of Cityscapes must have.

    Raises
    ------
    DatasetError
        There are no splits.

    """
    names = LAYOUTS[layout].splits(root, annotations)
    if not names:
        needed = LAYOUTS[layout].needed.format(annotations)
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
        See `CityscapesDataset`.
    min_pixels
        See `CocoDataset`.
    partial
        Accept images without labels (in COCO, all images have labels).

    Raises
    ------
    DatasetError
        The layout isn't one of labeled frames, or the folder doesn't have it.

    """
    entry = LAYOUTS.get(layout)
    if entry is None or entry.dataset is None:
        raise DatasetError(f"layout is '{layout}'; labeled frames have: {', '.join(LABELED)}")
    given = {'annotations': annotations, 'min_pixels': min_pixels, 'partial': partial}
    options = {name: given[name] for name in entry.options}
    return entry.dataset(root, split, label_map, include=include, exclude=exclude, **options)
