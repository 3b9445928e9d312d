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

"""What the node subscribes to, with which QoS, and what it says when frames get lost."""

from collections.abc import Callable, Iterator
import contextlib
import os
import subprocess
import sys
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.live.client import image_message, stamp_of
from lednet_ros.live.stand_ins import NullBackend
from lednet_ros.ros import camera as camera_module
from lednet_ros.ros.distribution import PROFILE_VARIABLES, unsupported_event
from lednet_ros.ros.inputs import Input
from lednet_ros.ros.qos import latched_qos, output_qos, sensor_qos
from lednet_ros.ros.statistics import estimate_lost
import numpy as np
import pytest
import rclpy
from rclpy.duration import Duration
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import Harness, street
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

pytestmark = pytest.mark.ros

NODE = '/segmentation_node'
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
FRAME = image_message(street(0.0), 'rgb8')
INFO = CameraInfo(width=128, height=96, k=[100.0, 0.0, 64.0, 0.0, 100.0, 48.0, 0.0, 0.0, 1.0])
PERIOD = 10**9 // 15
# A camera driver; frame number i has the stamp (i + 1) * PERIOD.
CAMERA = f"""
import os, sys, time
import rclpy, rclpy.executors, rclpy.node, sensor_msgs.msg
from rclpy.qos import QoSProfile, ReliabilityPolicy
reliability, height, width, user = sys.argv[1], *map(int, sys.argv[2:])
# Another user can't write into the folder of the logs.
arguments = ['--ros-args', '--disable-external-lib-logs']
if user:
    # What is imported later may be unreadable for that user.
    rclpy.init(args=arguments)
    rclpy.create_node('unused').destroy_node()
    rclpy.shutdown()
    os.setuid(user)
rclpy.init(args=arguments)
node = rclpy.create_node('camera')
qos = QoSProfile(depth=10, reliability=ReliabilityPolicy[reliability])
publisher = node.create_publisher(sensor_msgs.msg.Image, '/image', qos)
image = sensor_msgs.msg.Image(height=height, width=width, encoding='bgr8', step=3 * width)
image.data.frombytes(bytes(height * width * 3))
number, start = 0, time.perf_counter()
while True:
    number += 1
    stamp = image.header.stamp
    stamp.sec, stamp.nanosec = divmod(number * {PERIOD}, 10**9)
    publisher.publish(image)
    time.sleep(max(0.0, start + number * {PERIOD} / 1e9 - time.perf_counter()))
"""


@contextlib.contextmanager
def camera_process(
    reliability: str, size: tuple[int, int] = (720, 1280), user: int = 0
) -> Iterator[None]:
    """Run a camera of 15 Hz in a process without the Fast DDS profile."""
    environment = {k: v for k, v in os.environ.items() if k not in PROFILE_VARIABLES}
    arguments = [reliability, *map(str, size), str(user)]
    command = [sys.executable, '-c', CAMERA, *arguments]
    with subprocess.Popen(command, env=environment) as process:
        try:
            yield
        finally:
            process.kill()


def null_node(harness: Harness, checkpoint: Any, **parameters: Any) -> Any:
    """Start a node whose network takes no time."""
    node = harness.node(start=False, checkpoint=str(checkpoint), **parameters)
    node.build_segmenter = lambda: Segmenter(load_checkpoint(checkpoint), backend=NullBackend)
    assert node.start()
    return node


def received_qos(node: Any, topic: str = '/image') -> QoSProfile:
    """Return the QoS of the node's only subscription to a topic."""
    (found,) = (s for s in node.subscriptions if s.topic_name == topic)
    return found.qos_profile


class Log:
    """What the node has logged so far."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.text = ''

    def has(self, *parts: str) -> bool:
        """Return whether one line contains all parts."""
        self.text += self._capfd.readouterr().err
        return any(all(part in line for part in parts) for line in self.text.splitlines())


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> Log:
    return Log(capfd)


@pytest.fixture(params=['events', 'no matched event', 'no events'])
def events(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Replace the middleware's answer by that of one that lacks events."""
    create = Input._create
    absent = {'events': (), 'no matched event': ('matched',)}.get(
        request.param, ('matched', 'message_lost')
    )

    def create_without(self: Input, events: Any) -> Any:
        if any(name in events for name in absent):
            raise unsupported_event()
        return create(self, events)

    monkeypatch.setattr(Input, '_create', create_without)
    return str(request.param)


