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

"""Cityscapes benchmark: submission files and instance-weighted IoU."""

from pathlib import Path
import re

import cv2
from lednet_ros.datasets import CityscapesDataset, Dataset, DatasetError, LabeledFrame
from lednet_ros.datasets.cityscapes import IMAGES
from lednet_ros.datasets.frames import read_image
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.files import atomic_path
from lednet_ros.images import is_shown
from lednet_ros.labels import LabelMap, UNLABELED
import numpy as np
from numpy.typing import NDArray

AVERAGE_INSTANCE_PIXELS = {
    24: 3462.4756337644,
    25: 3930.4788056518,
    26: 12794.0202738185,
    27: 27855.1264367816,
    28: 35732.1511111111,
    29: 36771.8241758242,
    30: 16926.9763313609,
    31: 67583.7075812274,
    32: 6298.7200839748,
    33: 4672.3249222261,
}
"""
Average size of an instance by the label id of its class, in pixels of 2048x1024 frames.

Person, rider, car, truck, bus, caravan, trailer, train, motorcycle, bicycle: the classes whose
instances Cityscapes distinguishes. The numbers are those of `cityscapesscripts` 2.3.0
(`evalPixelLevelSemanticLabeling.py`, `avgClassSize`).
"""

# Instance images hold 1000 * label id + number for instances and the bare label id elsewhere.
_IDS_PER_LABEL = 1000


class InstanceCounts:
    """
    Pixel counts of instances, weighted so that small and large instances count alike.

    A pixel weighs the average size of its class's instances over the size of its own instance:
    the iIoU of Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene
    Understanding", section 4.1. False positives belong to no instance and weigh 1; they come
    from the `ConfusionMatrix` of the same images. Groups of instances that the annotators did
    not separate are left out. Results equal those of `cityscapesscripts` to the last bit if the
    images come in the same order.

    Parameters
    ----------
    label_map
        The classes; `source_ids` are the official label ids.

    Attributes
    ----------
    hit, missed : ndarray
        (num_classes,) float64: weighted pixels of the class's instances that were predicted as
        the class, and those that were not.
    category_hit, category_missed : ndarray
        (len(categories),) float64: the same for any class of the category.

    """

    def __init__(self, label_map: LabelMap) -> None:
        self.label_map = label_map
        classes, categories = label_map.num_classes, len(label_map.categories)
        self.hit, self.missed = np.zeros((2, classes))
        self.category_hit, self.category_missed = np.zeros((2, categories))
        self._has_instances = np.array(
            [
                bool(label.source_ids) and AVERAGE_INSTANCE_PIXELS.keys() >= set(label.source_ids)
                for label in label_map.labels
            ]
        )
        # A category counts only if all its classes have instances.
        without = label_map.category_of[~self._has_instances]
        self._category_has_instances = np.bincount(without, minlength=categories) == 0
        self._average = np.zeros(256)
        self._average[list(AVERAGE_INSTANCE_PIXELS)] = list(AVERAGE_INSTANCE_PIXELS.values())
        self._category = np.full(256, -1)
        self._category[:classes] = label_map.category_of

    def update(self, instances: NDArray[np.int32], predicted: NDArray[np.uint8]) -> None:
        """
        Add the instances of an image.

        Parameters
        ----------
        instances
            (H, W) int32: 1000 * label id + number for pixels of an instance, the content of
            Cityscapes' `_instanceIds.png`.
        predicted
            (H, W) uint8 class ids; 255 is unlabeled.

        Raises
        ------
        ValueError
            The sizes differ.

        """
        if instances.shape != predicted.shape:
            raise ValueError(f'instances are {instances.shape}, prediction {predicted.shape}')
        inside = instances > _IDS_PER_LABEL
        ids, of_instance, sizes = np.unique(
            instances[inside], return_inverse=True, return_counts=True
        )
        label_ids = ids // _IDS_PER_LABEL
        truth = self.label_map.from_source[label_ids]
        weights = self._average[label_ids] / sizes
        known = (truth != UNLABELED) & (weights > 0)
        guesses = predicted[inside]
        for right, truths, hit, missed in (
            (guesses == truth[of_instance], truth, self.hit, self.missed),
            (
                self._category[guesses] == self._category[truth][of_instance],
                self._category[truth],
                self.category_hit,
                self.category_missed,
            ),
        ):
            pixels = np.bincount(of_instance, weights=right, minlength=len(ids))
            np.add.at(hit, truths[known], (pixels * weights)[known])
            np.add.at(missed, truths[known], ((sizes - pixels) * weights)[known])

    def iiou(self, confusion: ConfusionMatrix) -> NDArray[np.float64]:
        """
        Compute the instance-weighted IoU by class from the pixel counts of the same images.

        Returns
        -------
        ndarray
            (num_classes,); NaN for classes without instances and for those never seen.

        """
        return _iiou(self.hit, self.missed, confusion.counts, self._has_instances)

    def category_iiou(self, confusion: ConfusionMatrix) -> NDArray[np.float64]:
        """Compute `iiou` by category; NaN where any class of the category has no instances."""
        return _iiou(
            self.category_hit,
            self.category_missed,
            confusion.category_counts(),
            self._category_has_instances,
        )


