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
Tests of the bond, with a client that does what Nav2's lifecycle manager does.

Neither `bond` nor `nav2_lifecycle_manager` has a wheel: a String stands in for the message, and
the manager's steps are repeated here.
"""

import json
from typing import Any

from lednet_ros.ros import bond as bond_module
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
from ros_harness import Harness
from std_msgs.msg import Header, String

pytestmark = pytest.mark.ros

NODE = '/segmentation_node'
FIELDS = 'id', 'instance_id', 'active', 'heartbeat_timeout', 'heartbeat_period'


class FakeStatus(String):
    """Stands in for `bond.msg.Status`: the text is its fields."""

    def __init__(self) -> None:
        super().__init__()
        self.header = Header()

    @property
    def data(self) -> str:
        return json.dumps({name: value for name, value in vars(self).items() if name in FIELDS})

    @data.setter
    def data(self, value: str) -> None:
        pass


def test_a_lifecycle_manager_finds_the_bond_it_expects(
    harness: Harness, checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bond_module, 'Status', FakeStatus)
    harness.node(start=False, checkpoint=str(checkpoint), autostart=False)
    change = harness.ros_node.create_client(ChangeState, f'{NODE}/change_state')
    beats = {topic: harness.collect(String, topic) for topic in ('/bond', f'/bond{NODE}')}

    def manage(transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert harness.spin_until(change.call_async(request).result).success

    def newest(topic: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(beats[topic][-1].data)
        return found

    harness.spin_until(change.service_is_ready)
    manage(Transition.TRANSITION_CONFIGURE)
    assert not any(beats.values())
    for _ in range(2):
        for messages in beats.values():
            messages.clear()
        manage(Transition.TRANSITION_ACTIVATE)
        harness.spin_until(lambda: all(len(b) > 2 for b in beats.values()))
        formed = [newest(topic) for topic in beats]
        assert all(status['id'] == NODE[1:] and status['active'] for status in formed)
        assert all(status['heartbeat_period'] == 0.1 for status in formed)
        assert formed[0]['instance_id'] == formed[1]['instance_id']
        manage(Transition.TRANSITION_DEACTIVATE)
        harness.spin_until(lambda: not any(newest(topic)['active'] for topic in beats))


@pytest.mark.parametrize(
    ('parameters', 'installed'),
    [
        ({'autostart': True}, True),
        ({'autostart': False, 'bond_heartbeat_period': 0.0}, True),
        ({'autostart': False}, False),
    ],
)
def test_there_is_no_bond_where_nobody_expects_one(
    harness: Harness, checkpoint: Any, monkeypatch: pytest.MonkeyPatch,
    parameters: dict[str, Any], installed: bool,
) -> None:
    monkeypatch.setattr(bond_module, 'Status', FakeStatus if installed else None)
    node = harness.node(checkpoint=str(checkpoint), **parameters)
    assert '/bond' not in dict(node.get_topic_names_and_types())
