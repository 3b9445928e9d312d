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

"""Imports run one way only, and ROS stays where it belongs: the contracts of pyproject.toml."""

import os
from pathlib import Path
import shutil
import subprocess
import sys

import grimp
import lednet_ros
import pytest

PACKAGE = Path(lednet_ros.__file__).parent
CONFIG = PACKAGE.parent / 'pyproject.toml'
ROS_ENDINGS = ('_interfaces', '_msgs', '_srvs')

# Lines that must not be added to a file, and what the linter says then.
PLANTED = {
    'models/lednet.py': ('import rclpy', 'lednet_ros.models.lednet -> rclpy'),
    'inference/preprocess.py': (
        'def f():\n    from sensor_msgs.msg import Image',
        'lednet_ros.inference.preprocess -> sensor_msgs',
    ),
    'labels.py': (
        'from lednet_ros import checkpoint', 'lednet_ros.labels -> lednet_ros.checkpoint',
    ),
    'models/network.py': (
        'from lednet_ros import datasets', 'lednet_ros.models.network -> lednet_ros.datasets',
    ),
    'evaluation/metrics.py': (
        'from ..training import losses',
        'lednet_ros.evaluation.metrics -> lednet_ros.training.losses',
    ),
    'ros/slots.py': (
        'if TYPE_CHECKING:\n    from lednet_ros.recordings import bags',
        'lednet_ros.ros.slots -> lednet_ros.recordings.bags',
    ),
    'cli/info.py': ('from std_srvs.srv import SetBool', 'lednet_ros.cli.info -> std_srvs'),
    # Through a package that has no place yet.
    'recordings/sources.py': (
        'from lednet_ros.fresh import node',
        'lednet_ros.recordings.sources -> lednet_ros.fresh.node',
    ),
    'fresh/node.py': ('import rclpy', 'lednet_ros.fresh.node -> rclpy'),
    'fresh/__init__.py': ('', 'lednet_ros.fresh'),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the package in a folder."""
    return subprocess.run(
        [
            sys.executable, '-c', 'from importlinter.cli import *; lint_imports_command()',
            '--no-cache', '--config', str(CONFIG),
        ],
        cwd=folder, env=os.environ | {'PYTHONPATH': str(folder), 'COLUMNS': '200'},
        capture_output=True, text=True, timeout=120, check=False,
    )


def test_the_contracts_are_kept() -> None:
    done = lint(PACKAGE.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_forbidden_imports_are_found(tmp_path: Path) -> None:
    shutil.copytree(
        PACKAGE, tmp_path / 'lednet_ros', ignore=shutil.ignore_patterns('weights', '__pycache__')
    )
    for name, (line, _) in PLANTED.items():
        path = tmp_path / 'lednet_ros' / name
        path.parent.mkdir(exist_ok=True)
        with path.open('a') as file:
            file.write(f'\n{line}\n')
    done = lint(tmp_path)
    assert done.returncode == 1
    for _, expected in PLANTED.values():
        assert expected in done.stdout


def test_every_ros_package_is_in_the_contracts() -> None:
    graph = grimp.build_graph('lednet_ros', include_external_packages=True, cache_dir=None)
    known = CONFIG.read_text(encoding='utf-8')
    for name in graph.modules:
        assert not name.endswith(ROS_ENDINGS) or f"'{name}'" in known


def test_a_node_loads_nothing_that_it_does_not_use() -> None:
    pytest.importorskip('rclpy')
    code = (
        'import pkgutil, sys\n'
        'import lednet_ros.inference as package, lednet_ros.ros.segmentation_node\n'
        'for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):\n'
        '    try:\n'
        '        __import__(found.name)\n'
        '    except ImportError as error:\n'
        '        assert not str(error.name).startswith("lednet_ros"), error\n'
        'print(*sorted({name.split(".")[1] for name in sys.modules'
        ' if name.startswith("lednet_ros.")}))\n'
        'print({"jinja2", "matplotlib", "pydantic", "rosbags"} & set(sys.modules))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == [
        'checkpoint files inference labels limits machine models ros', 'set()'
    ]
