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

"""Tests of the batches of a recipe's sources."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lednet_ros.datasets import DatasetError
from lednet_ros.labels import LabelMap
from lednet_ros.training.data import (
    batches,
    CachedDataset,
    Crops,
    epoch_order,
    epoch_size,
    Example,
    open_frames,
    open_images,
)
from lednet_ros.training.recipe import Source
import numpy as np
import pytest
import torch
from torch import Tensor

CAMVID = LabelMap.load('camvid')
SIZE = (64, 96)
MakeDataset = Callable[..., Path]


def source(layout: str, **options: Any) -> Source:
    return Source.model_validate({'layout': layout} | options)


# --- opening --------------------------------------------------------------------------------


def test_every_layout_opens(
    tmp_path: Path,
    make_folder_dataset: MakeDataset,
    make_cityscapes: MakeDataset,
    make_image_folder: MakeDataset,
) -> None:
    folder = make_folder_dataset(tmp_path / 'folder', {'train': 3})
    assert len(open_frames(source('folder'), folder, CAMVID, SIZE)) == 3
    cityscapes = make_cityscapes(tmp_path / 'cs', {'train_extra': {'erlangen': 2}})
    coarse = source('cityscapes', split='train_extra', annotations='gtCoarse')
    assert len(open_frames(coarse, cityscapes, LabelMap.load('cityscapes'), SIZE)) == 2
    streets = open_frames(source('synthetic', frames=2), None, CAMVID, SIZE)
    assert streets[1].pixels.shape == (*SIZE, 3)
    small = open_frames(source('synthetic', frames=2, size=(72, 96)), None, CAMVID, SIZE)
    assert small[0].labels.shape == (72, 96)
    images = make_image_folder(tmp_path / 'images')
    assert len(open_images(source('image_folder', split='val'), images)) == 6


def test_source_can_name_its_folder(
    tmp_path: Path, make_folder_dataset: MakeDataset
) -> None:
    folder = make_folder_dataset(tmp_path / 'own', {'train': 2})
    own = source('folder', root=str(folder))
    assert len(open_frames(own, tmp_path / 'other', CAMVID, SIZE)) == 2
    with pytest.raises(DatasetError, match=r"'folder' \(split 'train'\) needs a folder: give --d"):
        open_frames(source('folder'), None, CAMVID, SIZE)


def test_sources_of_the_other_task_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'image_folder'; labeled frames have: folder"):
        open_frames(source('image_folder'), tmp_path, CAMVID, SIZE)
    with pytest.raises(DatasetError, match="'folder'; classification needs 'image_folder'"):
        open_images(source('folder'), tmp_path)


def test_cached_frames_are_the_same(tmp_path: Path, make_folder_dataset: MakeDataset) -> None:
    folder = make_folder_dataset(tmp_path, {'train': 2})
    dataset = open_frames(source('folder'), folder, CAMVID, SIZE)
    cached = CachedDataset(dataset)
    before = [dataset[index] for index in range(2)]
    for path in (folder / 'train' / 'images').iterdir():
        path.unlink()
    assert len(cached) == 2
    assert cached.label_map is CAMVID
    for index, frame in enumerate(before):
        np.testing.assert_array_equal(cached[index].pixels, frame.pixels)
        np.testing.assert_array_equal(cached[index].labels, frame.labels)
        assert cached.source(index) == dataset.source(index)


# --- order ----------------------------------------------------------------------------------


def test_an_epoch_takes_every_frame_once() -> None:
    sources = [source('folder'), source('folder', split='extra')]
    order = epoch_order([5, 3], sources, seed=0, epoch=0)
    assert epoch_size([5, 3], sources) == len(order) == 8
    assert sorted(order) == [(0, i) for i in range(5)] + [(1, i) for i in range(3)]
    assert order != sorted(order)


def test_order_depends_on_seed_and_epoch() -> None:
    sources = [source('folder')]
    order = epoch_order([20], sources, 0, 0)
    assert epoch_order([20], sources, 0, 0) == order
    assert epoch_order([20], sources, 0, 1) != order
    assert epoch_order([20], sources, 1, 0) != order


@pytest.mark.parametrize('wanted', [2, 5, 13])
def test_source_yields_the_requested_frames(wanted: int) -> None:
    sources = [source('folder', per_epoch=wanted)]
    order = epoch_order([5], sources, 0, 0)
    assert epoch_size([5], sources) == len(order) == wanted
    times = Counter(index for _, index in order)
    # No frame is repeated before all frames were used.
    assert max(times.values()) - min(times[index] for index in range(5)) <= 1


# --- batches --------------------------------------------------------------------------------


def read(number: int, index: int, rng: np.random.Generator) -> Example:
    """Return noise with the index in its first pixel."""
    pixels = rng.integers(0, 256, (4, 6, 3), np.uint8)
    pixels[0, 0] = number, index, 0
    return Example(pixels, pixels[..., 0].copy())


ORDER = [(0, index) for index in range(11)]


def all_images(rank: int = 0, processes: int = 1, workers: int = 0, epoch: int = 0) -> Tensor:
    made = batches(Crops(read, 0, epoch), ORDER, 4, rank, processes, workers)
    return torch.stack([batch.images for batch in made])


def test_batches_keep_the_order_and_drop_the_rest() -> None:
    made = list(batches(Crops(read, 0, 0), ORDER, 4, 0, 1, 0))
    assert len(made) == 2
    assert made[1].images.shape == (4, 4, 6, 3)
    assert made[1].images.dtype == torch.uint8
    assert made[1].picked == [(4, 0, 4), (5, 0, 5), (6, 0, 6), (7, 0, 7)]
    assert made[1].images[:, 0, 0, 1].tolist() == [4, 5, 6, 7]
    torch.testing.assert_close(made[1].targets, made[1].images[..., 0])


def test_processes_share_each_batch() -> None:
    whole = all_images()
    shares = [all_images(rank, 2) for rank in range(2)]
    assert shares[0].shape[1] == 2
    torch.testing.assert_close(torch.cat(shares, 1), whole, rtol=0, atol=0)


def test_workers_do_not_change_the_batches() -> None:
    torch.testing.assert_close(all_images(workers=1), all_images(), rtol=0, atol=0)


def test_epoch_changes_the_random_draws() -> None:
    assert not torch.equal(all_images(epoch=0), all_images(epoch=1))


def test_class_ids_become_a_tensor() -> None:
    def classify(number: int, index: int, rng: np.random.Generator) -> Example:
        return Example(np.zeros((4, 4, 3), np.uint8), np.int64(index))

    (batch,) = batches(Crops(classify, 0, 0), ORDER[:5], 4, 0, 1, 0)
    assert batch.targets.dtype == torch.int64
    assert batch.targets.tolist() == [0, 1, 2, 3]
