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

"""Batches of crops from a recipe's sources, the same ones for any number of processes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lednet_ros.datasets import (
    Dataset,
    DatasetError,
    ImageFolder,
    LabeledFrame,
    open_labeled,
    SyntheticDataset,
)
from lednet_ros.inference.preprocess import resize_on_host
from lednet_ros.labels import LabelMap, UNLABELED
from lednet_ros.recordings.sources import read_frames
from lednet_ros.training.recipe import Source, Unlabeled
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

Picked = tuple[int, int, int]
"""Position in the epoch's order, number of the source, index in it."""

class Example(NamedTuple):
    """
    Augmented frame or image.

    Attributes
    ----------
    pixels
        (H, W, 3) uint8 RGB.
    target
        Labels (H, W) uint8, or a class id.
    clean
        For a teacher: the pixels before blur, noise and compression; None without one.

    """

    pixels: NDArray[np.uint8]
    target: Any
    clean: NDArray[np.uint8] | None = None


class Batch(NamedTuple):
    """
    Input of a training step.

    Attributes
    ----------
    images
        (N, H, W, 3) uint8 RGB.
    targets
        Labels (N, H, W) uint8, or class ids (N,) int64.
    picked
        Origins of the examples, for messages.
    clean
        For a teacher: the images before blur, noise and compression; None without one.

    """

    images: Tensor
    targets: Tensor
    picked: list[Picked]
    clean: Tensor | None = None


class CachedDataset:
    """A data set with all decoded frames in memory."""

    def __init__(self, dataset: Dataset) -> None:
        self.label_map = dataset.label_map
        self.source = dataset.source
        self._frames = [dataset[index] for index in range(len(dataset))]

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> LabeledFrame:
        """Return a frame."""
        return self._frames[index]


