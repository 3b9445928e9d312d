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

"""The layouts for rviz and Foxglove are consistent, and their topics are the node's."""

import json
from pathlib import Path
import re
from typing import Any

import yaml

CONFIG = Path(__file__).parents[1] / 'config'
NODE_TOPICS = {'labels', 'confidence', 'overlay', 'color', 'label_info', 'camera_info'}


def panels(layout: Any) -> list[str]:
    """List the panels of a Foxglove layout, a tree of splits."""
    if isinstance(layout, str):
        return [layout]
    assert layout['direction'] in ('row', 'column')
    return panels(layout['first']) + panels(layout['second'])


def check_topics(text: str) -> None:
    found = re.findall(r'/segmentation_node/(\w+)', text)
    assert {'overlay'} <= set(found) <= NODE_TOPICS
    assert re.search(r'[" ]/image\b', text)


def test_the_foxglove_layout_shows_input_overlay_labels_and_diagnostics() -> None:
    text = (CONFIG / 'foxglove_layout.json').read_text(encoding='utf-8')
    content = json.loads(text)
    assert sorted(panels(content['layout'])) == sorted(content['configById'])
    check_topics(text)
    assert '/diagnostics' in text
    assert '/segmentation_node/labels' in text


def test_the_rviz_configuration_shows_input_overlay_and_labels() -> None:
    text = (CONFIG / 'segment.rviz').read_text(encoding='utf-8')
    displays = yaml.safe_load(text)['Visualization Manager']['Displays']
    assert {'Input', 'Overlay', 'Labels'} <= {display['Name'] for display in displays}
    check_topics(text)
