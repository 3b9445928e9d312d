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

"""Imports run one way only, and ROS stays where it belongs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import lednet_ros
import pytest

PACKAGE = Path(lednet_ros.__file__).parent

# Each part and the parts that it may import besides itself.
BASE = {'labels', 'files', 'machine', 'synthetic', 'datasets', 'checkpoint'}
NODE_BASE = BASE - {'datasets'}
ALLOWED = {
    'files': set(),
    'machine': set(),
    'labels': {'files'},
    'synthetic': {'labels'},
    'datasets': {'files', 'labels', 'synthetic'},
    'checkpoint': {'files', 'labels'},
    'models': BASE,
    'inference': BASE | {'models'},
    'recordings': BASE | {'models', 'inference'},
    'evaluation': BASE | {'models', 'inference', 'recordings'},
    'training': BASE | {'models', 'inference', 'evaluation'},
    'ros': NODE_BASE | {'models', 'inference'},
    'view': BASE | {'models', 'inference', 'recordings'},
    'benchmark': BASE | {'models', 'inference', 'evaluation'},
    'live': BASE | {'models', 'inference', 'recordings', 'evaluation', 'benchmark', 'ros'},
    'cli': BASE | {
        'models', 'inference', 'recordings', 'evaluation', 'training', 'benchmark', 'live', 'view',
    },
}
WITH_ROS = {'ros', 'live'}
ROS_PACKAGES = {
    'ament_index_python', 'builtin_interfaces', 'composition_interfaces', 'cv_bridge',
    'diagnostic_updater', 'launch', 'launch_ros', 'lifecycle_msgs', 'message_filters',
    'rcl_interfaces', 'rclpy', 'ros2bag', 'rosbag2_py', 'rosidl_runtime_py', 'tf2_ros',
}
ROS_ENDINGS = ('_msgs', '_srvs', '_interfaces')

PATHS = sorted(str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob('*.py'))
PATHS.remove('__init__.py')


def imported(source: str, package: list[str]) -> Iterator[str]:
    """Give the full names of all modules that a file imports, at any place in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            module = '.'.join([*base, *filter(None, [node.module])])
            # `from lednet_ros import x` imports a part where x is one.
            yield from (f'{module}.{alias.name}' for alias in node.names)


def is_ros(module: str) -> bool:
    name = module.partition('.')[0]
    return name in ROS_PACKAGES or name.endswith(ROS_ENDINGS)


def violations(path: str, source: str) -> list[str]:
    """Name the imports of a file that break the rules; path is relative to the package."""
    parts = Path(path).with_suffix('').parts
    part = parts[0]
    found = []
    for module in imported(source, ['lednet_ros', *parts[:-1]]):
        names = module.split('.')
        needs_ros = is_ros(module) and part not in WITH_ROS
        upwards = names[0] == 'lednet_ros' and names[1] in set(ALLOWED) - ALLOWED[part] - {part}
        if needs_ros or upwards:
            found.append(f'{path} imports {module}')
    return found


def test_every_part_is_in_the_table() -> None:
    assert {Path(path).with_suffix('').parts[0] for path in PATHS} == set(ALLOWED)


@pytest.mark.parametrize('path', PATHS)
def test_imports_run_one_way(path: str) -> None:
    assert not violations(path, (PACKAGE / path).read_text(encoding='utf-8'))


def test_the_package_itself_imports_nothing() -> None:
    source = (PACKAGE / '__init__.py').read_text(encoding='utf-8')
    assert not list(imported(source, ['lednet_ros']))


def test_the_table_has_no_circle() -> None:
    left = {part: set(allowed) for part, allowed in ALLOWED.items()}
    while left:
        free = {part for part, allowed in left.items() if not allowed & set(left) - {part}}
        assert free, f'these import each other: {sorted(left)}'
        left = {part: allowed for part, allowed in left.items() if part not in free}


@pytest.mark.parametrize(
    ('path', 'source'),
    [
        ('models/lednet.py', 'import rclpy'),
        ('inference/segmenter.py', 'from sensor_msgs.msg import Image'),
        ('evaluation/dataset.py', 'def f():\n    import cv_bridge'),
        ('cli/demo.py', 'from std_srvs.srv import SetBool'),
        ('labels.py', 'from lednet_ros.checkpoint import Checkpoint'),
        ('checkpoint.py', 'from lednet_ros.models import build_network'),
        ('models/lednet.py', 'import lednet_ros.inference.segmenter'),
        ('models/lednet.py', 'from lednet_ros import inference'),
        ('inference/segmenter.py', 'from ..evaluation import metrics'),
        ('evaluation/dataset.py', 'from .. import training'),
        ('ros/segmentation_node.py', 'from lednet_ros.evaluation.metrics import ConfusionMatrix'),
        ('ros/segmentation_node.py', 'from lednet_ros.cli import main'),
        ('live/demo.py', 'if TYPE_CHECKING:\n    from lednet_ros.training import loop'),
    ],
)
def test_forbidden_imports_are_found(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ('path', 'source'),
    [
        ('ros/camera.py', 'from sensor_msgs.msg import Image'),
        ('ros/camera.py', 'from . import codec'),
        ('models/lednet.py', 'from lednet_ros import __version__'),
        ('evaluation/dataset.py', 'from lednet_ros.inference import segmenter'),
        ('inference/segmenter.py', '"""It says import rclpy."""'),
    ],
)
def test_allowed_imports_pass(path: str, source: str) -> None:
    assert not violations(path, source)
