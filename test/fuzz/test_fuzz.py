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

"""
Strange input from outside: one clear error of the package, or a valid result; nothing else.

A few hundred inputs each here, the same in every run; `make fuzz` tries new ones for long.
`FUZZ_EXAMPLES` says how many of each kind.
"""

from dataclasses import replace
import functools
import io
import os
from pathlib import Path
import pickle
import tempfile
from typing import Any
import zipfile

from bag_files import Entry, write_bag, write_ros1_bag
import cv2
from hypothesis import given
from hypothesis import strategies as st
from lednet_ros.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from lednet_ros.evaluation.ground_truth import list_label_files, match_stamps, read_label_message
from lednet_ros.inference.encodings import (
    decode,
    decode_compressed,
    FrameError,
    SUPPORTED_ENCODINGS,
)
from lednet_ros.labels import LabelMap, LabelMapError
from lednet_ros.recordings.bags import decode_image, IMAGE_TYPES, is_bag, open_bag, SourceError
from lednet_ros.training.recipe import load_recipe, RecipeError
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from strange_input import attempt, changes, CONFIG, damage, fuzz
import torch
import yaml
import zstandard


@fuzz
@given(
    encoding=st.sampled_from([*SUPPORTED_ENCODINGS, '32FC1', 'rgb', '', 'bayer_rggb']),
    height=st.integers(-2, 40) | st.sampled_from([2**31, 2**32 - 1]),
    width=st.integers(-2, 40) | st.sampled_from([2**31, 2**32 - 1]),
    step=st.integers(0, 400) | st.sampled_from([2**31, 2**32 - 1]),
    big=st.booleans(),
    data=st.binary(max_size=3000),
)
def test_raw_images(
    encoding: str, height: int, width: int, step: int, big: bool, data: bytes
) -> None:
    frame = attempt(
        lambda: decode(
            data, encoding=encoding, height=height, width=width, step=step, is_bigendian=big
        ),
        FrameError,
    )
    if frame is not None:
        assert frame.pixels.shape == (height, width, 3)
        assert frame.pixels.dtype == np.uint8
        # Every pixel can be read.
        int(frame.pixels.sum())


