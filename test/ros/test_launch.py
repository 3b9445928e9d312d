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

"""The launch files, for real, where launch_ros is importable."""

from collections.abc import Sequence
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

pytest.importorskip('launch_ros')
# Importable alone is not enough: `ros2 launch` finds executables through the ament index.
ament_index = pytest.importorskip('ament_index_python')

pytestmark = [pytest.mark.ros, pytest.mark.slow]

LAUNCH = Path(__file__).parents[2] / 'launch'
TIMEOUT = 60.0

RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *words = sys.argv[1:]
arguments = [tuple(word.split(':=', 1)) for word in words]
service = LaunchService(noninteractive=True)
service.include_launch_description(LaunchDescription([
    IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=arguments)
]))
sys.exit(service.run())
"""

# Stands for `ros2 bag play`, which no wheel contains: prints its arguments and ends.
PLAYER = '#!/bin/sh\necho "player: $*"\n'


@pytest.fixture(autouse=True)
def installed() -> None:
    """Skip unless the package is installed where ROS finds it."""
    try:
        ament_index.get_package_prefix('lednet_ros')
    except (LookupError, OSError):
        pytest.skip('lednet_ros is not in the ament index: colcon build and source it')


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stub of `ros2` on the path."""
    stub = tmp_path / 'bin' / 'ros2'
    stub.parent.mkdir()
    stub.write_text(PLAYER, encoding='utf-8')
    stub.chmod(0o755)
    monkeypatch.setenv('PATH', f"{stub.parent}{os.pathsep}{os.environ['PATH']}")


def write_bag(path: Path, kind: str, topics: Sequence[str]) -> Path:
    """Write a bag that has topics and no messages."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic in topics:
            writer.add_connection(topic, kind, typestore=get_typestore(Stores.ROS2_JAZZY))
    return path


def launch(file: str, *arguments: str, until: str | None = None) -> tuple[int, str]:
    """Launch, interrupt when `until` is printed, if given; return exit code and output."""
    with subprocess.Popen(
        [sys.executable, '-c', RUN, str(LAUNCH / file), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {'PYTHONUNBUFFERED': '1'},
    ) as process:
        # An interrupt, unlike a kill, also ends the nodes.
        watchdog = threading.Timer(TIMEOUT, process.send_signal, [signal.SIGINT])
        watchdog.start()
        output = ''
        assert process.stdout is not None
        for line in process.stdout:
            output += line
            if until is not None and until in line:
                process.send_signal(signal.SIGINT)
                until = None
        process.wait(TIMEOUT)
        watchdog.cancel()
    assert until is None, f'ended without "{until}": {output}'
    return process.returncode, output


def test_segment_starts_the_node_with_its_arguments(checkpoint: Path, tmp_path: Path) -> None:
    parameters = tmp_path / 'my.yaml'
    parameters.write_text('/**: {ros__parameters: {overlay_alhpa: 0.3}}', encoding='utf-8')
    code, output = launch(
        'segment.launch.py',
        'image:=/front/camera/compressed',
        f'checkpoint:={checkpoint}',
        'namespace:=robot',
        'device:=cpu',
        f'params_file:={parameters}',
        until="segmenting '/front/camera/compressed'",
    )
    assert code == 0
    assert '[robot.segmentation_node]' in output
    assert "did you mean 'overlay_alpha'" in output
    assert 'finished cleanly' in output


def test_segment_takes_several_cameras(checkpoint: Path) -> None:
    _, output = launch(
        'segment.launch.py',
        'cameras:=front, left',
        f'checkpoint:={checkpoint}',
        until="segmenting '/left/image'",
    )
    assert "segmenting '/front/image'" in output


def test_the_log_level_holds_in_a_namespace(tmp_path: Path) -> None:
    parameters = tmp_path / 'my.yaml'
    parameters.write_text('/**: {ros__parameters: {overlay_alhpa: 0.3}}', encoding='utf-8')
    _, output = launch(
        'segment.launch.py',
        'namespace:=robot',
        'log_level:=error',
        f'params_file:={parameters}',
        f'checkpoint:={tmp_path}/none.safetensors',
    )
    assert 'none.safetensors' in output
    assert 'process has died' in output
    assert 'did you mean' not in output


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        (['params_file:=/nowhere.yaml'], '/nowhere.yaml'),
        (['image:=/x', 'cameras:=front'], 'image and cameras exclude each other'),
        (['log_level:=loud'], 'loud'),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], named: str) -> None:
    code, output = launch('segment.launch.py', *arguments)
    assert code == 1
    assert named in output
    assert 'process started' not in output


@pytest.mark.usefixtures('player')
def test_replay_plays_the_bag_to_the_active_node(checkpoint: Path, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 'sensor_msgs/msg/CompressedImage', ['/jpeg'])
    code, output = launch(
        'replay.launch.py',
        f'bag:={bag}',
        'rate:=2.0',
        'loop:=true',
        'rviz:=false',
        f'checkpoint:={checkpoint}',
    )
    assert code == 0
    before, _, after = output.partition('player: ')
    assert "segmenting '/jpeg/compressed'" in before
    assert after.startswith(f'bag play {bag} --clock --delay 1 --rate 2.0 --loop')
    assert '--remap /jpeg:=/jpeg/compressed' in after
    assert 'finished cleanly' in after


def test_replay_needs_a_single_image_topic(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 'sensor_msgs/msg/Image', ['/left', '/right'])
    code, output = launch('replay.launch.py', f'bag:={bag}', 'rviz:=false')
    assert code == 1
    assert '/left' in output and '/right' in output
    assert 'process started' not in output
