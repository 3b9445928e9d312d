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

"""Statistics and problems of a whole data set."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeVar

from lednet_ros.datasets.frames import Dataset, DatasetError
from lednet_ros.datasets.image_folder import ImageFolder
from lednet_ros.labels import UNLABELED
from lednet_ros.machine import usable_cores
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

PROBLEMS_LISTED = 20

Item = TypeVar('Item')


@dataclass
class Survey:
    """
    Survey of a data set of labeled frames.

    Attributes
    ----------
    frames
        Number of frames, including damaged ones.
    pixels
        Pixels per class, (num_classes,) int64.
    unlabeled
        Pixels without a class.
    present
        Frames in which each class occurs, (num_classes,) int64.
    sizes
        Frames by height and width.
    problems
        One line each, with the file.
    digests
        Of the pixels of all frames that can be read: equal ones belong to equal images.

    """

    frames: int
    pixels: NDArray[np.int64]
    unlabeled: int
    present: NDArray[np.int64]
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    digests: set[bytes] = field(default_factory=set)


@dataclass
class ImageSurvey:
    """
    Survey of a data set of classified images.

    Attributes
    ----------
    images
        Number of images, including damaged ones.
    per_class
        Images by class name.
    problems
        One line each, with the file.
    digests
        As in `Survey`.

    """

    images: int
    per_class: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    digests: set[bytes] = field(default_factory=set)


def survey(dataset: Dataset) -> Survey:
    """Read every labeled frame; damaged files, and a data set's `problems`, become problems."""
    classes = dataset.label_map.num_classes
    found = Survey(len(dataset), np.zeros(classes, np.int64), 0, np.zeros(classes, np.int64))
    for frame in _read_all(dataset.__getitem__, len(dataset), 'frame'):
        if isinstance(frame, DatasetError):
            found.problems.append(str(frame))
            continue
        found.digests.add(_digest(frame.pixels))
        counts = np.bincount(frame.labels.ravel(), minlength=256)
        found.pixels += counts[:classes]
        found.present += counts[:classes] > 0
        found.unlabeled += int(counts[UNLABELED])
        height, width = frame.labels.shape
        found.sizes[height, width] += 1
    found.problems += getattr(dataset, 'problems', [])
    return found


def survey_images(folder: ImageFolder) -> ImageSurvey:
    """Read every classified image; damaged files become problems."""
    images = range(len(folder))
    found = ImageSurvey(len(folder), Counter(folder.classes[folder.class_id(i)] for i in images))
    for image in _read_all(folder.__getitem__, len(folder), 'image'):
        if isinstance(image, DatasetError):
            found.problems.append(str(image))
        else:
            found.digests.add(_digest(image.pixels))
    return found


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    return blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()


def _read_all(
    read: Callable[[int], Item], count: int, unit: str
) -> Iterator[Item | DatasetError]:
    """Read all items in parallel and yield them, or the errors of damaged ones, in order."""
    def attempt(index: int) -> Item | DatasetError:
        try:
            return read(index)
        except DatasetError as error:
            return error

    # OpenCV decodes without holding the GIL.
    with ThreadPoolExecutor(usable_cores()) as pool:
        results = pool.map(attempt, range(count))
        yield from tqdm(results, desc='check', total=count, unit=unit, leave=False)


def list_problems(problems: Sequence[str]) -> str:
    """Return the number of problems and, on one line each, the first of them."""
    if not problems:
        return 'no problems'
    lines = [f"{len(problems)} problem{'s'[:len(problems) > 1]}:", *problems[:PROBLEMS_LISTED]]
    if len(problems) > PROBLEMS_LISTED:
        lines.append(f'and {len(problems) - PROBLEMS_LISTED} more')
    return '\n    '.join(lines)
