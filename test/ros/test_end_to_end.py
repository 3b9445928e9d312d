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

"""Recorded and synthetic frames through the live node: the same metrics as offline."""

from collections.abc import Sequence
from pathlib import Path

from lednet_ros.datasets import FolderDataset, LabeledFrame
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.live.client import image_message, pixels_of, stamp_of
from lednet_ros.ros.synthetic_camera import SyntheticCamera
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from ros_harness import Harness
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
from sensor_msgs.msg import Image

pytestmark = pytest.mark.ros

LABELS = '/segmentation_node/labels'
MINIMUM_STREET_MIOU = {
    'lednet': 0.6, 'shufflenet_v2_deeplab': 0.5, 'shufflenet_v2_dpc': 0.5,
}


def write_bag(path: Path, frames: Sequence[LabeledFrame]) -> None:
    """Write frames and ground truth to a rosbag2."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {
            name: writer.add_connection(name, 'sensor_msgs/msg/Image', typestore=typestore)
            for name in ('/image', '/ground_truth')
        }
        for index, frame in enumerate(frames):
            stamp = 1_600_000_000_000_000_000 + index * 66_666_667
            image = image_message(frame.pixels, 'rgb8', stamp)
            truth = image_message(frame.labels, 'mono8', stamp)
            writer.write(topics['/image'], stamp, serialize_message(image))
            writer.write(topics['/ground_truth'], stamp, serialize_message(truth))


def play_in_step(harness: Harness, bag: Path, confusion: ConfusionMatrix) -> int:
    """Play a bag's serialized messages, each frame when the previous one is done."""
    labels = harness.collect(Image, LABELS)
    camera = harness.publisher(Image, 'image')
    harness.connect(camera)
    harness.wait_outputs(harness.nodes[0], {'labels'})
    typestore = get_typestore(Stores.ROS2_JAZZY)
    truths = {}
    count = 0
    with Reader(bag) as reader:
        for connection, stamp, data in reader.messages():
            if connection.topic == '/ground_truth':
                truth = typestore.deserialize_cdr(data, connection.msgtype)
                truths[stamp] = truth.data.reshape(truth.height, truth.width)
                continue
            camera.publish(data)
            count += 1
            harness.spin_until(lambda n=count: len(labels) == n)
    for message in labels:
        confusion.update(truths[stamp_of(message)], pixels_of(message))
    return count


def check_bag_against_offline(
    harness: Harness, frames: Sequence[LabeledFrame], folder: Path
) -> None:
    """Compare the confusion matrices of the live node and of offline evaluation."""
    bag = folder / 'bag'
    write_bag(bag, frames)
    harness.node(checkpoint='lednet')
    online = ConfusionMatrix(LabelMap.load('camvid'))
    assert play_in_step(harness, bag, online) == len(frames)
    offline = ConfusionMatrix(LabelMap.load('camvid'))
    segmenter = Segmenter.from_checkpoint('lednet', device='cpu')
    for frame in frames:
        result = segmenter.segment([Frame(frame.pixels, 'rgb')], confidence=False, overlay=False)
        offline.update(frame.labels, result.labels[0])
    assert online.counts.sum() > 0
    assert np.array_equal(online.counts, offline.counts)


def test_bag_through_the_node_has_the_offline_confusion_matrix(
    harness: Harness, tmp_path: Path
) -> None:
    scene = StreetScene(320, 240, seed=5)
    frames = [LabeledFrame(str(i), *scene.render(i / 2)) for i in range(6)]
    check_bag_against_offline(harness, frames, tmp_path)


def test_camvid_through_the_node_has_the_offline_confusion_matrix(
    harness: Harness, tmp_path: Path, camvid: Path
) -> None:
    dataset = FolderDataset(camvid, 'val', LabelMap.load('camvid'))
    check_bag_against_offline(harness, [dataset[index] for index in range(0, 101, 20)], tmp_path)


@pytest.mark.parametrize(
    'checkpoint',
    [
        pytest.param(name, marks=() if name == 'lednet' else pytest.mark.slow)
        for name in MINIMUM_STREET_MIOU
    ],
)
def test_the_shipped_weights_segment_the_synthetic_street_through_dds(
    harness: Harness, checkpoint: str
) -> None:
    node = harness.node(checkpoint=checkpoint)
    labels = harness.collect(Image, LABELS)
    truths = harness.collect(Image, 'ground_truth')
    # The street of the demo; training drew its streets from all seeds below 2**31.
    # It is never spun, so its timer doesn't fire; each frame waits for the previous one.
    camera = SyntheticCamera(parameter_overrides=[Parameter('rate', value=2.0)])
    harness.connect(camera._image_publisher, camera._truth_publisher)
    harness.wait_outputs(node, {'labels'})
    confusion = ConfusionMatrix(LabelMap.load('camvid'))
    for count in range(1, 21):
        camera._publish_frame()
        harness.spin_until(lambda n=count: len(labels) == len(truths) == n)
        assert labels[-1].header == truths[-1].header
        confusion.update(pixels_of(truths[-1]), pixels_of(labels[-1]))
    camera.destroy_node()
    assert confusion.miou() >= MINIMUM_STREET_MIOU[checkpoint]
