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

"""The demo as a user starts it: processes, DDS, live table and files."""

from pathlib import Path
import subprocess
import sys

import cv2
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest
from rosbags.rosbag2 import Reader

pytestmark = pytest.mark.ros


def run_demo(*arguments: str) -> 'subprocess.CompletedProcess[str]':
    """Run the demo."""
    return subprocess.run(
        [sys.executable, '-m', 'lednet_ros.cli', 'demo', *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def error_of(result: 'subprocess.CompletedProcess[str]') -> str:
    """Return the single line in which the demo reports the error."""
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    (line,) = (line for line in result.stderr.splitlines() if line.startswith('lednet demo:'))
    return line


def topics_of(bag: Path) -> dict[str, int]:
    """Count the messages of each topic."""
    with Reader(bag) as reader:
        return {topic: info.msgcount for topic, info in reader.topics.items()}


def test_demo_writes_sheet_video_and_bag(tmp_path: Path) -> None:
    result = run_demo('--seconds', '2', '--output', str(tmp_path))
    assert result.returncode == 0, result.stderr
    for column in ('fps in', 'fps out', 'latency p50', 'latency p99', 'dropped', 'mIoU'):
        assert column in result.stdout
    assert 'road' in result.stdout
    counts = topics_of(tmp_path / 'bag')
    assert set(counts) == {
        '/demo/image',
        '/demo/ground_truth',
        '/demo/segmentation_node/labels',
        '/demo/segmentation_node/overlay',
    }
    assert min(counts.values()) >= 1
    assert cv2.imread(str(tmp_path / 'contact_sheet.png')).shape[1] == 1600
    assert cv2.VideoCapture(str(tmp_path / 'overlay.mp4')).get(cv2.CAP_PROP_FRAME_WIDTH) == 480
    assert {path.name for path in tmp_path.iterdir()} == {
        'bag', 'contact_sheet.png', 'overlay.mp4'
    }


def test_demo_plays_a_recording_and_ends_with_it(tmp_path: Path) -> None:
    frames = tmp_path / 'frames'
    frames.mkdir()
    scene = StreetScene(160, 120, seed=2)
    for index in range(6):
        cv2.imwrite(str(frames / f'{index}.png'), scene.render(index / 10)[0][..., ::-1])
    output = tmp_path / 'out'
    result = run_demo(str(frames), '--seconds', '90', '--output', str(output))
    assert result.returncode == 0, result.stderr
    counts = topics_of(output / 'bag')
    assert counts['/demo/image'] == 6
    assert '/demo/ground_truth' not in counts


@pytest.mark.slow
def test_demo_ends_cleanly_before_its_recording(tmp_path: Path) -> None:
    frames = tmp_path / 'frames'
    frames.mkdir()
    for index in range(100):
        cv2.imwrite(str(frames / f'{index:03}.png'), np.zeros((64, 64, 3), np.uint8))
    result = run_demo(str(frames), '--seconds', '1', '--output', str(tmp_path / 'out'))
    assert result.returncode == 0, result.stderr
    assert 'Traceback' not in result.stderr
    assert 2 <= topics_of(tmp_path / 'out' / 'bag')['/demo/image'] < 100


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        (['/nowhere.mcap'], '/nowhere.mcap'),
        (['--checkpoint', 'unheard_of'], 'unheard_of'),
    ],
)
def test_bad_input_is_one_clear_error(
    tmp_path: Path, arguments: list[str], named: str
) -> None:
    result = run_demo('--output', str(tmp_path / 'out'), *arguments)
    assert named in error_of(result)


def test_an_unwritable_output_is_one_clear_error(tmp_path: Path) -> None:
    # A file where a folder is needed stops root too, unlike missing permissions.
    (tmp_path / 'file').write_text('')
    result = run_demo('--output', str(tmp_path / 'file' / 'out'))
    assert str(tmp_path / 'file') in error_of(result)
