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

"""Bags through the live node: a real process and real DDS."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from bag_files import Entry, write_bag, write_ros1_bag
from lednet_ros.cli.main import main
from lednet_ros.live import replay
from lednet_ros.live.client import NodeProcess
from lednet_ros.synthetic import StreetScene
import pytest

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ('kind', 'encoding', 'image_format'),
    [
        ('ros2', 'rgb8', ''), ('ros2', 'jpeg', 'rgb8; jpeg compressed rgb8'), ('ros1', 'png', ''),
        ('ros2', 'png', 'bayer_grbg8; png compressed '),
    ],
)
def test_confusion_matrix_equals_that_of_the_offline_evaluation(
    kind: str, encoding: str, image_format: str, small_checkpoint: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scene = StreetScene(120, 80, seed=3)
    entries = []
    for index in range(5):
        pixels, labels = scene.render(index / 10)[:2]
        if 'bayer' in image_format:
            pixels = pixels[..., 0]
        entries.append(Entry('/image', index, index, pixels, encoding, image_format=image_format))
        entries.append(Entry('/truth', index, index, labels, 'mono8'))
    entries.append(Entry('/image', 9, 9, entries[0].pixels, '32FC1') if encoding == 'rgb8'
                   else Entry('/image', 9, 9, entries[0].pixels, encoding))
    write = write_bag if kind == 'ros2' else write_ros1_bag
    path = write(tmp_path / ('bag' if kind == 'ros2' else 'drive.bag'), entries)
    command = [
        'evaluate', str(path), '--image-topic', '/image', '--label-topic', '/truth',
        '--checkpoint', str(small_checkpoint), '--device', 'cpu', '--backend', 'torch_eager',
    ]
    results = []
    for number, more in enumerate(([], ['--through-ros'])):
        file = tmp_path / f'{number}.json'
        assert main([*command, *more, '--json', str(file)]) == 0
        results.append(json.loads(file.read_text()))
    offline, online = results
    for name in ('confusion_matrix', 'class_shares', 'calibration_error', 'flipped', 'rejected',
                 'unmatched_images', 'matched'):
        assert online[name] == offline[name], name
    assert sum(map(sum, online['confusion_matrix'])) > 0
    assert online['node']['latency_ms']['p50'] > 0
    counters = online['node']['counters']
    assert counters['processed'] == offline['images']
    assert counters['dropped'] == 0
    assert 'node: latency' in capsys.readouterr().out


def test_node_that_cannot_start_is_reported(
    small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def misconfigured(
        namespace: str, parameters: Mapping[str, object], **options: Any
    ) -> NodeProcess:
        return NodeProcess(namespace, {**parameters, 'device': 'none'}, **options)

    monkeypatch.setattr(replay, 'NodeProcess', misconfigured)
    scene = StreetScene(96, 64, seed=3)
    path = write_bag(tmp_path / 'bag', [Entry('/image', 0, 0, scene.render(0.0)[0], 'rgb8')])
    command = ['evaluate', str(path), '--through-ros', '--checkpoint', str(small_checkpoint)]
    assert main([*command, '--device', 'cpu', '--backend', 'torch_eager']) == 1
    assert 'the node ended with exit code 1' in capsys.readouterr().err