def test_reliable_camera_without_the_profile_loses_few_frames(
    harness: Harness, checkpoint: Any
) -> None:
    node = null_node(harness, checkpoint)
    labels = harness.collect(Image, f'{NODE}/labels')
    harness.wait_outputs(node, {'labels'})
    with camera_process('RELIABLE'):
        harness.spin_until(lambda: received_qos(node).reliability == RELIABLE)
        labels.clear()
        harness.spin_until(lambda: labels and stamp_of(labels[-1]) - stamp_of(labels[0]) > 6e9)
    published = (stamp_of(labels[-1]) - stamp_of(labels[0])) / PERIOD
    # Best effort: 15 %.
    assert len(labels) > 0.6 * published


@pytest.mark.parametrize('events', ['events', 'no events'], indirect=True)
def test_lost_frames_are_counted_and_explained(
    harness: Harness, checkpoint: Any, events: str, log: Log
) -> None:
    node = null_node(harness, checkpoint)
    labels = harness.collect(Image, f'{NODE}/labels')
    harness.wait_outputs(node, {'labels'})
    with camera_process('BEST_EFFORT', (480, 640)):
        harness.spin_until(lambda: log.has('WARN', "'/image' are lost", 'fastdds.xml'))
        harness.spin_until(lambda: "'/image' are lost" in harness.status('').message)
        assert harness.status('').level == DiagnosticStatus.WARN
        # Almost all may be lost so far.
        harness.spin_until(lambda: len(labels) > 1)
    assert received_qos(node).reliability == BEST_EFFORT
    totals = harness.totals(node)
    # Half of them or more are; without events, they are counted for 20 arrivals at a time.
    assert totals['lost'] > 0.1 * (stamp_of(labels[-1]) - stamp_of(labels[0])) / PERIOD
    assert totals['received'] + totals['lost'] < 1.3 * stamp_of(labels[-1]) / PERIOD + 20


def test_missing_frames_are_estimated_from_stamps() -> None:
    rng = np.random.default_rng(0)
    period = 33e6
    stamps = (np.arange(1000) * period + rng.uniform(-0.15, 0.15, 1000) * period).astype(int)
    assert estimate_lost(stamps) == 0
    kept = np.sort(rng.choice(1000, 300, replace=False))
    missing = kept[-1] - kept[0] + 1 - 300
    assert 0.7 * missing < estimate_lost(stamps[kept]) <= 1.1 * missing
    # A camera that pauses, stamps of zero, and a recording that starts over.
    assert estimate_lost([*stamps[:20], *stamps[900:920]]) == 0
    assert estimate_lost([0] * 30) == 0
    assert estimate_lost([*stamps[500:520], *stamps[:20]]) == 0


def test_input_follows_its_publishers(
    harness: Harness, checkpoint: Any, events: str, log: Log
) -> None:
    node = null_node(harness, checkpoint)
    labels = harness.collect(Image, f'{NODE}/labels')
    harness.wait_outputs(node, {'labels'})
    publishers: list[Any] = []

    def replace(*profiles: QoSProfile) -> None:
        while publishers:
            harness.ros_node.destroy_publisher(publishers.pop())
        harness.spin_until(lambda: not node.count_publishers('/image'))
        publishers.extend(harness.publisher(Image, 'image', qos) for qos in profiles)
        harness.connect(*publishers)

    for profiles, expected in (
        ([], BEST_EFFORT),
        ([sensor_qos()], BEST_EFFORT),
        ([output_qos()], RELIABLE),
        ([output_qos(), sensor_qos()], BEST_EFFORT),
        ([output_qos(), output_qos()], RELIABLE),
        ([], RELIABLE),
        ([sensor_qos()], BEST_EFFORT),
    ):
        replace(*profiles)
        assert received_qos(node).reliability == expected
        assert received_qos(node).depth == 1
        for publisher in publishers:
            labels.clear()
            publisher.publish(FRAME)
            harness.spin_until(lambda: labels)
    assert not log.has('[segmentation_node]', 'incompatible')
    changes = [line for line in log.text.splitlines() if 'as its publishers offer' in line]
    assert [line.split(': ')[-1].split(',')[0] for line in changes] == [
        f'reliability {name}' for name in ('reliable', 'best_effort') * 2
    ]