class UnlabeledFrames:
    """
    Cityscapes without ground truth: a `Dataset` of frames whose pixels are all unlabeled.

    For the parameters see `CityscapesDataset`; raises DatasetError if there are no images.
    """

    def __init__(self, root: str | Path, split: str, label_map: LabelMap) -> None:
        self.label_map = label_map
        folder = Path(root) / IMAGES / split
        self._files = sorted(filter(is_shown, folder.glob(f'*/*_{IMAGES}.png')))
        if not self._files:
            raise DatasetError(f'{folder} has no CITY/*_{IMAGES}.png')

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._files)

    def __getitem__(self, index: int) -> LabeledFrame:
        """Read a frame; raises DatasetError if that fails."""
        file = self._files[index]
        pixels = read_image(file)
        labels = np.full(pixels.shape[:2], UNLABELED, np.uint8)
        return LabeledFrame(file.stem.removesuffix(f'_{IMAGES}'), pixels, labels)

    def source(self, index: int) -> str:
        """Name a frame's image file."""
        return str(self._files[index])


def open_for_submission(
    root: str | Path, split: str, label_map: LabelMap, annotations: str = 'gtFine'
) -> Dataset:
    """
    Open Cityscapes, or only its images if the split has no label images at all.

    For the parameters see `CityscapesDataset`.

    Raises
    ------
    DatasetError
        There are no images, or only some of them have labels.

    """
    labels = Path(root) / annotations / split
    if any(labels.glob(f'*/*_{annotations}_labelIds.png')):
        return CityscapesDataset(root, split, label_map, annotations)
    return UnlabeledFrames(root, split, label_map)


def write_submission(
    folder: str | Path, name: str, labels: NDArray[np.uint8], label_map: LabelMap
) -> Path:
    """
    Write a label image as the benchmark's server and `cityscapesscripts` read it.

    Parameters
    ----------
    folder
        Output folder; created if missing.
    name
        Frame, `CITY_SEQUENCE_FRAME`. The file is named `CITY_SEQUENCE_FRAME_leftImg8bit.png`.
    labels
        (H, W) uint8 class ids at the size of the frame; 255 is unlabeled.
    label_map
        Each class is written as the first of its `source_ids`, the official label ids.
        Unlabeled pixels and classes without a source id become 0, the official "unlabeled".

    Returns
    -------
    Path
        The PNG, 8 bits, one channel.

    Raises
    ------
    ValueError
        The benchmark would not find a file of this name.
    OSError
        The file can't be written.

    """
    if not re.fullmatch(r'[^_]+_\d{6}_\d{6}', name):
        raise ValueError(
            f"frame is named '{name}'; a submission needs CITY_SEQUENCE_FRAME, "
            "like 'aachen_000000_000019'"
        )
    to_source = np.zeros(256, np.uint8)
    for index, label in enumerate(label_map.labels):
        if label.source_ids:
            to_source[index] = label.source_ids[0]
    path = Path(folder) / f'{name}_{IMAGES}.png'
    with atomic_path(path) as temporary:
        encoded = cv2.imencode('.png', cv2.LUT(labels, to_source))[1]
        temporary.write_bytes(encoded.tobytes())
    return path


def _iiou(
    hit: NDArray[np.float64],
    missed: NDArray[np.float64],
    counts: NDArray[np.int64],
    has_instances: NDArray[np.bool_],
) -> NDArray[np.float64]:
    false = counts[:, :-1].sum(axis=0) - np.diagonal(counts)
    with np.errstate(invalid='ignore'):
        iiou: NDArray[np.float64] = np.where(has_instances, hit / (hit + false + missed), np.nan)
    return iiou
