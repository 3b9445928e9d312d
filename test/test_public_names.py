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

"""Public names of `lednet_ros`, and lazy imports."""

import ast
import importlib
from pathlib import Path
import subprocess
import sys

import lednet_ros
import pytest

NAMES = [
    'Checkpoint', 'Frame', 'LabelMap', 'Segmentation', 'Segmenter', 'SegmenterOptions',
    'build_network', 'load_checkpoint',
]
# Statements, and the own modules that they may load at most besides the package.
LIGHT = {
    'import lednet_ros': '()',
    'import lednet_ros; dir(lednet_ros)': '()',
    'from lednet_ros.cli.main import build_parser; build_parser().format_help()': (
        "('cli', 'inference', 'limits', 'machine')"
    ),
}


@pytest.mark.parametrize('name', NAMES)
def test_public_name_is_that_of_its_module(name: str) -> None:
    module = importlib.import_module(f'lednet_ros.{lednet_ros._MODULES[name]}')
    assert getattr(lednet_ros, name) is getattr(module, name)
    assert name in dir(lednet_ros)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(lednet_ros.__file__).read_text(encoding='utf-8'))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: str(statement.module).removeprefix('lednet_ros.')
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == lednet_ros._MODULES
    assert sorted(seen) == sorted(lednet_ros.__all__) == sorted(NAMES)


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'lednet_ros' has no attribute 'Segmentor'"):
        lednet_ros.Segmentor  # noqa: B018


@pytest.mark.parametrize('statement', LIGHT)
def test_nothing_is_imported_before_its_first_use(statement: str) -> None:
    code = (
        'import sys\n'
        'before = set(sys.modules)\n'
        f'{statement}\n'
        'loaded = set(sys.modules) - before\n'
        'foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names\n'
        "own = {name.split('.')[1] for name in loaded if name.startswith('lednet_ros.')}\n"
        f'print(sorted(foreign), sorted(own - set({LIGHT[statement]})))\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == "['lednet_ros'] []\n"
