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

"""Ground truth of recordings: label images by stamp, from a topic or from files."""

from collections import Counter
from collections.abc import Sequence
import heapq
from pathlib import Path
import re

from lednet_ros.datasets.frames import DatasetError, read_labels
from lednet_ros.inference.encodings import decode, FrameError
from lednet_ros.inference.options import Crop, find_region
from lednet_ros.labels import LabelMap, LabelMapError, UNLABELED
from lednet_ros.recordings.bags import BagMessage, COMPRESSED_TYPE, SourceError
import numpy as np
from numpy.typing import NDArray

STAMP_NAME = re.compile(r'(\d+)\.(\d{9})\.png')
IDS = ('mono8', '8UC1')
COLORS = ('rgb8', 'bgr8', 'rgba8', 'bgra8')

Labels = NDArray[np.uint8]


class UnusableLabelError(SourceError):
    """A label image that can't be read, or has a color that the label map lacks."""


def list_label_files(folder: Path) -> dict[int, Path]:
    """
    List the label images of a folder: files `SEC.NANOSEC.png`, nine digits of nanoseconds.

    Returns
    -------
    dict
        Files by stamp in nanoseconds.

    Raises
    ------
    SourceError
        It is not a folder or has no such file.

    """
    if not folder.is_dir():
        raise SourceError(f'labels: {folder} is not a folder')
    found = {}
    for path in sorted(folder.iterdir()):
        if match := STAMP_NAME.fullmatch(path.name):
            found[int(match[1]) * 10**9 + int(match[2])] = path
    if not found:
        raise SourceError(
            f'labels: {folder} has no file named by its stamp, like 1600000000.066666667.png'
        )
    return found


def match_stamps(images: Sequence[int], labels: Sequence[int], slop: int) -> dict[int, int]:
    """
    Match each image with at most one label image, the nearest pairs first.

    All are in nanoseconds: the stamps, in any order, and `slop`, their largest difference.

    Returns
    -------
    dict
        Index of the label image by the index of the image.

    """
    # The nearest pair is always adjacent in the order of stamps, so that candidates are few,
    # whatever the stamps. Equal stamps alternate between images and labels.
    order = []
    for is_label, stamps in enumerate((images, labels)):
        repeated: Counter[int] = Counter()
        for index, stamp in enumerate(stamps):
            order.append((stamp, repeated[stamp], is_label, index))
            repeated[stamp] += 1
    order.sort()
    before = [*range(-1, len(order) - 1)]
    after = [*range(1, len(order) + 1)]
    candidates: list[tuple[int, int, int, int, int]] = []

    def consider(first: int, second: int) -> None:
        if first < 0 or second == len(order) or order[first][2] == order[second][2]:
            return
        difference = order[second][0] - order[first][0]
        if difference <= slop:
            image, label = sorted((order[first][2:], order[second][2:]))
            heapq.heappush(candidates, (difference, image[1], label[1], first, second))

    for place in range(1, len(order)):
        consider(place - 1, place)
    matches: dict[int, int] = {}
    taken: set[int] = set()
    while candidates:
        _, image_index, label_index, first, second = heapq.heappop(candidates)
        if image_index in matches or label_index in taken:
            continue
        matches[image_index] = label_index
        taken.add(label_index)
        left, right = before[first], after[second]
        if left >= 0:
            after[left] = right
        if right < len(order):
            before[right] = left
        consider(left, right)
    return matches


def prepare_truth(truth: Labels, label_map: LabelMap, crop: Crop | None) -> Labels:
    """
    Return ground truth as a segmenter is to be compared with it.

    Parameters
    ----------
    truth
        (H, W) uint8 ids of the network's classes.
    label_map, crop
        Of the segmenter: what it publishes, and where. Outside of a crop nothing is compared.

    Raises
    ------
    LabelMapError
        Classes are merged, and an id is neither one of the network's nor 255.

    """
    truth = label_map.from_network(truth)
    if crop is None:
        return truth
    region = find_region(crop, truth.shape)
    compared = np.full_like(truth, UNLABELED)
    compared[region] = truth[region]
    return compared


def read_label_file(path: Path, label_map: LabelMap) -> Labels:
    """
    Read a label image: class ids, or colors of the label map; see `read_labels`.

    Returns
    -------
    ndarray
        (H, W) uint8 class ids; 255 is unlabeled.

    Raises
    ------
    UnusableLabelError
        It can't be read, or has a color that the label map lacks.

    """
    return _from_png(path, label_map, str(path))


def read_label_message(message: BagMessage, label_map: LabelMap) -> Labels:
    """
    Read a label image of a bag, like `read_label_file`.

    Raises
    ------
    UnusableLabelError
        It can't be read, is a JPEG (which changes ids), or has a color that the label map lacks.

    """
    where = f'{message.topic} at {message.header_stamp() / 1e9:.9f} s'
    content = message.content
    if message.type == COMPRESSED_TYPE:
        return _from_png(bytes(content.data), label_map, where)
    if content.encoding not in IDS + COLORS:
        raise UnusableLabelError(
            f"{where} has encoding '{content.encoding}'; "
            f"labels must be {', '.join(IDS + COLORS)}"
        )
    try:
        frame = decode(
            content.data,
            encoding=content.encoding,
            height=content.height,
            width=content.width,
            step=content.step,
        )
    except FrameError as error:
        raise UnusableLabelError(f'{where}: {error}') from error
    if content.encoding in IDS:
        # Gray is decoded to three equal channels.
        return np.ascontiguousarray(frame.pixels[..., 0])
    colors = frame.pixels if frame.color_order == 'rgb' else frame.pixels[..., ::-1]
    return _from_colors(colors, label_map, where)


def _from_png(source: Path | bytes, label_map: LabelMap, where: str) -> Labels:
    try:
        pixels = read_labels(source, where)
    except DatasetError as error:
        raise UnusableLabelError(str(error)) from error
    return pixels if pixels.ndim == 2 else _from_colors(pixels, label_map, where)


def _from_colors(colors: NDArray[np.uint8], label_map: LabelMap, where: str) -> Labels:
    try:
        return label_map.from_colors(colors)
    except LabelMapError as error:
        raise UnusableLabelError(f'{where}: {error}') from error