@pytest.mark.parametrize('value', ['reliable', 'best_effort'])
def test_override_wins_over_the_publishers(harness: Harness, checkpoint: Any, value: str) -> None:
    qos = sensor_qos() if value == 'reliable' else output_qos()
    harness.publisher(Image, 'image', qos)
    node = null_node(
        harness, checkpoint, **{'qos_overrides./image.subscription.reliability': value}
    )
    harness.spin_until(lambda: node.count_publishers('/image'))
    node.cameras[0]._watch_inputs()
    assert received_qos(node).reliability.name.lower() == value


def test_latched_camera_info_arrives_late(harness: Harness, checkpoint: Any) -> None:
    publisher = harness.publisher(CameraInfo, 'camera_info', latched_qos())
    publisher.publish(INFO)
    node = null_node(harness, checkpoint)
    harness.spin_until(lambda: node.cameras[0]._camera_info)
    assert received_qos(node, '/camera_info').durability == DurabilityPolicy.TRANSIENT_LOCAL


@pytest.mark.parametrize(
    ('remappings', 'parameters', 'image', 'info'),
    [
        ({}, {}, '/image', '/camera_info'),
        ({'image': '/cam/image_raw'}, {}, '/cam/image_raw', '/cam/camera_info'),
        ({'image': '/cam/image_raw', 'camera_info': '/calib'}, {}, '/cam/image_raw', '/calib'),
        ({'image': '/cam/image_raw', '/cam/camera_info': '/camera_info'}, {}, '/cam/image_raw',
         '/camera_info'),
        ({'image': '/cam/image_raw'}, {'image_transport': 'compressed'},
         '/cam/image_raw/compressed', '/cam/camera_info'),
        ({'image/compressed': '/cam/jpeg'}, {'image_transport': 'compressed'}, '/cam/jpeg',
         '/cam/camera_info'),
        ({'front/image': '/cam/front/image_raw'}, {'cameras': ['front']}, '/cam/front/image_raw',
         '/cam/front/camera_info'),
        ({'front/image': '/cam/image_raw', 'front/camera_info': '/calib'},
         {'cameras': ['front']}, '/cam/image_raw', '/calib'),
    ],
)
def test_camera_info_is_taken_from_beside_the_image(
    harness: Harness,
    checkpoint: Any,
    remappings: dict[str, str],
    parameters: dict[str, Any],
    image: str,
    info: str,
) -> None:
    node = null_node(harness, checkpoint, remappings=remappings, **parameters)
    publisher = harness.publisher(CameraInfo, info)
    harness.connect(publisher)
    publisher.publish(INFO)
    harness.spin_until(lambda: node.cameras[0]._camera_info)
    assert node.cameras[0].image_topic == image
    assert received_qos(node, image)


def test_missing_camera_info_is_explained_to_its_subscriber(
    harness: Harness, checkpoint: Any, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_module, 'NO_FRAMES_AFTER', 0.0)
    node = null_node(harness, checkpoint, remappings={'image': '/camera/image_raw'})
    harness.publisher(CameraInfo, '/elsewhere/camera_info')
    camera = harness.publisher(Image, '/camera/image_raw')
    harness.connect(camera)
    camera.publish(FRAME)
    harness.spin_until(lambda: harness.totals(node).get('received'))
    node.cameras[0]._watch_inputs()
    assert not log.has('camera_info')
    harness.collect(CameraInfo, f'{NODE}/camera_info')
    harness.spin_until(
        lambda: log.has(
            "nobody publishes '/camera/camera_info'", '/elsewhere/camera_info',
            'camera_info:=TOPIC',
        )
    )


@pytest.mark.parametrize(
    ('policy', 'value', 'qos'),
    [
        ('reliability', 'best_effort', output_qos()),
        ('durability', 'volatile', latched_qos()),
        ('deadline', 2 * 10**9, QoSProfile(depth=1, deadline=Duration(seconds=1))),
        ('liveliness', 'automatic',
         QoSProfile(depth=1, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC)),
    ],
)
def test_mismatch_advice_names_a_parameter_that_mends_it(
    harness: Harness, checkpoint: Any, log: Log, policy: str, value: Any, qos: QoSProfile
) -> None:
    name = f'qos_overrides.{NODE}/labels.publisher.{policy}'
    node = null_node(harness, checkpoint, **{name: value})
    labels = harness.collect(Image, f'{NODE}/labels', qos)
    harness.spin_until(lambda: log.has('incompatible', name))
    offered = {
        'reliability': 'reliable', 'durability': 'transient_local', 'deadline': 10**9,
        'liveliness': 'manual_by_topic',
    }
    mended = null_node(
        harness, checkpoint, namespace='mended',
        **{f'qos_overrides./mended{NODE}/labels.publisher.{policy}': offered[policy]},
    )
    labels = harness.collect(Image, f'/mended{NODE}/labels', qos)
    camera = harness.publisher(Image, '/mended/image')
    harness.connect(camera)
    harness.wait_outputs(mended, {'labels'})
    camera.publish(FRAME)
    harness.spin_until(lambda: labels)
    assert node.get_parameter(name).value == value


