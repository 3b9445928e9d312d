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

"""Reading a whole data set to count it and to find what is wrong with it."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
import os

from lednet_ros.datasets.frames import Dataset, DatasetError, LabeledFrame
from lednet_ros.datasets.image_folder import ClassifiedImage, ImageFolder
from lednet_ros.labels import UNLABELED
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

PROBLEMS_LISTED = 20


@dataclass
class Survey:
    """
    Survey of a data set of labeled frames.

    Attributes
    ----------
    frames
        Frames, the damaged ones included.
    pixels
        (num_classes,) int64, labeled pixels of each class.
    unlabeled
        Pixels without a class.
    present
        (num_classes,) int64, frames in which each class occurs.
    sizes
        Frames by height and width.
    problems
        What is wrong, one line each, with the file.

    """

    frames: int
    pixels: NDArray[np.int64]
    unlabeled: int
    present: NDArray[np.int64]
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@dataclass
class ImageSurvey:
    """
    Survey of a data set of classified images.

    Attributes
    ----------
    images
        Images, the damaged ones included.
    per_class
        Images by the name of the class.
    problems
        What is wrong, one line each, with the file.

    """

    images: int
    per_class: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def survey(dataset: Dataset) -> Survey:
    """
    Read every frame of a data set.

    Parameters
    ----------
    dataset
        The data set; what its `problems` (see `PairDataset`) say is taken over.

    Returns
    -------
    Survey
        Counts and problems; damaged files don't stop it.

    """
    classes = dataset.label_map.num_classes
    found = Survey(len(dataset), np.zeros(classes, np.int64), 0, np.zeros(classes, np.int64))

    def read(index: int) -> LabeledFrame | DatasetError:
        try:
            return dataset[index]
        except DatasetError as error:
            return error

    # OpenCV decodes outside of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(read, range(len(dataset)))
        progress = tqdm(results, desc='check', total=len(dataset), unit='frame', leave=False)
        for result in progress:
            if isinstance(result, DatasetError):
                found.problems.append(str(result))
                continue
            counts = np.bincount(result.labels.ravel(), minlength=256)
            found.pixels += counts[:classes]
            found.present += counts[:classes] > 0
            found.unlabeled += int(counts[UNLABELED])
            height, width = result.labels.shape
            found.sizes[height, width] += 1
    found.problems += getattr(dataset, 'problems', [])
    return found


def survey_images(folder: ImageFolder) -> ImageSurvey:
    """
    Read every image of a data set.

    Returns
    -------
    ImageSurvey
        Counts and problems; damaged files don't stop it.

    """
    found = ImageSurvey(len(folder))

    def read(index: int) -> ClassifiedImage | DatasetError:
        try:
            return folder[index]
        except DatasetError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(read, range(len(folder)))
        progress = tqdm(results, desc='check', total=len(folder), unit='image', leave=False)
        for index, result in enumerate(progress):
            found.per_class[folder.classes[folder.class_id(index)]] += 1
            if isinstance(result, DatasetError):
                found.problems.append(str(result))
    return found


def list_problems(problems: Sequence[str]) -> str:
    """
    Word problems for a message: how many, and the first of them.

    Parameters
    ----------
    problems
        One line each.

    Returns
    -------
    str
        One line, and one more for each problem.

    """
    if not problems:
        return 'no problems'
    lines = [f"{len(problems)} problem{'s'[:len(problems) > 1]}:", *problems[:PROBLEMS_LISTED]]
    if len(problems) > PROBLEMS_LISTED:
        lines.append(f'and {len(problems) - PROBLEMS_LISTED} more')
    return '\n    '.join(lines)
