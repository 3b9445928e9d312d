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
Generate the files that list the node's parameters.

    python -m lednet_ros.ros.parameter_files

rewrites `config/segment.yaml` and the table of `docs/node.md` in the repository
(`make parameters`); a test checks that both are current.
"""

from collections.abc import Sequence
from pathlib import Path
import sys
import textwrap
from typing import Any

from lednet_ros.files import atomic_path
from lednet_ros.ros.parameters import NodeParameter, PARAMETERS
import yaml

YAML_FILE = Path('config', 'segment.yaml')
DOCUMENT = Path('docs', 'node.md')
START, END = '<!-- parameters -->\n', '<!-- end -->\n'
HEADER = """\
# Parameters of segmentation_node, with their defaults; written by `make parameters`.
#
# ros2 launch lednet_ros segment.launch.py params_file:=my.yaml
#
# '/**' applies to the node under any name and namespace. Parameters left out keep their defaults.
/**:
  ros__parameters:
"""
FOOTER = """
    # Quality of service of each topic, by its resolved name. For example, to queue frames of a
    # reliable camera:
    # qos_overrides:
    #   /image:
    #     subscription:
    #       reliability: reliable
    #       depth: 10
"""
TABLE_HEADER = """\
| name | type | default | allowed | run time | description |
|---|---|---|---|---|---|
"""
LINE_LENGTH = 99


def format_yaml(parameters: Sequence[NodeParameter] = PARAMETERS) -> str:
    """Return the parameter file: all defaults, each below a comment that describes it."""
    return HEADER + '\n'.join(map(_format_entry, parameters)) + FOOTER


def _format_entry(parameter: NodeParameter) -> str:
    sentences = [parameter.description]
    if parameter.allowed:
        sentences.append(f'Allowed: {parameter.allowed}.')
    if parameter.run_time:
        sentences.append('Can change at run time.')
    comment = textwrap.fill(
        ' '.join(sentences), LINE_LENGTH, initial_indent='    # ', subsequent_indent='    # '
    )
    # An empty list has no type in a parameter file.
    prefix = '# ' if parameter.default == [] else ''
    return f'{comment}\n    {prefix}{parameter.name}: {_format_value(parameter.default)}\n'


def _format_value(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    text: str = yaml.safe_dump(value, default_flow_style=True)
    return text.removesuffix('...\n').strip()


def format_table(parameters: Sequence[NodeParameter] = PARAMETERS) -> str:
    """Return the Markdown table of all parameters."""
    rows = [
        f'| `{parameter.name}` | {parameter.type.name.lower()} | `{parameter.default!r}` '
        f"| {parameter.allowed} | {'yes' if parameter.run_time else 'no'} "
        f'| {parameter.description} |\n'
        for parameter in parameters
    ]
    return TABLE_HEADER + ''.join(rows)


def replace_table(document: str) -> str:
    """Return the document with a new table between its two markers; raise ValueError without."""
    before, start, rest = document.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f'{DOCUMENT} lacks {START.strip()!r} or {END.strip()!r}')
    return before + start + format_table() + end + after


def main() -> int:
    """Write both files."""
    document = DOCUMENT.read_text(encoding='utf-8')
    for path, text in ((YAML_FILE, format_yaml()), (DOCUMENT, replace_table(document))):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