@pytest.mark.parametrize(
    ('name', 'value', 'allowed'),
    [
        ('/image.subscription.reliability', 'perfect', 'best_available'),
        ('/image.subscription.depth', 0, '1 to'),
        ('/image.subscription.history', 3, 'string'),
        ('/camera_info.subscription.durability', 'eternal', 'transient_local'),
        (f'{NODE}/labels.publisher.deadline', -1, '0 to'),
        (f'{NODE}/labels.publisher.lifespan', 'long', 'integer'),
        (f'{NODE}/labels.publisher.liveliness', 'undead', 'manual_by_topic'),
    ],
)
def test_invalid_qos_override_stops_at_configure(
    harness: Harness, checkpoint: Any, log: Log, name: str, value: Any, allowed: str
) -> None:
    name = f'qos_overrides.{name}'
    node = harness.node(start=False, checkpoint=str(checkpoint), **{name: value})
    for _ in range(2):
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert log.has('not configured', name, str(value), allowed)
    assert list(node.cameras) == []


def test_qos_override_of_no_topic_is_named(harness: Harness, checkpoint: Any, log: Log) -> None:
    null_node(harness, checkpoint, **{'qos_overrides./imag.subscription.depth': 2})
    assert log.has('WARN', 'qos_overrides./imag.subscription.depth', '/image')


def publish_other_user(harness: Harness) -> Any:
    if os.getuid():
        pytest.skip('only root can run a process as another user')
    return camera_process('RELIABLE', (96, 128), user=65534)


@contextlib.contextmanager
def other_participant(kind: Any) -> Iterator[None]:
    """Publish a type on '/image' by another participant; one's own refuses it."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = Node('other', context=context)
    node.create_publisher(kind, '/image', 1)
    try:
        yield
    finally:
        node.destroy_node()
        context.try_shutdown()


@pytest.mark.parametrize(
    ('publish', 'parts'),
    [
        (lambda h: h.publisher(CompressedImage, 'image/compressed'),
         ['/image/compressed', 'image_transport:=compressed']),
        (lambda _: other_participant(CompressedImage),
         ['sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/Image is expected']),
        (lambda _: other_participant(CameraInfo),
         ['sensor_msgs/msg/CameraInfo', 'sensor_msgs/msg/Image is expected']),
        (lambda h: h.publisher(Image, '/cam/image_raw'),
         ["nobody publishes '/image'", '/cam/image_raw', 'image:=TOPIC']),
        (lambda h: h.publisher(Image, 'image'), ['may be idle', 'fastdds.xml']),
        (publish_other_user, ['different users', 'uid 65534']),
        # One of them may arrive all the same; then it is the fraction that is explained.
        (lambda _: camera_process('BEST_EFFORT', (2160, 3840)), ['lost', 'fastdds.xml']),
    ],
    ids=['compressed', 'type', 'unrelated type', 'absent', 'idle', 'user', 'large'],
)
def test_silence_is_explained(
    harness: Harness,
    checkpoint: Any,
    log: Log,
    publish: Callable[[Harness], Any],
    parts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(camera_module, 'NO_FRAMES_AFTER', 0.0)
    null_node(harness, checkpoint)
    made = publish(harness)
    with made if isinstance(made, contextlib.AbstractContextManager) else contextlib.nullcontext():
        harness.spin_until(lambda: log.has(*parts))


def test_publisher_with_an_incompatible_qos_is_no_matter_of_the_profile(
    harness: Harness, checkpoint: Any, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_module, 'NO_FRAMES_AFTER', 0.0)
    null_node(harness, checkpoint, **{'qos_overrides./image.subscription.reliability': 'reliable'})
    harness.publisher(Image, 'image', sensor_qos())
    harness.spin_until(lambda: log.has("'/image' in", 'QoS', 'incompatible'))
    assert 'fastdds.xml' not in log.text
