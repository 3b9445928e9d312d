# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Labeled frames from folders and from the synthetic street; for training and evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
from lednet_ros.labels import LabelMap
from lednet_ros.synthetic import StreetScene
import numpy as np
from numpy.typing import NDArray

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')


class DatasetError(RuntimeError):
    """A data set that can't be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class LabeledFrame:
    """
    A frame with its ground truth.

    Attributes
    ----------
    name
        File stem or another short name.
    pixels
        (H, W, 3) uint8 RGB.
    labels
        (H, W) uint8 class ids of the label map; 255 is unlabeled.

    """

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class FolderDataset:
    """
    Images beside label images: `ROOT/SPLIT/images/STEM.jpg` and `ROOT/SPLIT/labels/STEM.png`.

    Label images have one channel; their values are mapped by the label map's `source_ids`.

    Parameters
    ----------
    root, split
        The folder and the split within it.
    label_map
        The classes.

    Raises
    ------
    DatasetError
        The folder is missing or empty, or an image has no label image.

    """

    def __init__(self, root: str | Path, split: str, label_map: LabelMap) -> None:
        self.label_map = label_map
        images = Path(root) / split / 'images'
        labels = Path(root) / split / 'labels'
        for folder in (images, labels):
            if not folder.is_dir():
                raise DatasetError(f'{folder} is not a folder; needed: ROOT/SPLIT/images, labels')
        files = sorted(p for p in images.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise DatasetError(f"{images} has no images; allowed: {', '.join(IMAGE_SUFFIXES)}")
        self._pairs = [(file, labels / f'{file.stem}.png') for file in files]
        missing = [str(label) for _, label in self._pairs if not label.is_file()]
        if missing:
            raise DatasetError(f'{len(missing)} label images are missing, first: {missing[0]}')

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> LabeledFrame:
        """
        Read a frame.

        Raises
        ------
        DatasetError
            A file can't be read, sizes differ, or a label value is not in the label map.

        """
        image_file, label_file = self._pairs[index]
        pixels = cv2.imread(str(image_file), cv2.IMREAD_COLOR)
        if pixels is None:
            raise DatasetError(f'{image_file} is not a readable image')
        raw = cv2.imread(str(label_file), cv2.IMREAD_UNCHANGED)
        if raw is None or raw.ndim != 2 or raw.dtype != np.uint8:
            raise DatasetError(f'{label_file} is not a readable 8-bit image of one channel')
        if raw.shape != pixels.shape[:2]:
            raise DatasetError(
                f'{label_file} is {raw.shape[1]}x{raw.shape[0]}, '
                f'its image {pixels.shape[1]}x{pixels.shape[0]}'
            )
        return LabeledFrame(
            name=image_file.stem,
            pixels=np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8),
            labels=np.asarray(cv2.LUT(raw, self.label_map.from_source), np.uint8),
        )

    def __iter__(self) -> Iterator[LabeledFrame]:
        """Read all frames in the order of their names."""
        return (self[index] for index in range(len(self)))


def synthetic_frames(
    count: int, size: tuple[int, int], seed: int, frames_per_street: int = 1
) -> Iterator[LabeledFrame]:
    """
    Draw frames of many different synthetic streets.

    Parameters
    ----------
    count
        Number of frames.
    size
        Height and width.
    seed
        Frames are a pure function of it.
    frames_per_street
        Frames at random moments of each street; laying out a street costs ten frames.

    """
    rng = np.random.default_rng(seed)
    height, width = size
    for index in range(count):
        if index % frames_per_street == 0:
            scene = StreetScene(width, height, seed=int(rng.integers(1 << 31)))
        pixels, labels = scene.render(float(rng.uniform(0, 60)))
        yield LabeledFrame(f'street_{seed}_{index}', pixels, labels)
