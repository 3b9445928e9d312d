# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files, for real, where launch_ros is importable."""

import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest

pytest.importorskip('launch_ros')
# Importable alone is not enough: `ros2 launch` finds executables through the ament index.
ament_index = pytest.importorskip('ament_index_python')

pytestmark = [pytest.mark.ros, pytest.mark.slow]

ROOT = Path(__file__).parents[2]

RUN = """
import signal, sys
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


@pytest.fixture(autouse=True)
def installed() -> None:
    """Skip unless the package is installed where ROS finds it."""
    try:
        ament_index.get_package_prefix('lednet_ros')
    except (LookupError, OSError):
        pytest.skip('lednet_ros is not in the ament index: colcon build and source it')


def launch_until(sign: str, *arguments: str) -> str:
    """Launch until the output shows a sign, interrupt, and give all output."""
    with subprocess.Popen(
        [sys.executable, '-c', RUN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {'PYTHONUNBUFFERED': '1'},
    ) as process:
        assert process.stdout is not None
        output = ''
        while sign not in output:
            line = process.stdout.readline()
            assert line, f'ended without "{sign}": {output}'
            output += line
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    return output + rest


def test_segment_starts_the_node_with_its_arguments(checkpoint: Path) -> None:
    output = launch_until(
        "segmenting '/front/camera'",
        str(ROOT / 'launch' / 'segment.launch.py'),
        'image:=/front/camera',
        f'checkpoint:={checkpoint}',
        'namespace:=robot',
        'device:=cpu',
    )
    assert '[robot.segmentation_node]' in output
    assert 'finished cleanly' in output


def test_segment_takes_several_cameras(checkpoint: Path) -> None:
    output = launch_until(
        "segmenting '/left/image'",
        str(ROOT / 'launch' / 'segment.launch.py'),
        'cameras:=front,left',
        f'checkpoint:={checkpoint}',
    )
    assert "segmenting '/front/image'" in output


def test_a_bad_checkpoint_is_named(tmp_path: Path) -> None:
    output = launch_until(
        'process has died',
        str(ROOT / 'launch' / 'segment.launch.py'),
        f'checkpoint:={tmp_path}/none.safetensors',
    )
    assert 'none.safetensors' in output
