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

"""All faults, one after the other, and a soak."""

from collections.abc import Collection
import contextlib
from dataclasses import asdict
import datetime
from typing import Any

from lednet_ros.benchmark.measure import describe_machine
from lednet_ros.live.benchmarks import run_soak
from lednet_ros.live.client import live_session
from lednet_ros.live.faults import Fault, FAULTS, inject_fault
from lednet_ros.live.probe import Probe
from tqdm import tqdm

SOAK_INPUT, SOAK_FRAME = (512, 1024), (1024, 2048)
SOAK_RATE = 30.0


def select_faults(names: Collection[str]) -> list[Fault]:
    """
    Return the faults of these names, all of them for none.

    Raises
    ------
    ValueError
        There is no fault of a name.

    """
    known = {fault.name: fault for fault in FAULTS}
    for name in names:
        if name not in known:
            raise ValueError(f"no fault '{name}'; there are: {', '.join(known)}")
    return [known[name] for name in names or known]


def run_torture(
    names: Collection[str] = (), quick: bool = False, soak_minutes: float = 2.0
) -> dict[str, Any]:
    """
    Inject the faults into live nodes, then let a node run for a while.

    Parameters
    ----------
    names
        Faults; none means all.
    quick
        As few times as the tests do it.
    soak_minutes
        How long; 0 leaves the soak out.

    Returns
    -------
    dict
        `rows`, one for each fault (`lednet_ros.live.faults.Outcome`); `not_measured`, by
        fault the reason; `soak`, see `lednet_ros.live.benchmarks.run_soak`.

    """
    rows = []
    impossible = {}
    with live_session('torture') as session:
        bar = tqdm(select_faults(names), unit='fault')
        for number, fault in enumerate(bar):
            bar.set_description(fault.name)
            if not fault.possible:
                impossible[fault.name] = f"'{fault.setup.wrapper[0]}' is not allowed here"
                continue
            times = fault.quick if quick else fault.times
            with contextlib.closing(Probe(*session, f'/torture_{number}', fault.setup)) as probe:
                rows.append(asdict(inject_fault(fault, times, probe)))
    results: dict[str, Any] = {
        'benchmark': 'torture',
        'date': datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        'machine': describe_machine(),
        'rows': rows,
        'not_measured': impossible,
    }
    if soak_minutes:
        results['soak'] = run_soak('lednet', SOAK_INPUT, SOAK_FRAME, 0, soak_minutes, SOAK_RATE)
    return results
