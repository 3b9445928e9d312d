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

"""The node over real DDS: every topic, every parameter that changes, every bad frame."""

from collections.abc import Iterator
import gc
import logging
from pathlib import Path
import threading
import time
from types import SimpleNamespace
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.inference import segmenter as segmenter_module
from lednet_ros.inference.backends.base import Wanted
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.live.client import image_message, pixels_of
from lednet_ros.ros import camera as camera_module
from lednet_ros.ros import health
from lednet_ros.ros import segmentation_node as node_module
from lednet_ros.ros import statistics as statistics_module
from lednet_ros.ros import worker as worker_module
from lednet_ros.ros.distribution import lifecycle_state
from lednet_ros.ros.parameters import ParameterError
from lednet_ros.ros.qos import latched_qos, sensor_qos
from lednet_ros.ros.segmentation_node import SegmentationNode
from lifecycle_msgs.msg import TransitionEvent
import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import FakeTime, Harness, street, TIMEOUT
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool

pytestmark = pytest.mark.ros

NODE = '/segmentation_node'
STAMP = 1_600_000_000_123_456_789
PUBLISH_PERIOD = 0.1


def test_every_image_output_equals_the_segmenter(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint), overlay_alpha=0.3)
    topics = ('labels', 'confidence', 'overlay', 'color')
    outputs = {topic: harness.collect(Image, f'{NODE}/{topic}') for topic in topics}
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, set(topics))
    frame = np.ascontiguousarray(street(1.0, 131, 97)[..., ::-1])
    sent = image_message(frame, 'bgr8', STAMP)
    camera.publish(sent)
    harness.spin_until(lambda: all(outputs.values()))

    segmenter = Segmenter.from_checkpoint(checkpoint, device='cpu')
    segmenter.overlay_alpha = 0.3
    expected = segmenter.segment([Frame(frame, 'bgr')], color=True)
    for topic, encoding in zip(topics, ('mono8', 'mono8', 'bgr8', 'rgb8'), strict=True):
        message = outputs[topic][0]
        assert message.encoding == encoding
        assert message.header == sent.header
        assert (message.height, message.width) == (97, 131)
        assert message.step == 131 * (1 if encoding == 'mono8' else 3)
        assert message.is_bigendian == 0
        assert np.array_equal(pixels_of(message), getattr(expected, topic)[0])