def picture(suffix: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    good, data = cv2.imencode(suffix, pixels)
    assert good
    return bytes(data.tobytes())


PICTURES = {suffix: picture(suffix) for suffix in ('.jpg', '.png', '.bmp')}


@fuzz
@given(st.sampled_from(sorted(PICTURES)), changes, st.floats(0.5, 1.0))
def test_compressed_images(
    suffix: str, spots: list[tuple[float, bytes]], length: float
) -> None:
    data = damage(PICTURES[suffix], spots, length)
    frame = attempt(lambda: decode_compressed(data), FrameError)
    if frame is not None:
        assert frame.pixels.ndim == 3


@fuzz
@given(st.binary(max_size=200))
def test_compressed_images_of_any_bytes(data: bytes) -> None:
    attempt(lambda: decode_compressed(data), FrameError)


scalars = (
    st.none() | st.booleans() | st.integers(-300, 300) | st.floats() | st.text(max_size=8)
)
content = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
entry = st.fixed_dictionaries(
    {}, optional={
        'id': scalars,
        'name': scalars,
        'color': st.lists(scalars, max_size=4) | scalars,
        'category': scalars,
        'source_ids': st.lists(scalars, max_size=3) | scalars,
        'source_colors': st.lists(st.lists(scalars, max_size=4) | scalars, max_size=3) | scalars,
        'more': scalars,
    },
)


@fuzz
@given(content | st.fixed_dictionaries({'name': scalars, 'classes': st.lists(entry, max_size=4)}))
def test_label_maps(value: object) -> None:
    label_map = attempt(lambda: LabelMap.from_dict(value, 'fuzz'), LabelMapError)
    if label_map is not None:
        assert label_map.palette.shape == (256, 3)
        assert LabelMap.from_dict(label_map.to_dict(), 'again') == label_map


TEXTS = [path.read_bytes() for path in sorted((CONFIG / 'labels').glob('*.yaml'))]
RECIPES = [path.read_bytes() for path in sorted((CONFIG / 'train').glob('*.yaml'))]


@fuzz
@given(st.sampled_from(TEXTS), changes, st.floats(0, 1))
def test_label_map_files(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, spots: list[tuple[float, bytes]],
    length: float,
) -> None:
    path = tmp_path_factory.getbasetemp() / 'fuzz.yaml'
    path.write_bytes(damage(text, spots, length))
    attempt(lambda: LabelMap.load(path), LabelMapError)


@fuzz
@given(st.sampled_from(RECIPES), changes, st.floats(0, 1))
def test_recipe_files(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, spots: list[tuple[float, bytes]],
    length: float,
) -> None:
    path = tmp_path_factory.getbasetemp() / 'fuzz.yaml'
    path.write_bytes(damage(text, spots, length))
    attempt(lambda: load_recipe(path), RecipeError)


class Code:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ('touch /tmp/lednet_ros_was_hacked',)


@functools.cache
def checkpoints() -> dict[str, bytes]:
    """Return small files of every layout: headers and pickles are what can be attacked."""
    with tempfile.TemporaryDirectory() as folder:
        return make_checkpoints(Path(folder))


def make_checkpoints(folder: Path) -> dict[str, bytes]:
    shipped = load_checkpoint('lednet')
    few = dict(list(shipped.state_dict.items())[:4])
    save_checkpoint(replace(shipped, state_dict=few), folder / 'a.safetensors')
    torch.save(few, folder / 'b.pth')
    torch.save({'state_dict': few, 'epoch': 3}, folder / 'c.pth.tar')
    torch.save(few, folder / 'd.pth', _use_new_zipfile_serialization=False)
    hostile = io.BytesIO()
    with zipfile.ZipFile(hostile, 'w') as archive:
        archive.writestr('archive/data.pkl', pickle.dumps({'weight': Code()}, protocol=2))
        archive.writestr('archive/version', '3\n')
    (folder / 'e.pth').write_bytes(hostile.getvalue())
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@fuzz
@given(st.integers(0, 4), changes, st.floats(0.1, 1))
def test_checkpoints(
    tmp_path_factory: pytest.TempPathFactory, which: int,
    spots: list[tuple[float, bytes]], length: float,
) -> None:
    name, data = sorted(checkpoints().items())[which]
    path = tmp_path_factory.getbasetemp() / f'fuzz_{name}'
    path.write_bytes(damage(data, spots, length))
    attempt(lambda: load_checkpoint(path), CheckpointError)
    assert not Path('/tmp/lednet_ros_was_hacked').exists()


@functools.cache
def bags() -> dict[str, bytes]:
    """Return files of every kind of bag, with an image and a label topic."""
    with tempfile.TemporaryDirectory() as folder:
        return make_bags(Path(folder))


def make_bags(folder: Path) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    entries = []
    for index in range(6):
        entries.append(
            Entry('/image', index, index, rng.integers(0, 256, (16, 24, 3), np.uint8), 'png')
        )
        entries.append(
            Entry('/truth', index, index, rng.integers(0, 11, (16, 24), np.uint8), 'mono8')
        )
    (mcap,) = write_bag(folder / 'a', entries).glob('*.mcap')
    (database,) = write_bag(folder / 'b', entries, StoragePlugin.SQLITE3).glob('*.db3')
    ros1 = write_ros1_bag(folder / 'c.bag', entries)
    return {path.suffix: path.read_bytes() for path in (mcap, database, ros1)}


@fuzz
@given(st.sampled_from(['.mcap', '.db3', '.bag']), changes, st.floats(0.2, 1) | st.just(1.0))
def test_bags(
    tmp_path_factory: pytest.TempPathFactory, suffix: str,
    spots: list[tuple[float, bytes]], length: float,
) -> None:
    path = tmp_path_factory.getbasetemp() / f'fuzz{suffix}'
    path.write_bytes(damage(bags()[suffix], spots, length))
    label_map = LabelMap.load('camvid')

    def read() -> None:
        with open_bag(path) as bag:
            for message in bag.messages():
                message.header_stamp()
                if message.type in IMAGE_TYPES:
                    attempt(lambda m=message: decode_image(m), FrameError)
                    attempt(lambda m=message: read_label_message(m, label_map), SourceError)

    attempt(read, SourceError)


NAMES = (
    'drive_0.mcap', 'drive_1.MCAP', 'drive_10.db3', 'drive_2.mcap.zstd', 'drive_\u00b2.mcap',
    'drive_.mcap', 'drive.mcap', '._drive_0.mcap', 'other_0.mcap', 'metadata.yaml', '0.png',
    '.mcap',
)


@fuzz
@given(st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(['.mcap', '.db3', 'text', 'zstd', 'folder', 'link', 'fifo']),
        changes, st.floats(0.2, 1) | st.just(1.0),
    ),
    unique_by=lambda item: item[0],
))
def test_folders_of_strange_items(
    tmp_path_factory: pytest.TempPathFactory,
    items: list[tuple[str, str, list[tuple[float, bytes]], float]],
) -> None:
    folder = tmp_path_factory.mktemp('bag')
    for name, kind, spots, length in items:
        path = folder / name
        if kind == 'folder':
            path.mkdir()
        elif kind == 'link':
            path.symlink_to(folder / 'drive_0.mcap')
        elif kind == 'fifo':
            os.mkfifo(path)
        else:
            data = bags().get(kind, b'rosbag2_bagfile_information: {relative_file_paths: [7, a]}')
            data = damage(data, spots, length) if length < 1 else data
            path.write_bytes(zstandard.compress(data) if kind == 'zstd' else data)
    is_bag(folder)

    def read() -> None:
        with open_bag(folder) as bag:
            for message in bag.messages():
                message.stamp()

    attempt(read, SourceError)


@fuzz
@given(
    st.lists(st.integers(0, 10**12) | st.integers(-(2**63), 2**64), max_size=30),
    st.lists(st.integers(0, 10**12) | st.integers(0, 3), max_size=30),
    st.integers(0, 10**11),
)
def test_stamps(images: list[int], labels: list[int], slop: int) -> None:
    matches = match_stamps(images, labels, slop)
    assert len(set(matches.values())) == len(matches)
    assert all(abs(images[k] - labels[v]) <= slop for k, v in matches.items())


@fuzz
@given(st.lists(st.text('0123456789.png_-/ \n', max_size=24), max_size=6))
def test_names_of_label_files(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp('labels')
    for name in names:
        if name.strip('./') and '/' not in name:
            (folder / name).touch()
    attempt(lambda: list_label_files(folder), SourceError)


def test_yaml_is_never_code(tmp_path: Path) -> None:
    path = tmp_path / 'hostile.yaml'
    path.write_text('!!python/object/apply:os.system ["touch /tmp/lednet_ros_was_hacked"]\n')
    for load in (LabelMap.load, load_recipe):
        with pytest.raises((LabelMapError, RecipeError)):
            load(path)
    assert not Path('/tmp/lednet_ros_was_hacked').exists()
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(path.read_text())
