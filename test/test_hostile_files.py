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

"""Hostile files and names are refused early, with one clear error."""

from dataclasses import replace
import json
from pathlib import Path
import resource
import struct
import zipfile

from bag_files import Entry, write_bag
from lednet_ros.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from lednet_ros.cli.main import main
from lednet_ros.files import parse_yaml
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap, LabelMapError
from lednet_ros.training.recipe import load_recipe, RecipeError
import numpy as np
import pytest
import torch
import yaml

MIB = 2**20


def laughs(levels: int) -> str:
    """Return a few lines of YAML that expand to 9**levels values."""
    lines = ['a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]']
    for level in range(1, levels):
        repeated = ', '.join([f'*a{level - 1}'] * 9)
        lines.append(f'a{level}: &a{level} [{repeated}]')
    return '\n'.join(lines)


@pytest.mark.parametrize('text', [laughs(12), '[' * 20_000, '&a [*a]'])
def test_yaml_that_fills_the_memory_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / 'hostile.yaml'
    path.write_text(text)
    with pytest.raises(LabelMapError, match='hostile'):
        LabelMap.load(path)
    with pytest.raises(RecipeError, match='hostile'):
        load_recipe(path)


def test_yaml_with_some_aliases_is_read() -> None:
    assert parse_yaml('a: &a {x: 1}\nb: *a') == {'a': {'x': 1}, 'b': {'x': 1}}
    assert parse_yaml('') is None
    with pytest.raises(yaml.YAMLError, match='python/object'):
        parse_yaml('!!python/object/apply:os.system [ls]')


def test_compressed_checkpoint_is_refused_before_unpacking(tmp_path: Path) -> None:
    path = tmp_path / 'bomb.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', bytes(300 * MIB))
        archive.writestr('archive/version', '3\n')
    assert path.stat().st_size < MIB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"data\.pkl' is compressed"):
        load_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_weights_that_are_not_finite_are_refused(
    small_content: Checkpoint, tmp_path: Path
) -> None:
    key, weight = next(iter(small_content.state_dict.items()))
    for value in (float('nan'), float('inf')):
        broken = {**small_content.state_dict, key: torch.full_like(weight, value)}
        path = tmp_path / 'nan.safetensors'
        save_checkpoint(replace(small_content, state_dict=broken), path)
        with pytest.raises(CheckpointError, match=f'not finite.*{key}'):
            Segmenter.from_checkpoint(path)


def test_deep_metadata_is_refused(small_content: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / 'deep.safetensors'
    save_checkpoint(small_content, path)
    data = path.read_bytes()
    (length,) = struct.unpack('<Q', data[:8])
    header = json.loads(data[8 : 8 + length])
    (key,) = header['__metadata__']
    header['__metadata__'][key] = '[' * 100_000
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + data[8 + length :])
    with pytest.raises(CheckpointError, match='damaged metadata'):
        load_checkpoint(path)


@pytest.mark.parametrize('topic', ['/../../escaped', '/a/../../../escaped', '/..'])
def test_topic_names_of_a_bag_cannot_escape_the_output_folder(tmp_path: Path, topic: str) -> None:
    folder = tmp_path / 'deep' / 'down'
    folder.mkdir(parents=True)
    frames = [Entry(topic, k, k, np.zeros((64, 96, 3), np.uint8), 'bgr8') for k in range(2)]
    bag = write_bag(folder / 'bag', frames)
    output = folder / 'out'
    before = {path for path in tmp_path.rglob('*') if output not in path.parents}
    arguments = ['--image-topic', topic, '--device', 'cpu', '--checkpoint', 'lednet']
    main(['segment', str(bag), '-o', str(output), *arguments])
    after = {path for path in tmp_path.rglob('*') if output not in path.parents}
    assert after - before <= {output}


def test_names_in_a_checkpoint_cannot_escape_the_cache(
    small_content: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / 'cache'
    monkeypatch.setenv('LEDNET_ROS_CACHE', str(cache))
    hostile = LabelMap('../../../escaped', small_content.label_map.labels)
    path = tmp_path / 'hostile.safetensors'
    save_checkpoint(replace(small_content, label_map=hostile), path)
    segmenter = Segmenter.from_checkpoint(path, device='cpu')
    segmenter.warm_up((64, 96))
    assert set(tmp_path.iterdir()) <= {cache, path}
    unknown = replace(small_content, network='../../lednet')
    save_checkpoint(unknown, path)
    with pytest.raises(CheckpointError, match='unknown network'):
        Segmenter.from_checkpoint(path)
