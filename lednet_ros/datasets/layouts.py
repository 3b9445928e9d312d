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

"""Which layout a folder has, and which splits it holds."""

from pathlib import Path

from lednet_ros.datasets.cityscapes import ANNOTATIONS, IMAGES
from lednet_ros.datasets.frames import DatasetError

LAYOUTS = ('folder', 'cityscapes', 'image_folder')
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
    folder = root / annotations if layout == 'cityscapes' else root
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    if layout == 'folder':
        found = [path for path in found if any((path / part).is_dir() for part in PARTS)]
    if not found:
        needed = {
            'folder': 'ROOT/SPLIT/images, labels',
            'cityscapes': f'ROOT/{IMAGES}/SPLIT, ROOT/{annotations}/SPLIT',
            'image_folder': 'ROOT/SPLIT/CLASS',
        }[layout]
        raise DatasetError(f'{root} has no splits of layout {layout!r}; needed: {needed}')
    return sorted(path.name for path in found)
