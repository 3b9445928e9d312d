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

"""
Strange camera_info, parameter files and arguments for the live node's classes, in this process.

A parameter file or an argument ends in a node, or in one error that names what is wrong.
"""

import math
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lednet_ros.inference.camera_info import scale_camera_info
from lednet_ros.inference.encodings import FrameError
from lednet_ros.ros.parameters import BY_NAME, ParameterError, read_parameters
from lednet_ros.ros.segmentation_node import SegmentationNode
import numpy as np
import pytest
from rclpy.context import Context
from rclpy.exceptions import ParameterException
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from strange_input import attempt, changes, CONFIG, damage, fuzz
import yaml

pytestmark = pytest.mark.ros

size = st.integers(0, 4096) | st.sampled_from([2**31, 2**32 - 1])
numbers = st.floats() | st.just(0.0)


@fuzz
@given(
    st.lists(size, min_size=8, max_size=8),
    st.lists(numbers, min_size=21, max_size=21),
    st.integers(1, 8192),
    st.integers(1, 8192),
)
def test_camera_info(sizes: list[int], values: list[float], width: int, height: int) -> None:
    info = CameraInfo(width=sizes[0], height=sizes[1], binning_x=sizes[2], binning_y=sizes[3])
    info.roi.width, info.roi.height, info.roi.x_offset, info.roi.y_offset = sizes[4:]
    info.k = np.array(values[:9])
    info.p = np.array(values[9:])
    with np.errstate(all='ignore'):
        scaled = attempt(lambda: scale_camera_info(info, width, height, Header()), FrameError)
    if scaled is not None and not any(sizes[2:]):
        assert (scaled.width, scaled.height) == (width, height)


def make_node(*arguments: str) -> None:
    """Make a node as the process does, and read its parameters."""
    context = Context()
    context.init(args=['--ros-args', '--disable-stdout-logs', *arguments])
    node: Any = None
    try:
        node = SegmentationNode(context=context)
        values = read_parameters(node)
        for name, value in values.items():
            BY_NAME[name].check(value)
            assert not isinstance(value, float) or math.isfinite(value)
    finally:
        if node is not None:
            node.destroy_node()
        context.shutdown()


# What the process prints as one line before it ends with exit code 1.
ERRORS = (ParameterError, ParameterException, RuntimeError)
TEXT = (CONFIG / 'segment.yaml').read_bytes()
values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    | st.lists(st.integers(-5, 9000) | st.text(max_size=4) | st.floats(), max_size=3)
)


@fuzz
@given(changes, st.just(1.0) | st.floats(0, 1))
def test_damaged_parameter_files(
    tmp_path_factory: pytest.TempPathFactory, spots: list[tuple[float, bytes]], length: float
) -> None:
    path = tmp_path_factory.getbasetemp() / 'fuzz_parameters.yaml'
    path.write_bytes(damage(TEXT, spots, length))
    attempt(lambda: make_node('--params-file', str(path)), *ERRORS)


@fuzz
@given(st.dictionaries(st.sampled_from(sorted(BY_NAME)) | st.text(max_size=8), values))
def test_parameter_files_with_any_values(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object]
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / 'fuzz_parameters.yaml'
    path.write_text(
        yaml.safe_dump({'/**': {'ros__parameters': content}}, allow_unicode=True),
        encoding='utf-8',
    )
    attempt(lambda: make_node('--params-file', str(path)), *ERRORS)


@fuzz
@given(
    st.sampled_from(sorted(BY_NAME)),
    st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=20),
)
def test_arguments(name: str, value: str) -> None:
    attempt(lambda: make_node('-p', f'{name}:={value}'), *ERRORS)


@fuzz
@given(st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=20))
def test_remapping_arguments(topic: str) -> None:
    attempt(lambda: make_node('-r', f'image:={topic}'), *ERRORS)
