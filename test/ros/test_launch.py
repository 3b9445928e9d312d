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

from bag_files import Entry, write_bag, write_recording
from lednet_ros.live.client import live_session, NodeClient
from lednet_ros.ros.distribution import PROFILE_VARIABLES
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest

pytest.importorskip('launch_ros')
# Importable alone is not enough: `ros2 launch` finds executables through the ament index.
ament_index = pytest.importorskip('ament_index_python')

pytestmark = [pytest.mark.ros, pytest.mark.slow]

LAUNCH = Path(__file__).parents[2] / 'launch'
TIMEOUT = 60.0

RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *words = sys.argv[1:]
arguments = [tuple(word.split(':=', 1)) for word in words]
service = LaunchService(noninteractive=True)
service.include_launch_description(LaunchDescription([
    IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=arguments),
    # Like the rest of a robot; replay.launch.py would end with it.
    *([] if 'replay' in path else [ExecuteProcess(cmd=['env'], output='screen')]),
]))
sys.exit(service.run())
"""

@pytest.fixture(autouse=True)
def installed() -> None:
    """Skip unless the package is installed where ROS finds it."""
    try:
        ament_index.get_package_prefix('lednet_ros')
    except (LookupError, OSError):
        pytest.skip('lednet_ros is not in the ament index: colcon build and source it')


def skip_with_rviz(arguments: Sequence[str]) -> None:
    """Skip where rviz would open instead of being missing."""
    if 'rviz:=true' in arguments:
        try:
            ament_index.get_package_prefix('rviz2')
        except LookupError:
            return
        pytest.skip('rviz2 is installed')


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
        'images:=/front_cam/image_raw,left_cam/color',
        'namespace:=robot',
        f'checkpoint:={checkpoint}',
        until="segmenting '/robot/left_cam/color'",
    )
    assert "segmenting '/front_cam/image_raw'" in output


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
        (['image:=/x', 'cameras:=front'], "image is '/x' and cameras is 'front'"),
        (['cameras:=front,left', 'images:=/x'], 'images has 1 topics (/x) for 2 cameras'),
        (['rviz:=true'], "'rviz2' not found"),
        (['log_level:=loud'], 'loud'),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], named: str) -> None:
    skip_with_rviz(arguments)
    code, output = launch('segment.launch.py', *arguments)
    assert code == 1
    assert named in output
    assert 'process started' not in output


def test_an_argument_overrides_the_parameter_file_and_its_default_does_not(
    checkpoint: Path, tmp_path: Path
) -> None:
    parameters = tmp_path / 'my.yaml'
    parameters.write_text(
        f'/segmentation_node: {{ros__parameters: {{checkpoint: {checkpoint}, device: abacus, '
        'backend: torch_eager, input_size: [64, 96]}}',
        encoding='utf-8',
    )
    _, output = launch(
        'segment.launch.py', f'params_file:={parameters}', 'device:=cpu', until='segmenting'
    )
    assert 'on cpu by torch_eager' in output
    assert 'input 64x96' in output


def test_the_dds_profile_is_for_the_node_alone(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    _, output = launch('segment.launch.py', f'checkpoint:={checkpoint}', until='segmenting')
    assert 'PATH=' in output
    assert not any(f'{variable}=' in output for variable in PROFILE_VARIABLES)


def test_without_autostart_a_lifecycle_manager_starts_the_node(checkpoint: Path) -> None:
    found: list[object] = []

    def manage(client: NodeClient) -> None:
        found.append(client.state())
        found.append(client.change_state(Transition.TRANSITION_CONFIGURE))
        found.append(client.change_state(Transition.TRANSITION_ACTIVATE))

    with live_session('manager') as session:
        client = NodeClient(*session, '/robot', cameras=(), outputs=())
        client.name = '/robot/eyes'
        manager = threading.Thread(target=manage, args=[client])
        manager.start()
        launch(
            'segment.launch.py',
            'autostart:=false',
            'namespace:=robot',
            'name:=eyes',
            f'checkpoint:={checkpoint}',
            until='segmenting',
        )
        manager.join()
    assert found == ['unconfigured', True, True]


@pytest.mark.parametrize('kind', ['mcap', 'ros1', 'folder', 'torn'])
def test_replay_plays_the_recording_to_the_active_node(
    kind: str, checkpoint: Path, tmp_path: Path
) -> None:
    path = write_recording(kind, tmp_path / 'recording')
    code, output = launch(
        'replay.launch.py', f'bag:={path}', 'rate:=2.0', f'checkpoint:={checkpoint}'
    )
    # What can be read is played, but the launch fails.
    assert code == (1 if kind == 'torn' else 0)
    before, _, after = output.partition('segmenting')
    assert 'segmentation_node-1' in before
    assert 'player-2' not in before and 'process started' in after
    assert '[segmentation_node-1]: process has finished cleanly' in after


@pytest.mark.parametrize(
    ('arguments', 'named', 'starts'),
    [
        ([], '/left', False),
        (['image:=/left', 'rviz:=true'], "'rviz2' not found", False),
        (['image:=/left', 'checkpoint:=/nowhere.safetensors'], '/nowhere.safetensors', True),
    ],
)
def test_replay_fails_with_an_exit_code(
    arguments: list[str], named: str, starts: bool, tmp_path: Path
) -> None:
    skip_with_rviz(arguments)
    pixels = np.zeros((8, 8, 3), np.uint8)
    entries = [Entry(topic, 0, 0, pixels) for topic in ('/left', '/right')]
    bag = write_bag(tmp_path / 'bag', entries)
    code, output = launch('replay.launch.py', f'bag:={bag}', *arguments)
    assert code == 1
    assert named in output
    assert ('process started' in output) is starts
