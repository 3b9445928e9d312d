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

"""The synthetic camera publishes exactly the rendered street."""

from lednet_ros.ros.synthetic_camera import SyntheticCamera
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest
import rclpy
from rclpy.parameter import Parameter
from ros_harness import Harness
from sensor_msgs.msg import CameraInfo, Image

pytestmark = pytest.mark.ros


@pytest.mark.parametrize('encoding', ['bgr8', 'rgb8'])
def test_frames_truth_and_camera_info_belong_together(harness: Harness, encoding: str) -> None:
    images = harness.collect(Image, 'image')
    truths = harness.collect(Image, 'ground_truth')
    infos = harness.collect(CameraInfo, 'camera_info')
    rate, seed = 20.0, 4
    camera = SyntheticCamera(
        parameter_overrides=[
            Parameter('width', value=96),
            Parameter('height', value=64),
            Parameter('seed', value=seed),
            Parameter('rate', value=rate),
            Parameter('encoding', value=encoding),
        ]
    )
    harness.add(camera)
    harness.spin_until(lambda: len(images) >= 3 and len(truths) >= 3 and len(infos) >= 3)
    camera.destroy_node()
    scene = StreetScene(96, 64, seed=seed)
    truth_by_stamp = {str(message.header): message for message in truths}
    first = images[0]
    # Discovery may take the first frames: find the first one that arrived.
    rendered = [scene.render(index / rate) for index in range(60)]
    pixels = np.frombuffer(first.data, np.uint8).reshape(64, 96, 3)
    shown = pixels if encoding == 'rgb8' else pixels[..., ::-1]
    index = next(i for i, (frame, _) in enumerate(rendered) if np.array_equal(frame, shown))
    truth = truth_by_stamp[str(first.header)]
    assert truth.encoding == 'mono8'
    labels = np.frombuffer(truth.data, np.uint8).reshape(64, 96)
    assert np.array_equal(labels, rendered[index][1])
    assert infos[0].k[0] == scene.camera_matrix[0, 0]
    assert (infos[0].width, infos[0].height) == (96, 64)


@pytest.mark.parametrize(
    ('name', 'value'), [('encoding', 'yuv'), ('rate', 0.0), ('width', 8)]
)
def test_bad_parameters_are_named(name: str, value: object) -> None:
    rclpy.init(args=[])
    try:
        with pytest.raises(ValueError, match=str(value)):
            SyntheticCamera(parameter_overrides=[Parameter(name, value=value)])
    finally:
        rclpy.try_shutdown()
