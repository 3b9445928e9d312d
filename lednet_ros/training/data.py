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

"""From a recipe's sources to batches of crops, the same ones for any number of processes."""

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
from lednet_ros.labels import LabelMap
from lednet_ros.training.recipe import Source
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.utils.data import DataLoader

Picked = tuple[int, int, int]
"""Place in the epoch's order, number of the source, index in it."""

Example = tuple[NDArray[np.uint8], Any]
"""Pixels (H, W, 3) uint8 RGB, and labels (H, W) uint8 or a class id."""


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
        Where the examples are from, for messages.

    """

    images: Tensor
    targets: Tensor
    picked: list[Picked]


class CachedDataset:
    """Keeps all frames of a data set in memory, decoded."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._frames = [dataset[index] for index in range(len(dataset))]

    @property
    def label_map(self) -> LabelMap:
        """Return the classes."""
        return self._dataset.label_map

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> LabeledFrame:
        """Return a frame."""
        return self._frames[index]

    def source(self, index: int) -> str:
        """Name a frame's origin."""
        return self._dataset.source(index)


def open_frames(
    source: Source, root: Path | None, label_map: LabelMap, size: tuple[int, int]
) -> Dataset:
    """
    Open a source of labeled frames.

    Parameters
    ----------
    source
        What to open.
    root
        Folder of sources that don't name their own.
    label_map
        The classes.
    size
        Height and width of synthetic frames.

    Raises
    ------
    DatasetError
        The folder isn't given, or isn't what the source says.

    """
    if source.layout == 'synthetic':
        return SyntheticDataset(source.frames, size, source.seed, label_map)
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
        The folder isn't given, or isn't what the source says.

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


def epoch_size(lengths: Sequence[int], sources: Sequence[Source]) -> int:
    """Count the frames of an epoch."""
    return sum(s.per_epoch or length for length, s in zip(lengths, sources, strict=True))


def epoch_order(
    lengths: Sequence[int], sources: Sequence[Source], seed: int, epoch: int
) -> list[tuple[int, int]]:
    """
    Draw the order of an epoch.

    Parameters
    ----------
    lengths, sources
        Number of frames of each source, and the source.
    seed, epoch
        They decide the order.

    Returns
    -------
    list of tuple
        Number of the source, and index in it. A source with more `per_epoch` than frames is gone
        through as often as needed.

    """
    rng = np.random.default_rng((seed, epoch))
    picked = []
    for number, (length, source) in enumerate(zip(lengths, sources, strict=True)):
        wanted = source.per_epoch or length
        rounds = -(-wanted // length)
        indices = np.concatenate([rng.permutation(length) for _ in range(rounds)])[:wanted]
        picked += [(number, int(index)) for index in indices]
    return [picked[i] for i in rng.permutation(len(picked))]


class Crops(torch.utils.data.Dataset[tuple[Picked, Example]]):
    """
    Augmented examples by their place in the epoch.

    Each has a random generator of its own, so that neither the number of worker processes nor
    that of training processes changes what is drawn.

    Parameters
    ----------
    read
        Returns the augmented example of a source and an index, given a random generator.
    seed, epoch
        They decide what is drawn.

    """

    def __init__(
        self,
        read: Callable[[int, int, np.random.Generator], Example],
        seed: int,
        epoch: int,
    ) -> None:
        self._read = read
        self._seed = seed
        self._epoch = epoch

    def __getitem__(self, picked: Picked) -> tuple[Picked, Example]:
        """Return the example of a place in the order."""
        place, number, index = picked
        rng = np.random.default_rng((self._seed, self._epoch, place))
        return picked, self._read(number, index, rng)


def batches(
    crops: Crops,
    order: Sequence[tuple[int, int]],
    batch_size: int,
    rank: int,
    processes: int,
    workers: int,
) -> Iterator[Batch]:
    """
    Yield the part of each batch that belongs to this process.

    Parameters
    ----------
    crops
        Makes the examples.
    order
        The epoch's order, of all processes.
    batch_size
        Examples in a batch, of all processes; what doesn't fill a batch is left out.
    rank, processes
        Place of this process.
    workers
        Processes that prepare examples; 0 prepares them here.

    Returns
    -------
    iterator of Batch
        `len(order) // batch_size` batches of `batch_size / processes` examples.

    """
    share = batch_size // processes
    places = []
    for start in range(0, len(order) - batch_size + 1, batch_size):
        mine = range(start + rank * share, start + (rank + 1) * share)
        places.append([(place, *order[place]) for place in mine])
    loader = DataLoader(
        crops,
        batch_sampler=places,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


def _collate(examples: list[tuple[Picked, Example]]) -> Batch:
    targets = np.stack([target for _, (_, target) in examples])
    return Batch(
        torch.from_numpy(np.stack([pixels for _, (pixels, _) in examples])),
        torch.from_numpy(targets),
        [picked for picked, _ in examples],
    )