class RecordedFrames:
    """
    Frames of a recording in memory, unlabeled at first.

    Parameters
    ----------
    source
        The recording, and how many frames to keep.
    root
        The recording if the source names none.
    label_map
        Classes, for those who ask.
    input_size
        Height and width of the frames kept if the source names none.

    Attributes
    ----------
    problems : list of str
        What of the recording can't be read and is left out.

    Raises
    ------
    DatasetError
        No recording is named, or none of its images can be read.
    SourceError
        It can't be read.

    """

    def __init__(
        self, source: Unlabeled, root: Path | None, label_map: LabelMap,
        input_size: tuple[int, int],
    ) -> None:
        size = source.size or input_size
        self.label_map = label_map
        self.path = recording_path(source, root)
        self.problems: list[str] = []
        kept: list[tuple[int, NDArray[np.uint8]]] = []
        step = 1
        for number, recorded in enumerate(read_frames(self.path, source.topic, self.problems)):
            if number % step:
                continue
            frame = recorded.frame
            pixels = np.empty((*size, 3), np.uint8)
            resize_on_host(frame.pixels, size, frame.color_order == 'bgr', pixels)
            kept.append((number, pixels))
            # How long the recording is turns out at its end only.
            if len(kept) == 2 * source.frames:
                kept, step = kept[::2], 2 * step
        if not kept:
            reasons = ''.join(f': {problem}' for problem in self.problems[:1])
            raise DatasetError(f'{self.path} has no images that can be read{reasons}')
        count = min(source.frames, len(kept))
        self._frames = [kept[len(kept) * index // count] for index in range(count)]
        self._labels: list[NDArray[np.uint8]] = [np.full(size, UNLABELED, np.uint8)] * count

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> LabeledFrame:
        """Return a frame; all of it is unlabeled until `label` is called."""
        return LabeledFrame(self.source(index), self._frames[index][1], self._labels[index])

    def label(
        self, compute: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], hidden: bool
    ) -> None:
        """Label all frames by a function of their pixels; `hidden` hides the progress."""
        progress = tqdm(self._frames, 'label', unit='frame', leave=False, disable=hidden)
        self._labels = [compute(pixels) for _, pixels in progress]

    def source(self, index: int) -> str:
        """Name a frame by its number among those that can be read."""
        return f'{self.path}, frame {self._frames[index][0]}'


def recording_path(source: Unlabeled, root: Path | None) -> Path:
    """Return the file or folder of a recording; raises DatasetError if none is named."""
    if source.path is not None:
        return Path(source.path)
    if root is None:
        raise DatasetError("the recipe's unlabeled source needs a recording: give --data")
    return root


def open_frames(
    source: Source, root: Path | None, label_map: LabelMap, size: tuple[int, int]
) -> Dataset:
    """
    Open a source of labeled frames.

    Parameters
    ----------
    source, label_map
        The source and its classes.
    root
        Folder of sources that don't name one.
    size
        Height and width of synthetic frames whose source names none.

    Raises
    ------
    DatasetError
        The folder is missing or has another layout.

    """
    if source.layout == 'synthetic':
        return SyntheticDataset(source.frames, source.size or size, source.seed, label_map)
    return open_labeled(
        source.layout,
        _root(source, root),
        source.split,
        label_map,
        source.annotations,
        source.include,
        source.exclude,
        source.min_pixels,
    )


def open_images(source: Source, root: Path | None) -> ImageFolder:
    """
    Open a source of classified images.

    Raises
    ------
    DatasetError
        The folder is missing or has another layout.

    """
    if source.layout != 'image_folder':
        raise DatasetError(f"layout is '{source.layout}'; classification needs 'image_folder'")
    return ImageFolder(_root(source, root), source.split)


def _root(source: Source, root: Path | None) -> Path:
    if source.root is not None:
        return Path(source.root)
    if root is None:
        raise DatasetError(
            f"the recipe's source of layout '{source.layout}' (split '{source.split}') needs a "
            'folder: give --data'
        )
    return root


def epoch_size(lengths: Sequence[int], sources: Sequence[Source | Unlabeled]) -> int:
    """Count the frames of an epoch."""
    return sum(s.per_epoch or length for length, s in zip(lengths, sources, strict=True))


def epoch_order(
    lengths: Sequence[int], sources: Sequence[Source | Unlabeled], seed: int, epoch: int
) -> list[tuple[int, int]]:
    """
    Draw the order of an epoch.

    Parameters
    ----------
    lengths, sources
        Number of frames of each source, and the source.
    seed, epoch
        They determine the order.

    Returns
    -------
    list of tuple
        Number of the source, and index in it. A source with more `per_epoch` than frames is
        repeated as often as needed.

    """
    rng = np.random.default_rng((seed, epoch))
    picked = []
    for number, (length, source) in enumerate(zip(lengths, sources, strict=True)):
        wanted = source.per_epoch or length
        rounds = [rng.permutation(length) for _ in range(0, wanted, length)]
        indices = np.concatenate(rounds)[:wanted]
        picked += [(number, int(index)) for index in indices]
    return [picked[i] for i in rng.permutation(len(picked))]


class Crops(torch.utils.data.Dataset[tuple[Picked, Example]]):
    """
    Augmented examples of an epoch.

    Each example has a random generator that depends on seed, epoch and position alone, so neither
    the number of worker processes nor that of training processes changes the result.

    Parameters
    ----------
    read
        Returns the augmented example of a source and an index, with a random generator.
    seed, epoch
        They determine the augmentation.

    """

    def __init__(
        self, read: Callable[[int, int, np.random.Generator], Example], seed: int, epoch: int
    ) -> None:
        self._read = read
        self._seed = seed, epoch

    def __getitem__(self, picked: Picked) -> tuple[Picked, Example]:
        """Return the example at a position of the order."""
        position, number, index = picked
        return picked, self._read(number, index, np.random.default_rng((*self._seed, position)))


def batches(
    crops: Crops,
    order: Sequence[tuple[int, int]],
    batch_size: int,
    rank: int,
    processes: int,
    workers: int,
) -> Iterator[Batch]:
    """
    Yield this process's part of each batch.

    Parameters
    ----------
    crops
        The examples.
    order
        The epoch's order, of all processes.
    batch_size
        Examples in a batch, of all processes; examples that don't fill a batch are left out.
    rank, processes
        Number of this process, and number of processes.
    workers
        Processes that prepare examples; 0 prepares them in this process.

    Yields
    ------
    Batch
        `len(order) // batch_size` batches of `batch_size / processes` examples.

    """
    size = batch_size // processes
    picked = []
    for start in range(0, len(order) - batch_size + 1, batch_size):
        mine = range(start + rank * size, start + (rank + 1) * size)
        picked.append([(position, *order[position]) for position in mine])
    loader = DataLoader(
        crops,
        batch_sampler=picked,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


def _collate(examples: list[tuple[Picked, Example]]) -> Batch:
    clean = [example.clean for _, example in examples if example.clean is not None]
    return Batch(
        torch.from_numpy(np.stack([example.pixels for _, example in examples])),
        torch.from_numpy(np.stack([example.target for _, example in examples])),
        [picked for picked, _ in examples],
        torch.from_numpy(np.stack(clean)) if clean else None,
    )