def test_compressed_outputs_keep_ids_and_header(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    labels = harness.collect(CompressedImage, f'{NODE}/labels/compressed')
    overlays = harness.collect(CompressedImage, f'{NODE}/overlay/compressed')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels/compressed', 'overlay/compressed'})
    sent = image_message(street(1.0), 'rgb8', STAMP)
    camera.publish(sent)
    harness.spin_until(lambda: labels and overlays)

    expected = Segmenter.from_checkpoint(checkpoint, device='cpu').segment([street(1.0)])
    decoded = cv2.imdecode(np.frombuffer(labels[0].data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(decoded, expected.labels[0])
    assert labels[0].header == overlays[0].header == sent.header
    assert 'png' in labels[0].format
    overlay = cv2.imdecode(np.frombuffer(overlays[0].data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert 'jpeg' in overlays[0].format
    difference = np.abs(overlay.astype(int) - expected.overlay[0])
    assert difference.mean() < 8


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8', 'bgra8'])
def test_overlay_has_the_color_order_of_the_input(
    harness: Harness, checkpoint: Any, encoding: str
) -> None:
    node = harness.node(checkpoint=str(checkpoint), overlay_alpha=0.0)
    overlays = harness.collect(Image, f'{NODE}/overlay')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'overlay'})
    pixels = street(0.0)
    if encoding == 'mono8':
        pixels = pixels[..., 0]
    elif encoding == 'bgra8':
        pixels = np.dstack([pixels, pixels[..., 0]])
    camera.publish(image_message(pixels, encoding, STAMP))
    harness.spin_until(lambda: overlays)
    assert overlays[0].encoding == ('rgb8' if encoding == 'rgb8' else 'bgr8')
    shown = pixels_of(overlays[0])
    expected = np.dstack([pixels] * 3) if encoding == 'mono8' else pixels[..., :3]
    assert np.array_equal(shown, expected)


def test_compressed_input_follows_the_remapped_base_topic(
    harness: Harness, checkpoint: Any
) -> None:
    harness.node(checkpoint=str(checkpoint), image_transport='compressed')
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(CompressedImage, 'image/compressed')
    harness.connect(camera)
    message = CompressedImage(format='rgb8; jpeg compressed bgr8')
    message.header.frame_id = 'jpeg_camera'
    bgr = np.ascontiguousarray(street(0.0)[..., ::-1])
    data = cv2.imencode('.jpg', bgr)[1].tobytes()
    message.data.frombytes(data)
    publish_until(harness, camera, message, labels)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    expected = Segmenter.from_checkpoint(checkpoint, device='cpu').segment([decoded])
    assert np.array_equal(pixels_of(labels[0]), expected.labels[0])
    assert labels[0].header == message.header


def publish_until(harness: Harness, camera: Any, message: Any, results: list[Any]) -> None:
    """Publish a message repeatedly, at the rate of a camera, until a result arrives."""
    next_due = 0.0

    def arrived() -> bool:
        nonlocal next_due
        # Faster, this thread would keep Python's lock from the node's worker.
        if time.perf_counter() >= next_due:
            camera.publish(message)
            next_due = time.perf_counter() + PUBLISH_PERIOD
        return bool(results)

    harness.spin_until(arrived)


def test_camera_info_is_scaled_to_the_labels(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint), output_size=[48, 64])
    infos = harness.collect(CameraInfo, f'{NODE}/camera_info')
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    info_publisher = harness.publisher(CameraInfo, 'camera_info')
    harness.connect(camera, info_publisher)
    harness.wait_outputs(node, {'labels', 'camera_info'})
    info = CameraInfo(width=128, height=96)
    info.k = [100.0, 0.0, 64.0, 0.0, 100.0, 48.0, 0.0, 0.0, 1.0]
    info_publisher.publish(info)
    harness.spin_until(lambda: node.cameras[0]._camera_info)
    sent = image_message(street(0.0), 'rgb8', STAMP)
    camera.publish(sent)
    harness.spin_until(lambda: infos and labels)
    assert (labels[0].width, labels[0].height) == (64, 48)
    assert (infos[0].width, infos[0].height) == (64, 48)
    assert infos[0].k[0] == 50.0
    assert infos[0].k[5] == 24.0
    assert infos[0].header == sent.header


def test_a_crop_keeps_the_size_of_all_outputs(harness: Harness, checkpoint: Any) -> None:
    settings = {'crop': [0.25, 0.125, 0.0, 0.25], 'input_size': [64, 96]}
    node = harness.node(checkpoint=str(checkpoint), **settings)
    topics = ('labels', 'confidence', 'overlay', 'color')
    outputs = {topic: harness.collect(Image, f'{NODE}/{topic}') for topic in topics}
    infos = harness.collect(CameraInfo, f'{NODE}/camera_info')
    camera = harness.publisher(Image, 'image')
    info_publisher = harness.publisher(CameraInfo, 'camera_info')
    harness.connect(camera, info_publisher)
    harness.wait_outputs(node, {*topics, 'camera_info'})
    info = CameraInfo(width=128, height=96)
    info.k = [100.0, 0.0, 64.0, 0.0, 100.0, 48.0, 0.0, 0.0, 1.0]
    info_publisher.publish(info)
    harness.spin_until(lambda: node.cameras[0]._camera_info)
    camera.publish(image_message(street(1.0), 'rgb8', STAMP))
    harness.spin_until(lambda: infos and all(outputs.values()))
    expected = Segmenter.from_checkpoint(checkpoint, device='cpu', **settings).segment(
        [street(1.0)], color=True
    )
    for topic in topics:
        np.testing.assert_array_equal(
            pixels_of(outputs[topic][0]), getattr(expected, topic)[0]
        )
    labels = pixels_of(outputs['labels'][0])
    assert labels.shape == (96, 128)
    assert (np.flatnonzero((labels != 255).any(axis=1))[[0, -1]] == (24, 83)).all()
    assert (np.flatnonzero((labels != 255).any(axis=0))[[0, -1]] == (0, 95)).all()
    np.testing.assert_array_equal(infos[0].k, info.k)


def test_outputs_without_subscribers_are_not_computed(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    calls: list[Wanted] = []
    run = node._segmenter.run

    def spy(frames: Any, wanted: Wanted) -> Any:
        calls.append(wanted)
        return run(frames, wanted)

    node._segmenter.run = spy
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    message = image_message(street(0.0), 'rgb8', STAMP)

    def unwanted() -> int:
        camera.publish(message)
        return harness.totals(node).get('unwanted', 0)

    harness.spin_until(unwanted)
    assert not calls
    labels = harness.collect(Image, f'{NODE}/labels')
    harness.wait_outputs(node, {'labels'})
    publish_until(harness, camera, message, labels)
    assert calls[0] == Wanted(confidence=False, overlay=False, color=False)


def test_camera_info_alone_does_not_run_the_network(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint), output_size=[48, 64])
    calls: list[Any] = []
    node._segmenter.run = lambda *arguments: calls.append(arguments)
    infos = harness.collect(CameraInfo, f'{NODE}/camera_info')
    camera = harness.publisher(Image, 'image')
    info_publisher = harness.publisher(CameraInfo, 'camera_info')
    harness.connect(camera, info_publisher)
    harness.wait_outputs(node, {'camera_info'})
    info_publisher.publish(CameraInfo(width=128, height=96))
    harness.spin_until(lambda: node.cameras[0]._camera_info)
    sent = image_message(street(0.0), 'rgb8', STAMP)
    camera.publish(sent)
    harness.spin_until(lambda: infos)
    assert (infos[0].width, infos[0].height) == (64, 48)
    assert infos[0].header == sent.header
    assert harness.totals(node) == {'received': 1, 'processed': 1}
    assert not calls


@pytest.mark.parametrize(
    ('module', 'step'), [(segmenter_module, 'draw_on_host'), (camera_module, 'fill_compressed')]
)
def test_labels_are_published_before_pictures_are_made(
    harness: Harness, checkpoint: Any, monkeypatch: pytest.MonkeyPatch, module: Any, step: str
) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    prompt = [harness.collect(Image, f'{NODE}/{topic}') for topic in ('labels', 'confidence')]
    overlays = harness.collect(CompressedImage, f'{NODE}/overlay/compressed')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels', 'confidence', 'overlay/compressed'})
    proceed = threading.Event()
    make = getattr(module, step)

    def wait_and_make(*arguments: Any, **options: Any) -> None:
        # Drawing nothing, for the labels, must not wait.
        if step == 'fill_compressed' or arguments[2].overlay:
            assert proceed.wait(TIMEOUT)
        make(*arguments, **options)

    monkeypatch.setattr(module, step, wait_and_make)
    sent = image_message(street(0.0), 'rgb8', STAMP)
    camera.publish(sent)
    harness.spin_until(lambda: all(prompt))
    assert not overlays
    assert harness.totals(node) == {'received': 1}, 'a frame is counted when it is complete'
    proceed.set()
    harness.spin_until(lambda: overlays)
    assert overlays[0].header == prompt[0][0].header == sent.header
    assert harness.totals(node) == {'received': 1, 'processed': 1}


def test_several_cameras_share_the_network(harness: Harness, checkpoint: Any) -> None:
    names = ['front', 'left/rear']
    node = harness.node(checkpoint=str(checkpoint), cameras=names)
    labels = {name: harness.collect(Image, f'{NODE}/{name}/labels') for name in names}
    cameras = {name: harness.publisher(Image, f'{name}/image') for name in names}
    harness.connect(*cameras.values())
    harness.wait_outputs(node, {'labels'})
    frames = {'front': street(0.0), 'left/rear': street(9.0, 161, 99)}
    for index, name in enumerate(names):
        cameras[name].publish(image_message(frames[name], 'rgb8', STAMP + index))
    harness.spin_until(lambda: all(labels.values()))
    segmenter = Segmenter.from_checkpoint(checkpoint, device='cpu')
    for index, name in enumerate(names):
        expected = segmenter.segment([frames[name]]).labels[0]
        assert labels[name][0].header.stamp.nanosec == (STAMP + index) % 10**9
        # A batch may sum in another order than a single frame, which decides near ties.
        assert (pixels_of(labels[name][0]) == expected).mean() > 0.999


def broken(kind: str) -> Image:
    """Return an image message with one fault."""
    message = image_message(street(0.0), 'rgb8', STAMP)
    if kind == 'encoding':
        message.encoding = 'rainbow8'
    elif kind == 'step':
        message.step = 100
    elif kind == 'truncated':
        message.data = message.data[: len(message.data) // 2]
    elif kind == 'size':
        message.height = message.width = 0
    return message


@pytest.fixture
def endless_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log each warning only once, however slow the machine is."""
    monkeypatch.setattr(health, 'LOG_PERIOD', float('inf'))


@pytest.mark.usefixtures('endless_throttle')
@pytest.mark.parametrize('kind', ['encoding', 'step', 'truncated', 'size'])
def test_bad_frame_is_dropped_and_counted(
    harness: Harness, checkpoint: Any, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    start = time.perf_counter()
    for _ in range(3):
        before = harness.totals(node).get(f'rejected:{kind}', 0)
        camera.publish(broken(kind))
        harness.spin_until(lambda b=before: harness.totals(node).get(f'rejected:{kind}', 0) > b)
    camera.publish(image_message(street(0.0), 'rgb8', STAMP))
    harness.spin_until(lambda: labels)
    totals = harness.totals(node)
    assert totals == {'received': 4, 'processed': 1, f'rejected:{kind}': 3}
    check_throttled(capfd.readouterr().err, "frame of '/image' dropped", start)


def check_throttled(log: str, warning: str, start: float) -> None:
    """Check that a warning is logged once, or once per period since start."""
    periods = (time.perf_counter() - start) // health.LOG_PERIOD
    assert 1 <= log.count(warning) <= 1 + periods


def test_truncated_jpeg_is_dropped_and_counted(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint), image_transport='compressed')
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(CompressedImage, 'image/compressed')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    data = cv2.imencode('.jpg', street(0.0))[1].tobytes()
    for part in (data[: len(data) // 2], b'', data):
        message = CompressedImage(format='jpeg')
        message.data.frombytes(part)
        received = harness.totals(node).get('received', 0)
        camera.publish(message)
        harness.spin_until(lambda r=received: sum(harness.totals(node).values()) >= 2 * (r + 1))
    harness.spin_until(lambda: labels)
    totals = harness.totals(node)
    assert totals['processed'] == 1
    assert sum(count for key, count in totals.items() if key.startswith('rejected:')) == 2


def test_the_core_logs_at_every_level(
    harness: Harness, capfd: pytest.CaptureFixture[str]
) -> None:
    forwarder = health.LogForwarder(harness.node(start=False).get_logger())
    levels = (logging.INFO, logging.WARNING, logging.ERROR, logging.INFO)
    for number, level in enumerate(levels):
        forwarder.emit(logging.LogRecord('core', level, '', 0, 'line %d', (number,), None))
    written = capfd.readouterr().err
    assert all(f'line {number}' in written for number in range(len(levels)))
    assert forwarder.newest == 'line 3'


def test_a_stamp_before_1970_is_a_stamp(harness: Harness, checkpoint: Any) -> None:
    harness.node(checkpoint=str(checkpoint))
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    message = image_message(street(0.0), 'rgb8', 0)
    message.header.stamp.sec = -7
    camera.publish(message)
    harness.spin_until(lambda: labels)
    assert labels[0].header.stamp.sec == -7


def test_newest_frame_replaces_an_unprocessed_one(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    # Without a free outbox, the worker waits and nothing is processed.
    taken = [node.cameras[0]._free.get() for _ in range(2)]
    for index in range(6):
        camera.publish(image_message(street(float(index)), 'rgb8', STAMP + index))
        harness.spin_until(lambda i=index: harness.totals(node).get('received', 0) > i)
    for outbox in taken:
        node.cameras[0]._free.put(outbox)
    harness.spin_until(lambda: labels and labels[-1].header.stamp.nanosec == (STAMP + 5) % 10**9)
    totals = harness.totals(node)
    assert totals['received'] == 6 == totals['processed'] + totals['dropped']
    assert totals['dropped'] >= 3


def test_a_queue_lets_every_frame_of_a_burst_be_processed(
    harness: Harness, checkpoint: Any
) -> None:
    node = harness.node(checkpoint=str(checkpoint), queue_size=30)
    labels = harness.collect(Image, f'{NODE}/labels', QoSProfile(depth=30))
    camera = harness.publisher(Image, 'image', QoSProfile(depth=30))
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    message = image_message(street(0.0), 'rgb8', 0)
    for number in range(30):
        message.header.stamp.nanosec = number
        camera.publish(message)
    harness.spin_until(lambda: len(labels) == 30)
    assert [label.header.stamp.nanosec for label in labels] == list(range(30))


def test_enable_pauses_and_resumes(
    harness: Harness, checkpoint: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    labels = harness.collect(Image, f'{NODE}/labels')
    diagnostics = harness.collect(DiagnosticArray, '/diagnostics')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    message = image_message(street(0.0), 'rgb8', STAMP)

    assert harness.call(SetBool, 'enable', SetBool.Request(data=False)).success
    assert node.get_parameter('enabled').value is False
    camera.publish(message)
    harness.spin_until(lambda: diagnostics and diagnostics[-1].status[0].message == 'paused')
    assert not labels
    assert harness.call(SetBool, 'enable', SetBool.Request(data=True)).success
    publish_until(harness, camera, message, labels)
    log = capfd.readouterr().err
    assert log.count(': paused\n') == log.count(': resumed\n') == 1


def test_run_time_parameters_are_validated_and_take_effect(
    harness: Harness, checkpoint: Any
) -> None:
    node = harness.node(checkpoint=str(checkpoint))

    def change(name: str, value: Any) -> Any:
        return node.set_parameters([Parameter(name, value=value)])[0]

    assert change('overlay_alpha', 0.9).successful
    assert node._segmenter.overlay_alpha == 0.9
    refused = change('overlay_alpha', 1.5)
    assert not refused.successful
    assert node._segmenter.overlay_alpha == 0.9
    assert node.get_parameter('overlay_alpha').value == 0.9
    assert change('overlay_classes', ['road', 'car']).successful
    refused = change('overlay_classes', ['road', 'unicorn'])
    assert not refused.successful
    assert 'unicorn' in refused.reason
    assert 'pavement' in refused.reason, 'the message lists what is allowed'
    refused = change('device', 'cuda')
    assert not refused.successful
    assert 'device' in refused.reason

    assert change('min_confidence', 1.0).successful
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    publish_until(harness, camera, image_message(street(0.0), 'rgb8', STAMP), labels)
    assert np.all(pixels_of(labels[0]) == 255)


def test_max_rate_skips_frames_and_counts_them(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint), max_rate=0.001)
    harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    for index in range(4):
        camera.publish(image_message(street(0.0), 'rgb8', STAMP + index))
        harness.spin_until(lambda i=index: harness.totals(node).get('received', 0) > i)
    harness.spin_until(lambda: harness.totals(node).get('processed'))
    assert harness.totals(node) == {'received': 4, 'processed': 1, 'skipped': 3}


@pytest.mark.parametrize(
    ('parameters', 'named'),
    [
        ({'checkpoint': '/nowhere/weights.safetensors'}, '/nowhere/weights.safetensors'),
        ({'device': 'abacus'}, 'abacus'),
        ({'input_size': [10, 10]}, '10x10'),
        ({'overlay_classes': ['unicorn']}, 'unicorn'),
        ({'label_map': 'cityscapes'}, 'cityscapes'),
        ({'label_map': '/nowhere.yaml'}, '/nowhere.yaml'),
        ({'cameras': ['front', 'front']}, 'front'),
        ({'cameras': ['my camera']}, 'my camera'),
        ({'classes': 'nothing'}, "no file of classes 'nothing'"),
        ({'classes': 'cityscapes_navigation'}, "unknown class 'sidewalk'; label map 'camvid' has"),
        ({'crop': [0.5, 0.5, 0.0, 0.0]}, 'crop is [0.5, 0.5, 0.0, 0.0]'),
        ({'crop': [0.9, 0.0, 0.0, 0.0]}, "leaves 10x128 of the network's input"),
        ({'masks': ['cra']}, "parameter 'masks': unknown class 'cra'; label map 'camvid' has"),
        ({'masks': ['car', 'car']}, "parameter 'masks' has two classes on 'mask/car'"),
    ],
)
def test_bad_configuration_fails_at_configure(
    harness: Harness,
    checkpoint: Any,
    capfd: pytest.CaptureFixture[str],
    parameters: dict[str, Any],
    named: str,
) -> None:
    node = harness.node(start=False, **({'checkpoint': str(checkpoint)} | parameters))
    diagnostics = harness.collect(DiagnosticArray, '/diagnostics')
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert lifecycle_state(node) == 'unconfigured'
    assert list(node.cameras) == []
    log = capfd.readouterr().err
    assert log.count('not configured:') == 1
    assert named in log
    harness.spin_until(lambda: diagnostics and named in diagnostics[-1].status[0].message)
    assert diagnostics[-1].status[0].level == DiagnosticStatus.ERROR
    # After a correction, the same node can be configured.
    good = {'checkpoint': str(checkpoint), 'device': 'cpu', 'input_size': [0, 0], 'label_map': ''}
    good |= {'crop': [0.0] * 4}
    good |= {'overlay_classes': ['road'], 'cameras': ['front'], 'classes': '', 'masks': ['']}
    results = node.set_parameters([Parameter(name, value=value) for name, value in good.items()])
    assert all(result.successful for result in results)
    assert node.start()
    harness.spin_until(lambda: diagnostics[-1].status[0].message == 'active')


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Turn the garbage collection off."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures('uncollected')
def test_destroyed_nodes_leave_the_graph_at_once(harness: Harness, checkpoint: Any) -> None:
    client = harness.ros_node.get_fully_qualified_name()
    for start in (False, True):
        node = harness.node(start=start, checkpoint=str(checkpoint), namespace='/robot')
        harness.spin_until(lambda: harness.graph() == ['/robot/segmentation_node', client])
        harness.close()
        assert harness.graph() == [client]
        # Embedded nodes may be destroyed by their owner and by a context manager.
        node.destroy_node()


@pytest.mark.usefixtures('uncollected')
@pytest.mark.parametrize('value', [-1.0, 'fast'])
def test_nodes_that_cannot_be_made_are_not_in_the_graph(harness: Harness, value: Any) -> None:
    with pytest.raises(ParameterError, match='max_rate'):
        harness.node(max_rate=value)
    assert harness.graph() == [harness.ros_node.get_fully_qualified_name()]


def test_last_diagnostics_of_a_process_say_why_it_did_not_start(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine takes its time.
    monkeypatch.setattr(node_module, 'DISCOVERY_TIMEOUT', TIMEOUT)
    diagnostics = harness.collect(DiagnosticArray, '/diagnostics')
    overrides = [Parameter('checkpoint', value='/nowhere')]
    with pytest.raises(SystemExit):
        node_module.make_node(lambda: SegmentationNode(parameter_overrides=overrides))
    harness.spin_until(lambda: diagnostics and '/nowhere' in diagnostics[-1].status[0].message)


def test_diagnostics_say_what_a_configuration_does(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(start=False, checkpoint=str(checkpoint))
    # As in a process of its own: the node is not spun before it has started.
    harness.executor.remove_node(node)
    diagnostics = harness.collect(DiagnosticArray, '/diagnostics')
    seen = threading.Event()
    build = node.build_segmenter

    def build_slowly() -> Segmenter:
        logging.getLogger('lednet_ros.inference').info('trying an abacus')
        assert seen.wait(TIMEOUT)
        return build()

    node.build_segmenter = build_slowly
    starter = threading.Thread(target=node.start)
    starter.start()

    def message() -> str:
        return diagnostics[-1].status[0].message if diagnostics else ''

    harness.spin_until(lambda: message() == 'configuring: trying an abacus')
    seen.set()
    starter.join()
    harness.add(node)
    harness.spin_until(lambda: message() == 'active')


def test_period_of_diagnostics_can_change(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(start=False, checkpoint=str(checkpoint), diagnostics_period=60.0)
    diagnostics = harness.collect(DiagnosticArray, '/diagnostics')
    assert node.set_parameters([Parameter('diagnostics_period', value=0.1)])[0].successful
    harness.spin_until(lambda: len(diagnostics) > 2)


def test_lifecycle_cycles_leave_no_topics(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint))

    def topics() -> int:
        return len(list(node.publishers)) + len(list(node.subscriptions))

    before = topics()
    success = TransitionCallbackReturn.SUCCESS
    for _ in range(3):
        assert node.trigger_deactivate() == success
        assert node.trigger_cleanup() == success
        assert node._segmenter is None
        assert node.start()
    assert topics() == before
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    publish_until(harness, camera, image_message(street(0.0), 'rgb8', STAMP), labels)
    assert node.trigger_shutdown() == success


def test_qos_overrides_are_honored(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(
        checkpoint=str(checkpoint),
        **{
            'qos_overrides./image.subscription.reliability': 'reliable',
            'qos_overrides./image.subscription.depth': 7,
        },
    )
    subscription = next(s for s in node.subscriptions if s.topic_name == '/image')
    assert subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert subscription.qos_profile.depth == 7


def test_incompatible_qos_is_logged_with_the_remedy(
    harness: Harness, checkpoint: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    harness.node(
        checkpoint=str(checkpoint),
        **{'qos_overrides./image.subscription.reliability': 'reliable'},
    )
    harness.publisher(Image, 'image', sensor_qos())
    log = ''

    def logged() -> bool:
        nonlocal log
        log += capfd.readouterr().err
        return 'qos_overrides' in log

    harness.spin_until(logged)
    assert 'qos_overrides./image.subscription.reliability' in log


def test_diagnostics_report_rates_latency_and_counts(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    labels = harness.collect(Image, f'{NODE}/labels')
    diagnostics = harness.collect(DiagnosticArray, '/diagnostics')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    message = image_message(street(0.0), 'rgb8', time.time_ns())
    publish_until(harness, camera, message, labels)

    def camera_values() -> dict[str, str]:
        for message in reversed(diagnostics):
            for status in message.status:
                if status.name == f'{NODE}: camera':
                    values = {item.key: item.value for item in status.values}
                    if values.get('processed', '0') != '0':
                        return values
        return {}

    values = harness.spin_until(camera_values)
    assert float(values['latency p50 [ms]']) <= float(values['latency p99 [ms]'])
    assert float(values['age p50 [ms]']) >= float(values['latency p50 [ms]'])
    assert values['topic'] == '/image'
    assert int(values['received']) >= int(values['processed']) >= 1
    node_status = diagnostics[-1].status[0]
    assert node_status.name == NODE
    assert {'checkpoint', 'network', 'device'} <= {item.key for item in node_status.values}


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Replace the clock of the cameras and their statistics."""
    fake = FakeTime()
    for module in (camera_module, statistics_module):
        monkeypatch.setattr(module, 'time', fake)
    return fake


def next_status(harness: Harness, diagnostics: list[Any]) -> DiagnosticStatus:
    """Wait for the camera's status as of now."""
    # The first one may have been under way.
    count = len(diagnostics) + 2
    harness.spin_until(lambda: len(diagnostics) >= count)
    return diagnostics[-1].status[1]


@pytest.mark.parametrize(('interval', 'max_rate'), [(0.5, 0.5), (2.0, 0.0)])
def test_slow_or_throttled_camera_is_healthy(
    harness: Harness, checkpoint: Any, fake_time: FakeTime, interval: float, max_rate: float
) -> None:
    node = harness.node(checkpoint=str(checkpoint), max_rate=max_rate)
    diagnostics = harness.collect(DiagnosticArray, '/diagnostics')
    harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    totals = node.cameras[0].statistics.totals
    for number in range(round(8 / interval)):
        camera.publish(image_message(street(0.0), 'rgb8', STAMP))
        harness.spin_until(lambda n=number: totals['processed'] + totals['skipped'] > n)
        for _ in range(round(2 * interval)):
            fake_time.now += 0.5
            status = next_status(harness, diagnostics)
            assert status.level == DiagnosticStatus.OK, status.message
    assert status.message == '0.5 frames/s'
    values = {item.key: item.value for item in status.values}
    assert float(values['fps in']) == pytest.approx(1 / interval)
    assert float(values['fps out']) == pytest.approx(0.5)


def test_camera_that_dies_and_one_that_is_not_processed_are_reported(
    harness: Harness, checkpoint: Any, fake_time: FakeTime, capfd: pytest.CaptureFixture[str]
) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    diagnostics = harness.collect(DiagnosticArray, '/diagnostics')
    harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    totals = node.cameras[0].statistics.totals

    def publish() -> None:
        fake_time.now += 1.0
        count = totals['received']
        camera.publish(image_message(street(0.0), 'rgb8', STAMP))
        harness.spin_until(lambda: totals['received'] > count)

    for count in range(1, 4):
        publish()
        harness.spin_until(lambda c=count: totals['processed'] == c)
    fake_time.now += 2.9
    assert next_status(harness, diagnostics).level == DiagnosticStatus.OK
    fake_time.now += 0.2
    for _ in range(2):
        status = next_status(harness, diagnostics)
        assert (status.level, status.message) == (DiagnosticStatus.WARN, "no frames on '/image'")
    publish()
    harness.spin_until(lambda: totals['processed'] == 4)
    assert next_status(harness, diagnostics).level == DiagnosticStatus.OK
    log = capfd.readouterr().err
    assert log.count("frames have stopped on '/image': none for 3.1 s; publishers: 1") == 1
    assert log.count("frames arrive again on '/image'") == 1

    # Without a free outbox nothing is processed.
    taken = [node.cameras[0]._free.get() for _ in range(2)]
    for _ in range(6):
        publish()
        assert next_status(harness, diagnostics).level == DiagnosticStatus.OK
    publish()
    status = next_status(harness, diagnostics)
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == 'frames arrive, but none is published'
    for outbox in taken:
        node.cameras[0]._free.put(outbox)
    harness.spin_until(lambda: next_status(harness, diagnostics).level == DiagnosticStatus.OK)


def test_works_with_simulated_time(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint), use_sim_time=True)
    labels = harness.collect(Image, f'{NODE}/labels')
    diagnostics = harness.collect(DiagnosticArray, '/diagnostics')
    clock = harness.publisher(Clock, '/clock', QoSProfile(depth=1))
    camera = harness.publisher(Image, 'image')
    harness.connect(camera, clock)
    harness.wait_outputs(node, {'labels'})
    tick = Clock()
    tick.clock.sec = 1234
    clock.publish(tick)
    harness.spin_until(lambda: node.get_clock().now().nanoseconds == 1234 * 10**9)
    publish_until(harness, camera, image_message(street(0.0), 'rgb8', 1234 * 10**9), labels)
    # The clock doesn't advance, but diagnostics continue, with simulated stamps.
    count = len(diagnostics)
    harness.spin_until(lambda: len(diagnostics) >= count + 2)
    assert diagnostics[-1].header.stamp.sec == 1234
    # Ages of frames are by this clock, too.
    ages = {item.value for item in diagnostics[-1].status[1].values if 'age' in item.key}
    assert ages == {'0.00'}


@pytest.mark.parametrize('is_merged', [False, True])
def test_label_info_is_latched_where_vision_msgs_is_installed(
    harness: Harness, checkpoint: Any, merged: Path, monkeypatch: pytest.MonkeyPatch,
    is_merged: bool,
) -> None:
    """Replace vision_msgs, which has no wheel: a String carries the names."""

    class FakeLabelInfo(String):

        def __init__(self) -> None:
            super().__init__()
            self.header = Header()

        @property
        def class_map(self) -> list[Any]:
            return []

        @class_map.setter
        def class_map(self, classes: list[Any]) -> None:
            names = ','.join(f'{c.class_id}:{c.class_name}' for c in classes)
            self.data = f'{self.threshold:.2f} {names}'

    monkeypatch.setattr(camera_module, 'LabelInfo', FakeLabelInfo)
    monkeypatch.setattr(camera_module, 'VisionClass', SimpleNamespace, raising=False)
    classes = str(merged) if is_merged else ''
    node = harness.node(checkpoint=str(checkpoint), min_confidence=0.25, classes=classes)
    names = '7:ground,0:car,200:people' if is_merged else '0:sky,1:building'
    late = harness.collect(String, f'{NODE}/label_info', latched_qos())
    harness.spin_until(lambda: late)
    assert late[0].data.startswith(f'0.25 {names}')
    assert node.set_parameters([Parameter('min_confidence', value=0.5)])[0].successful
    harness.spin_until(lambda: len(late) == 2)
    assert late[1].data.startswith(f'0.50 {names}')


def test_merged_classes_and_their_masks(
    harness: Harness, checkpoint: Any, merged: Path
) -> None:
    node = harness.node(
        checkpoint=str(checkpoint), classes=str(merged), masks=['people', 'ground']
    )
    assert set(node.cameras[0]._masks) == {'mask/people', 'mask/ground'}
    calls: list[Wanted] = []
    run = node._segmenter.run

    def spy(frames: Any, wanted: Wanted) -> Any:
        calls.append(wanted)
        return run(frames, wanted)

    node._segmenter.run = spy
    camera = harness.publisher(Image, 'image')
    # A person is near.
    frame = street(6.0)
    sent = image_message(frame, 'rgb8', STAMP)
    expected = Segmenter.from_checkpoint(
        checkpoint, device='cpu', classes=str(merged)
    ).segment([frame])
    labels = expected.labels[0]
    assert {7, 200, 255} <= set(np.unique(labels))
    outputs: dict[str, list[Image]] = {}
    # A mask alone makes the network run; what nobody receives is not made.
    for topics in ({'mask/people'}, {'labels', 'mask/people', 'mask/ground', 'overlay'}):
        for topic in topics - set(outputs):
            outputs[topic] = harness.collect(Image, f'{NODE}/{topic}')
        harness.connect(camera)
        harness.wait_outputs(node, topics)
        camera.publish(sent)
        harness.spin_until(lambda: all(outputs.values()))
    assert calls == [Wanted(), Wanted(overlay=True)]
    for topic, number in (('mask/people', 200), ('mask/ground', 7)):
        message = outputs[topic][-1]
        assert (message.encoding, message.step, message.header) == ('mono8', 128, sent.header)
        np.testing.assert_array_equal(pixels_of(message), np.where(labels == number, 255, 0))
    np.testing.assert_array_equal(pixels_of(outputs['labels'][0]), labels)
    np.testing.assert_array_equal(pixels_of(outputs['overlay'][0]), expected.overlay[0])


class FailingBackend:
    """Raises the errors of a list that all instances share, then returns class 1 everywhere."""

    draws = False

    def __init__(self, fail: list[Exception]) -> None:
        self._fail = fail

    def run(self, frames: Any, outputs: Any, wanted: Any, style: Any) -> None:
        if self._fail:
            raise self._fail.pop()
        for output in outputs:
            output.array('labels').fill(1)


def failing_node(harness: Harness, checkpoint: Any, fail: list[Exception]) -> Any:
    """Return an active node whose backend raises the errors in the list, one per batch."""
    node = harness.node(start=False, checkpoint=str(checkpoint), autostart=False)

    def make_backend() -> FailingBackend:
        return FailingBackend(fail)

    node.build_segmenter = lambda: Segmenter(load_checkpoint(checkpoint), backend=make_backend)
    assert node.start()
    return node


def test_one_thread_builds_warms_up_and_runs(harness: Harness, checkpoint: Any) -> None:
    threads = []

    class Noting(FailingBackend):

        def __init__(self) -> None:
            super().__init__([])
            threads.append(('build', threading.get_ident()))

        def run(self, frames: Any, outputs: Any, wanted: Any, style: Any) -> None:
            threads.append(('run', threading.get_ident()))
            super().run(frames, outputs, wanted, style)

    node = harness.node(start=False, checkpoint=str(checkpoint), autostart=False)
    node.build_segmenter = lambda: Segmenter(load_checkpoint(checkpoint), backend=Noting)
    assert node.start()
    warm_ups = len(threads)
    assert warm_ups > 1
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    for count in (1, 2):
        harness.connect(camera)
        harness.wait_outputs(node, {'labels'})
        camera.publish(image_message(street(0.0), 'rgb8', STAMP))
        harness.spin_until(lambda c=count: len(labels) == c)
        if count == 1:
            success = TransitionCallbackReturn.SUCCESS
            assert node.trigger_deactivate() == success
            assert node.trigger_activate() == success
    assert len(threads) == warm_ups + 2
    assert len({thread for _, thread in threads}) == 1
    assert threads[0][1] != threading.get_ident()


@pytest.mark.usefixtures('endless_throttle')
def test_batch_is_retried_on_a_fresh_backend(
    harness: Harness, checkpoint: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    fail: list[Exception] = []
    node = failing_node(harness, checkpoint, fail)
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    start = time.perf_counter()
    for count in range(1, 4):
        fail.append(KeyError('device lost'))
        camera.publish(image_message(street(0.0), 'rgb8', STAMP))
        harness.spin_until(lambda c=count: len(labels) == c)
    assert node._worker.restarts == 3
    assert harness.totals(node) == {'received': 3, 'processed': 3}
    check_throttled(capfd.readouterr().err, 'device lost', start)


def test_two_backend_failures_leave_the_node_unconfigured(
    harness: Harness, checkpoint: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    fail: list[Exception] = []
    node = failing_node(harness, checkpoint, fail)
    events = harness.collect(TransitionEvent, f'{NODE}/transition_event')
    statuses = harness.collect(DiagnosticArray, '/diagnostics')
    labels = harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    fail += [MemoryError('no memory left'), RuntimeError('device lost')]
    camera.publish(image_message(street(0.0), 'rgb8', STAMP))
    harness.spin_until(lambda: events and events[-1].goal_state.label == 'unconfigured')
    assert 'errorprocessing' in [event.goal_state.label for event in events]
    harness.spin_until(lambda: statuses and 'no memory left' in statuses[-1].status[0].message)
    assert statuses[-1].status[0].level == DiagnosticStatus.ERROR
    assert 'failed on two backends' in capfd.readouterr().err
    # The node can be started again.
    assert node.start()
    harness.connect(camera)
    publish_until(harness, camera, image_message(street(0.0), 'rgb8', STAMP), labels)


@pytest.mark.parametrize('kind', ['one', 'several'])
def test_error_of_the_worker_does_not_end_it_in_silence(
    harness: Harness, checkpoint: Any, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    node = harness.node(checkpoint=str(checkpoint), autostart=False)
    labels = harness.collect(Image, f'{NODE}/labels')
    statuses = harness.collect(DiagnosticArray, '/diagnostics')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    run = node._segmenter.run
    # Too few results: an error that no stage expects.
    node._segmenter.run = lambda *_: []
    failures = 1 if kind == 'one' else worker_module.MAX_ERRORS
    totals = node.cameras[0].statistics.totals
    for count in range(1, failures + 1):
        camera.publish(image_message(street(0.0), 'rgb8', STAMP))
        harness.spin_until(lambda c=count: totals['failed'] == c)
    if kind == 'one':
        node._segmenter.run = run
        publish_until(harness, camera, image_message(street(0.0), 'rgb8', STAMP), labels)
        assert 'a batch failed: ValueError' in capfd.readouterr().err
        return
    harness.spin_until(lambda: statuses and lifecycle_state(node) == 'unconfigured')
    text = f'{failures} batches in a row failed'
    harness.spin_until(lambda: text in statuses[-1].status[0].message)


@pytest.mark.parametrize('place', ['decode', 'fill', 'draw', 'encode', 'publish'])
def test_frame_that_fails_outside_the_network_is_counted(
    harness: Harness, checkpoint: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    harness.collect(Image, f'{NODE}/labels')
    harness.collect(CompressedImage, f'{NODE}/overlay/compressed')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels', 'overlay/compressed'})

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError('too large')

    owner, name = {
        'decode': (worker_module, 'decode_image'),
        'fill': (camera_module, 'fill_image'),
        'draw': (node._segmenter, 'draw'),
        'encode': (camera_module, 'fill_compressed'),
        'publish': (node.cameras[0]._publishers['labels'], 'publish'),
    }[place]
    event = 'unpublished' if place == 'publish' else 'failed'
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        for count in range(1, 4):
            camera.publish(image_message(street(0.0), 'rgb8', STAMP))
            harness.spin_until(lambda c=count: harness.totals(node).get(event, 0) == c)
    camera.publish(image_message(street(0.0), 'rgb8', STAMP))
    harness.spin_until(lambda: harness.totals(node).get('processed'))
    assert harness.totals(node) == {'received': 4, event: 3, 'processed': 1}


def test_frames_left_at_a_deactivation_are_counted(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    proceed = threading.Event()
    run = node._segmenter.run
    node._segmenter.run = lambda *a: (proceed.wait(TIMEOUT), run(*a))[1]
    for count in range(1, 4):
        camera.publish(image_message(street(0.0), 'rgb8', STAMP))
        harness.spin_until(lambda c=count: harness.totals(node).get('received', 0) == c)
    totals = node.cameras[0].statistics.totals
    threading.Timer(0.2, proceed.set).start()
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert totals['processed'] + totals['dropped'] == totals['received'] == 3


def test_error_in_a_transition_is_logged_and_leaves_no_topics(
    harness: Harness, checkpoint: Any, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    node = harness.node(start=False, checkpoint=str(checkpoint), cameras=['front', 'rear'])

    def topics() -> int:
        return len(list(node.publishers)) + len(list(node.subscriptions))

    def forbid(method: str, forbidden: str) -> None:
        create = getattr(node, method)

        def maybe(kind: Any, topic: str, *rest: Any, **options: Any) -> Any:
            # Like Fast DDS under SROS 2.
            if topic.endswith(forbidden):
                raise RuntimeError(f'{topic} not found in allow rule')
            return create(kind, topic, *rest, **options)

        monkeypatch.setattr(node, method, maybe)

    before = topics()
    forbid('create_lifecycle_publisher', 'rear/overlay')
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert 'rear/overlay not found in allow rule' in capfd.readouterr().err
    assert topics() == before
    monkeypatch.undo()
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    before = topics()
    forbid('create_subscription', 'rear/image')
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert 'rear/image not found in allow rule' in capfd.readouterr().err
    assert topics() == before
    monkeypatch.undo()
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', b'\x80\x04.'])
@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_unreadable_checkpoint_fails_at_configure(
    harness: Harness,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    content: bytes,
    suffix: str,
) -> None:
    path = tmp_path / f'wrong{suffix}'
    path.write_bytes(content)
    node = harness.node(start=False, checkpoint=str(path))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    log = capfd.readouterr().err
    assert log.count('not configured:') == 1
    assert str(path) in log


def test_network_is_warmed_up_before_activation(harness: Harness, checkpoint: Any) -> None:
    node = harness.node(start=False, checkpoint=str(checkpoint), cameras=['front', 'rear'])
    sizes: list[int] = []
    segment = Segmenter.segment

    def spy(self: Segmenter, frames: Any, **wanted: bool) -> Any:
        sizes.append(len(frames))
        return segment(self, frames, **wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segmenter, 'segment', spy)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert set(sizes) == {1, 2}, 'every batch that the cameras can make'


def test_two_nodes_share_a_process_and_an_executor(harness: Harness, checkpoint: Any) -> None:
    received = {}
    for name in ('front', 'rear'):
        node = SegmentationNode(
            f'{name}_segmentation',
            namespace=name,
            parameter_overrides=[
                Parameter('checkpoint', value=str(checkpoint)), Parameter('device', value='cpu')
            ],
        )
        harness.nodes.append(harness.add(node))
        assert node.start()
        received[name] = harness.collect(Image, f'/{name}/{name}_segmentation/labels')
    for index, name in enumerate(received):
        camera = harness.publisher(Image, f'/{name}/image')
        harness.connect(camera)
        message = image_message(street(float(index)), 'rgb8', STAMP + index)
        publish_until(harness, camera, message, received[name])
    assert [m[0].header.stamp.nanosec - STAMP % 10**9 for m in received.values()] == [0, 1]


def test_node_that_gives_up_does_not_end_its_process(
    harness: Harness, checkpoint: Any
) -> None:
    node = harness.node(start=False, checkpoint=str(checkpoint))

    def fail(*_: Any) -> None:
        raise RuntimeError('lost')

    assert node.start()
    node._segmenter.run = fail
    harness.collect(Image, f'{NODE}/labels')
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(node, {'labels'})
    camera.publish(image_message(street(0.0), 'rgb8', STAMP))
    harness.spin_until(node.exit_code.done)
    assert node.exit_code.result() == 3
    assert list(node.cameras) == []
