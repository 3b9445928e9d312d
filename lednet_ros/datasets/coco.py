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

"""COCO as downloaded: objects as polygons or run lengths, in one JSON file per split."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from lednet_ros.datasets.frames import DatasetError, is_selected, LabeledFrame, read_image
from lednet_ros.labels import LabelMap, UNLABELED
import numpy as np
from numpy.typing import NDArray

BACKGROUND = 'background'
OBJECTS = 'annotations/instances_{}.json'


class CocoDataset:
    """
    Images with their objects: `ROOT/SPLIT/*.jpg` and `ROOT/annotations/instances_SPLIT.json`.

    Only images in which objects of the label map's classes cover enough pixels are used. Pixels
    outside all objects are 'background', crowds are unlabeled, and smaller objects cover larger
    ones.

    Parameters
    ----------
    root, split
        The folder and the split within it, like 'train2017'.
    label_map
        The classes, one of them 'background'; `source_ids` are COCO's categories.
    min_pixels
        An image's objects must have more pixels in total, by the areas that COCO states.
    include, exclude
        See `FolderDataset`.

    Raises
    ------
    DatasetError
        A file is missing or damaged, or no image is left; pycocotools is not installed.

    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        label_map: LabelMap,
        min_pixels: int,
        include: str | None = None,
        exclude: str | None = None,
    ) -> None:
        try:
            from pycocotools import mask
        except ImportError as error:
            raise DatasetError(
                f'COCO needs pycocotools (pip install pycocotools): {error}'
            ) from error
        self.label_map = label_map
        self._mask = mask
        self._folder = Path(root) / split
        self._classes = {
            source: index
            for index, label in enumerate(label_map.labels)
            for source in label.source_ids
        }
        if BACKGROUND not in label_map.names:
            raise DatasetError(
                f"label map '{label_map.name}' has no class '{BACKGROUND}', which COCO needs"
            )
        self._background = label_map.id_of(BACKGROUND)
        path = Path(root) / OBJECTS.format(split)
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            images, self._objects = self._select(content, min_pixels)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(f'{path}: not the objects of COCO: {error!r}') from error
        self._images = [
            image
            for image in images
            if is_selected(Path(image['file_name']).stem, include, exclude)
        ]
        if not self._images:
            raise DatasetError(
                f'{path} has no image with more than {min_pixels} pixels of the classes of '
                f"'{label_map.name}'; include is {include!r}, exclude {exclude!r}"
            )

    def __len__(self) -> int:
        """Count the images."""
        return len(self._images)

    def __getitem__(self, index: int) -> LabeledFrame:
        """Read an image and draw its objects; raises DatasetError if that fails."""
        image = self._images[index]
        pixels = read_image(Path(self.source(index)))
        shape = (int(image['height']), int(image['width']))
        if pixels.shape[:2] != shape:
            raise DatasetError(
                f'{self.source(index)} is {pixels.shape[0]}x{pixels.shape[1]} (height x width); '
                f'its objects are for {shape[0]}x{shape[1]}'
            )
        labels = np.full(shape, self._background, np.uint8)
        try:
            # Crowds first, then from large to small: later objects cover earlier ones.
            for entry in sorted(
                self._objects[image['id']], key=lambda e: (not e['iscrowd'], -e['area'])
            ):
                value = UNLABELED if entry['iscrowd'] else self._classes[entry['category_id']]
                labels[self._decode(entry['segmentation'], shape)] = value
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DatasetError(f'{self.source(index)}: damaged object: {error!r}') from error
        return LabeledFrame(Path(image['file_name']).stem, pixels, labels)

    def source(self, index: int) -> str:
        """Return the path of an image."""
        return str(self._folder / Path(self._images[index]['file_name']).name)

    def _select(
        self, content: Mapping[str, Any], min_pixels: int
    ) -> tuple[list[dict[str, Any]], Mapping[int, Sequence[dict[str, Any]]]]:
        objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for entry in content['annotations']:
            if entry['category_id'] in self._classes:
                objects[entry['image_id']].append(entry)
        images = [
            image
            for image in content['images']
            if sum(e['area'] for e in objects[image['id']] if not e['iscrowd']) > min_pixels
        ]
        return sorted(images, key=lambda image: str(image['file_name'])), objects

    def _decode(self, segmentation: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask of an object."""
        if isinstance(segmentation, list):
            runs = self._mask.merge(self._mask.frPyObjects(segmentation, *shape))
        elif isinstance(segmentation['counts'], list):
            runs = self._mask.frPyObjects(segmentation, *shape)
        else:
            runs = segmentation
        inside: NDArray[np.bool_] = self._mask.decode(runs).astype(bool)
        return inside
