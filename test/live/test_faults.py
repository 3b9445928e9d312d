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

"""Every fault, on a live node in a separate process, over real DDS."""

from collections.abc import Iterator
import contextlib
import signal
from typing import Any

from lednet_ros.live.client import ANSWER_TIMEOUT, live_session, LiveError
from lednet_ros.live.faults import Fault, FAULTS, inject_fault, PLAIN
from lednet_ros.live.probe import check, Probe, Setup
import pytest

pytestmark = pytest.mark.ros

# Connecting a subscriber takes time from a node on two busy cores: the next frame may replace one.
SOME_LOST = {'stuck subscriber', 'subscribers come and go'}

# Measures the node's capacity first.
SLOW = {'overload'}

SETUPS = list({id(fault.setup): fault.setup for fault in FAULTS}.values())


@pytest.fixture(scope='module')
def session() -> Iterator[Any]:
    """Make a node and its executor."""
    with live_session() as made:
        yield made


@pytest.fixture(scope='module')
def probe(session: Any, request: pytest.FixtureRequest) -> Iterator[Probe]:
    """Make the client of a node that all faults of a setup share; check its clean end."""
    setup: Setup = request.param
    namespace = f'/faults_{SETUPS.index(setup)}'
    with contextlib.closing(Probe(*session, namespace, setup)) as made:
        yield made
        if made.is_running:
            made.stop()


def of_setup(setup: Setup, *values: Any, name: str) -> Any:
    """Make parameters of a test that shares the node of a setup with others."""
    marks = [pytest.mark.slow] if name in SLOW else []
    return pytest.param(setup, *values, id=name, marks=marks)


@pytest.mark.parametrize(
    ('probe', 'fault'),
    [of_setup(fault.setup, fault, name=fault.inject.__name__) for fault in FAULTS],
    indirect=['probe'],
    scope='module',
)
def test_node_survives(probe: Probe, fault: Fault) -> None:
    if not fault.possible:
        pytest.skip(f"'{fault.setup.wrapper[0]}' is not allowed here")
    outcome = inject_fault(fault, fault.quick, probe, stop=False)
    assert outcome['survived'], outcome['note']
    assert outcome['injected'] == fault.quick
    assert outcome['recovery_s'] >= 0
    if fault.name not in SOME_LOST:
        assert outcome['frames_lost'] == 0


@pytest.mark.parametrize('probe', [of_setup(PLAIN, name='plain')], indirect=True)
def test_lost_frames_are_counted(probe: Probe) -> None:
    def lose_some(probe: Probe, times: int) -> None:
        for _ in range(times):
            message = probe.make()
            message.encoding = 'nonsense'
            probe.publish(message)

    outcome = inject_fault(Fault(lose_some, 3, 3, PLAIN), 3, probe, stop=False)
    assert (outcome['survived'], outcome['frames_lost']) == (True, 3)


@pytest.mark.parametrize('probe', [of_setup(PLAIN, name='plain')], indirect=True)
def test_failure_is_reported(probe: Probe) -> None:
    def kill_it(probe: Probe, times: int) -> str:
        probe.target.signal(signal.SIGKILL)
        probe.target.wait(ANSWER_TIMEOUT)
        return 'killed'

    outcome = inject_fault(Fault(kill_it, 1, 1, PLAIN), 1, probe, stop=False)
    assert (outcome['survived'], outcome['fault']) == (False, 'kill it')
    assert outcome['note'] == 'the node ended with exit code -9'


def test_failed_check_reports_what_was_seen() -> None:
    check(True, 'nothing')
    with pytest.raises(LiveError, match='exit code 7'):
        check(False, 'exit code 7')
