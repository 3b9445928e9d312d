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

"""The SROS 2 policy allows exactly the topics and services of the live node."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lednet_ros.ros import camera
import pytest
from rclpy.parameter import Parameter
from ros_harness import Harness

pytestmark = pytest.mark.ros

POLICY = Path(__file__).parents[2] / 'config' / 'sros2_policy.xml'
NODE = '/segmentation_node'
# Only with vision_msgs; only with use_sim_time.
OPTIONAL = {('publish', f'{NODE}/label_info'), ('subscribe', '/clock')}


def allowed() -> set[tuple[str, str]]:
    """Return the actions that the policy allows, with full names."""
    found = set()
    for group in ElementTree.parse(POLICY).getroot().iter():
        for action in ('subscribe', 'publish', 'reply'):
            if group.get(action) == 'ALLOW':
                for entry in group:
                    assert entry.text
                    name = entry.text.replace('~', NODE)
                    found.add((action, name if name.startswith('/') else f'/{name}'))
    return found


@pytest.mark.parametrize('simulated', [False, True])
def test_the_policy_fits_the_node(harness: Harness, checkpoint: Any, simulated: bool) -> None:
    node = harness.node(checkpoint=str(checkpoint))
    node.set_parameters([Parameter('use_sim_time', value=simulated)])

    def graph() -> set[tuple[str, str]]:
        name = ('segmentation_node', '/')
        topics = {
            'subscribe': node.get_subscriber_names_and_types_by_node(*name),
            'publish': node.get_publisher_names_and_types_by_node(*name),
            'reply': node.get_service_names_and_types_by_node(*name),
        }
        return {(action, topic) for action, found in topics.items() for topic, _ in found}

    optional = OPTIONAL
    if camera.LabelInfo is not None:
        optional = optional - {('publish', f'{NODE}/label_info')}
    if simulated:
        optional = optional - {('subscribe', '/clock')}
    harness.spin_until(lambda: graph() == allowed() - optional)


def test_policy_grants_nothing_on_other_nodes() -> None:
    text = POLICY.read_text()
    assert 'request=' not in text
    assert '*' not in text
