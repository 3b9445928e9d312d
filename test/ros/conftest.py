# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sets up ROS for the tests of this folder before anything imports rclpy."""

from collections.abc import Iterator
import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

# A domain for this test process, no discovery beyond this machine, and the profile that large
# images need.
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(
    Path(__file__).parents[2] / 'config' / 'fastdds.xml'
)

try:
    import rclpy
except ImportError:
    collect_ignore_glob = ['test_*.py']


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the shipped network with a small input size, for speed."""
    from lednet_ros.checkpoint import load_checkpoint, save_checkpoint

    path = tmp_path_factory.mktemp('weights') / 'small.safetensors'
    save_checkpoint(dataclasses.replace(load_checkpoint('lednet'), input_size=(96, 128)), path)
    return path


@pytest.fixture
def harness() -> Iterator[Any]:
    """Give a harness in a fresh context."""
    from ros_harness import Harness

    rclpy.init(args=[])
    harness = Harness()
    yield harness
    harness.close()
    rclpy.try_shutdown()
