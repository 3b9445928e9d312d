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

"""Every fault, on a live node that is a process of its own, over real DDS."""

from collections.abc import Iterator
from typing import Any

from lednet_ros.benchmark.live import benchmark_session
from lednet_ros.reliability.faults import Fault, FAULTS, inject_fault
from lednet_ros.reliability.probe import check, NotSurvived, Probe
import pytest

pytestmark = pytest.mark.ros

# Connecting a subscriber takes time from a node on two busy cores: the next frame may replace one.
SOME_LOST = {'stuck subscriber', 'subscribers come and go'}


@pytest.fixture(scope='module')
def session() -> Iterator[Any]:
    """Give a node and its executor."""
    with benchmark_session() as made:
        yield made


@pytest.mark.parametrize('fault', FAULTS, ids=lambda fault: fault.inject.__name__)
def test_the_node_survives(fault: Fault, session: Any) -> None:
    if not fault.possible:
        pytest.skip(f"'{fault.setup.wrapper[0]}' is not allowed here")
    outcome = inject_fault(fault, fault.quick, *session, f'/{fault.inject.__name__}')
    assert outcome.survived, outcome.note
    assert outcome.injected == fault.quick
    assert outcome.recovery_s >= 0
    if fault.name not in SOME_LOST:
        assert outcome.frames_lost == 0


def test_what_is_not_survived_is_said(session: Any) -> None:
    def kill_it(probe: Probe, times: int) -> str:
        probe.target.process.kill()
        probe.wait_end(10)
        return 'killed'

    outcome = inject_fault(Fault(kill_it, 1, 1), 1, *session, '/killed')
    assert (outcome.survived, outcome.fault) == (False, 'kill it')
    assert outcome.note == 'the node has ended with exit code -9'


def test_frames_that_get_lost_are_counted(session: Any) -> None:
    def lose_some(probe: Probe, times: int) -> None:
        for _ in range(times):
            message = probe.make()
            message.encoding = 'nonsense'
            probe.publish(message)

    outcome = inject_fault(Fault(lose_some, 3, 3), 3, *session, '/lossy')
    assert (outcome.survived, outcome.frames_lost) == (True, 3)


def test_a_check_says_what_was_seen() -> None:
    check(True, 'nothing')
    with pytest.raises(NotSurvived, match='exit code 7'):
        check(False, 'exit code 7')
