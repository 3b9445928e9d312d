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

"""Cars, cyclists and people on foot that move along the street."""

from functools import lru_cache
import math
from typing import NamedTuple

from lednet_ros.synthetic.basics import keyed_rng, Rng
from lednet_ros.synthetic.layout import LANE, Plan, Thing


class Mover(NamedTuple):
    """
    A road user that comes back with new looks each time it has left the span.

    Attributes
    ----------
    kind, across
        As those of a `Thing`.
    speed
        Speed along the street in m/s.
    phase
        Meters ahead of the rear end of the span at time 0.
    span
        Length in meters of the stretch around the camera that it is kept in.

    """

    kind: str
    across: float
    speed: float
    phase: float
    span: float


class Traffic:
    """
    All that moves in the street.

    Parameters
    ----------
    rng
        Source of the road users.
    plan
        The plan of the street.
    seed
        The seed of the street.
    speed
        Speed of the camera in m/s.

    """

    def __init__(self, rng: Rng, plan: Plan, seed: int, speed: float) -> None:
        self._plan, self._seed, self._speed = plan, seed, speed
        self._movers = _make_movers(rng, plan)

    def visible(self, time: float) -> list[Thing]:
        """Return the road users around the camera at `time`, first the car ahead of it."""
        here = self._speed * time
        wave = 5 * math.sin(0.23 * time + self._plan.phases[0])
        lead = Thing('ahead', here + 22 + 20 * (1 - self._plan.density) + wave,
                     self._plan.drive_side * LANE * 0.5, 1.5, self._seed * 7919 & 0xFFFF)
        things = [lead]
        for number, mover in enumerate(self._movers):
            travelled = mover.phase + (mover.speed - self._speed) * time
            cycle, ahead = divmod(travelled, mover.span)
            variant, height = _mover_looks(self._seed, number, int(cycle))
            across = mover.across
            if mover.kind == 'crossing':
                across = (self._plan.half + 3) * math.sin(0.15 * time + mover.phase)
            things.append(Thing(mover.kind, here + ahead - 5, across, height, variant))
        return things


@lru_cache(maxsize=4096)
def _mover_looks(seed: int, number: int, cycle: int) -> tuple[int, float]:
    """Return the variant and the height of a mover on its `cycle`-th pass."""
    rng = keyed_rng(seed, 2, number, cycle)
    return int(rng.integers(1 << 16)), float(rng.uniform(1.5, 1.9))


def _make_movers(rng: Rng, plan: Plan) -> list[Mover]:
    own, movers = plan.drive_side, []
    oncoming, count = float(rng.uniform(6, 11)), int(rng.integers(2, 6))
    for lane in range(plan.lanes):
        across = -own * LANE * (lane + 0.5)
        for i in range(count):
            phase = 160 * (i + float(rng.uniform(0, 0.6))) / count
            movers.append(Mover('oncoming', across, -oncoming, phase, 160.0))
    if plan.lanes == 2:
        movers += [Mover('ahead', own * LANE * 1.5, 6.0, 45.0 * i, 150.0) for i in range(3)]
    gutter = plan.half - plan.parking - 0.6
    for side, speed in ((own, 5.0), (-own, -4.5)):
        movers.append(Mover('cyclist', side * gutter, speed, float(rng.uniform(5, 40)), 75.0))
    for _ in range(round(16 + 20 * plan.density)):
        side, speed = rng.choice((-1, 1)), rng.choice((-1, 1)) * rng.uniform(0.8, 1.6)
        across = side * (plan.half + rng.uniform(0.4, plan.pavement - 0.4))
        phase = float(rng.uniform(0, 110))
        movers.append(Mover('walker', float(across), float(speed), phase, 110.0))
    movers.append(Mover('crossing', 0.0, 0.0, float(rng.uniform(0, 120)), 120.0))
    return movers
