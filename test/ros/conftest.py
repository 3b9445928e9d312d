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

"""Fixtures for tests of live nodes."""

from collections.abc import Iterator
import contextlib
import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec('rclpy') is None:
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
    """Make a harness in a fresh context."""
    from lednet_ros.live.client import live_session
    from ros_harness import Harness

    with live_session('test_client') as session, contextlib.closing(Harness(*session)) as made:
        yield made
