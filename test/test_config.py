# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Layouts of other programs fit the node's topics and themselves."""

import json
from pathlib import Path
import re
from typing import Any

import yaml

CONFIG = Path(__file__).parents[1] / 'config'
NODE_TOPICS = {'labels', 'confidence', 'overlay', 'color', 'label_info', 'camera_info'}


def panels(layout: Any) -> list[str]:
    """List the panels of a Foxglove layout, which is a tree of splits."""
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
