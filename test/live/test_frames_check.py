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

"""What `lednet doctor` finds out through DDS."""

from collections.abc import Iterator
import contextlib
import re
import subprocess
import sys

from lednet_ros.live import frames_check
from lednet_ros.live.client import NodeProcess
from lednet_ros.live.doctor import CHECKS, FAILURE, GOOD, run_check
from lednet_ros.live.frames_check import watch_topic
from lednet_ros.ros.distribution import PROFILE_VARIABLES
import pytest

pytestmark = pytest.mark.ros

TOPIC = '/doctor/image'
COMPRESSED_CAMERA = f"""
import time
import rclpy
from sensor_msgs.msg import CompressedImage
rclpy.init()
publisher = rclpy.create_node('camera').create_publisher(CompressedImage, '{TOPIC}', 1)
while True:
    publisher.publish(CompressedImage(format='jpeg', data=bytes(1 << 20)))
    time.sleep(0.2)
"""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for cameras that a busy machine starts slowly."""
    monkeypatch.setattr(frames_check, 'DISCOVERY_SECONDS', 120.0)


@contextlib.contextmanager
def camera(
    height: int, width: int, reliability: str = 'reliable', profile: bool = True
) -> Iterator[NodeProcess]:
    """Run a synthetic camera of 5 Hz, with or without the Fast DDS profile."""
    parameters = {
        'height': height,
        'width': width,
        'rate': 5.0,
        f'qos_overrides.{TOPIC}.publisher.reliability': reliability,
    }
    program = ('lednet_ros.ros.synthetic_camera',)
    environment = {} if profile else dict.fromkeys(PROFILE_VARIABLES, '')
    with NodeProcess(
        '/doctor', parameters, program, environment=environment, quiet=True
    ) as process:
        yield process


@pytest.mark.slow
def test_frames_of_a_topic_and_of_its_size_arrive() -> None:
    command = [sys.executable, '-m', 'lednet_ros.cli', 'doctor', '--topic', TOPIC]
    with camera(480, 640):
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout
    assert 'Traceback' not in done.stdout + done.stderr
    text = ' '.join(done.stdout.split())
    found = re.search(
        rf'topic {TOPIC} good: 1 publishers of sensor_msgs/msg/Image, reliable, volatile; '
        r'640x480 bgr8, 0.88 MiB, (\S+) frames/s; 0 of \d+ lost', text,
    )
    assert found, done.stdout
    # Busy machines draw fewer.
    assert 0.2 < float(found[1]) < 7
    assert re.search(r'frames, shipped profile good: \d+ of 20 best-effort frames of 0.9 M', text)
    assert re.search(r'frames, no profile warning: \d+ of 20 best-effort frames of 0.9 M', text)


def test_lost_frames_of_a_topic() -> None:
    with camera(720, 1280, 'best_effort', profile=False):
        seen = watch_topic(TOPIC)
    assert 'config/fastdds.xml' in seen.trouble


@pytest.mark.parametrize(
    ('topic', 'trouble'),
    [('/doctor/nothing', 'nobody publishes'), ('doctor/camera_info', 'msg/CameraInfo')],
)
def test_topics_without_frames(
    topic: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if 'nothing' in topic:
        monkeypatch.setattr(frames_check, 'DISCOVERY_SECONDS', 1.0)
    with camera(96, 128):
        assert trouble in watch_topic(topic).trouble


def test_compressed_images() -> None:
    with subprocess.Popen([sys.executable, '-c', COMPRESSED_CAMERA]) as process:
        try:
            seen = watch_topic(TOPIC)
        finally:
            process.terminate()
    assert not seen.trouble
    assert seen.size == 1 << 20
    assert 'CompressedImage, reliable, volatile; jpeg, 1.00 MiB' in seen.description


def test_processes_that_do_not_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_check, 'CONNECT_SECONDS', 2.0)
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'OFF')
    with pytest.raises(frames_check.LiveError, match='did not find each other'):
        frames_check.send_frames(1000, '')


@pytest.mark.parametrize(
    ('variable', 'value', 'status'),
    [
        ('ROS_DOMAIN_ID', '7', GOOD),
        ('ROS_DOMAIN_ID', '200', FAILURE),
        ('ROS_DOMAIN_ID', 'seven', FAILURE),
        ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'OFF', FAILURE),
    ],
)
def test_middleware(
    variable: str, value: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    lines = {line.check: line for line in run_check('middleware', CHECKS['middleware'])}
    assert lines['middleware'].status == status
    assert f'{value}' in lines['middleware'].finding
    assert bool(lines['middleware'].remedy) == (status != GOOD)


def test_middleware_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RMW_IMPLEMENTATION', 'rmw_of_nobody')
    # This process has loaded another one.
    code = (
        'from lednet_ros.live.doctor import CHECKS, run_check\n'
        "for line in run_check('middleware', CHECKS['middleware']): print(*line)"
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120
    )
    *_, line = done.stdout.splitlines()
    assert line.startswith('middleware failure')
    assert 'rmw_of_nobody' in line
    assert 'RMW_IMPLEMENTATION' in line
