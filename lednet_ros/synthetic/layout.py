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

"""The plan of a street, the lots along it with everything on them, and its traffic."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
import math
from typing import NamedTuple

from lednet_ros.synthetic.basics import keyed_rng, Points, Rng
import numpy as np
from numpy.typing import NDArray

LANE = 3.1
"""Width of a lane."""
LOT = 12.0
"""Length of a lot."""
LOTS_PER_BLOCK = 5
SIGHT = 150.0
"""Distance up to which lots and things are drawn."""
CARS = ('ahead', 'oncoming', 'parked', 'facing')
"""Kinds of cars; `ahead` and `parked` ones show their rear."""


@dataclass(frozen=True)
class Plan:
    """
    Properties that are constant along a street.

    Attributes
    ----------
    drive_side
        Side of the road on which to drive.
    lanes
        Number of lanes in each direction.
    parking
        Width of the parking strip on each side, or 0.
    half
        Half the width of the road.
    pavement
        Width of each pavement.
    density
        Amount of traffic, 0.35 to 1.
    leafy
        Fraction of trees with leaves.
    blocks
        Kinds of blocks on each side, repeated along the street.
    swerve
        Phases and amplitudes of the two waves that make up the bends.
    phases
        Phases of slow changes of the camera, its exposure and the car ahead.

    """

    drive_side: int
    lanes: int
    parking: float
    half: float
    pavement: float
    density: float
    leafy: float
    blocks: dict[int, NDArray[np.str_]]
    swerve: tuple[Points, Points]
    phases: Points

    @property
    def outer(self) -> float:
        """Distance of the pavements' outer edges from the center line."""
        return self.half + self.pavement

    def bend(self, along: Points) -> Points:
        """Return how far to the right the center line is at each point `along` the street."""
        (phase, phase2), (swing, swing2) = self.swerve
        bend: Points = swing * np.sin(along / 75 + phase) + swing2 * np.sin(along / 31 + phase2)
        return bend


def make_plan(rng: Rng) -> Plan:
    """Choose the plan of a street."""
    drive_side = int(rng.choice((-1, 1), p=(0.7, 0.3)))
    lanes = int(rng.choice((1, 2), p=(0.8, 0.2)))
    parking = float(rng.choice((0.0, 2.2), p=(0.6, 0.4)))
    kinds = ('terrace', 'city', 'suburb', 'park', 'terrace', 'suburb')
    return Plan(
        drive_side=drive_side,
        lanes=lanes,
        parking=parking,
        half=lanes * LANE + parking + float(rng.uniform(0, 0.5)),
        pavement=float(rng.uniform(2.6, 5.4)),
        density=float(rng.uniform(0.35, 1.0)),
        leafy=float(rng.choice((0.15, 0.85))),
        blocks={side: rng.permutation(kinds) for side in (-1, 1)},
        swerve=(rng.uniform(0, 2 * math.pi, 2), rng.uniform(0.3, 1.0, 2) * (9, 2.2)),
        phases=rng.uniform(0, 2 * math.pi, 4),
    )


class Building(NamedTuple):
    """
    A house.

    Attributes
    ----------
    start, stop
        Where its front begins and ends along the street.
    setback
        Distance of its front from the pavement.
    height
        Height of its walls.
    ridge
        Height of the roof above the walls; 0 is a flat roof.
    facade
        Index of its facade.

    """

    start: float
    stop: float
    setback: float
    height: float
    ridge: float
    facade: int


class Thing(NamedTuple):
    """
    Something that stands on the ground.

    Attributes
    ----------
    kind
        `tree`, `lamp`, `walker` and so on, or one of `CARS`.
    along, across
        Position of its middle; a rail ends at `along`.
    height
        Its height; ignored for cars.
    variant
        Selects its looks.

    """

    kind: str
    along: float
    across: float
    height: float
    variant: int


@dataclass
class Lot:
    """
    One stretch of one side of the street.

    Attributes
    ----------
    start
        Where it begins along the street.
    side
        Side of the street.
    place
        Its number within the block.
    kind
        `junction` or the kind of its block.
    buildings
        Its houses, ordered by `start`.
    things
        Everything else that stands on it.
    border, border_height
        Kind of the fence along the pavement, empty for none, and its height.

    """

    start: float
    side: int
    place: int
    kind: str
    buildings: list[Building] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    border: str = ''
    border_height: float = 0.0


class Lots:
    """
    The lots of a street, built as they come into sight.

    `floors` is the number of storeys of each facade, `trees` the number of different trees.
    """

    def __init__(self, plan: Plan, seed: int, floors: Sequence[int], trees: int) -> None:
        self._plan, self._seed, self._floors, self._trees = plan, seed, floors, trees
        self._lots: dict[tuple[int, int], Lot] = {}

    def visible(self, along: float) -> list[Lot]:
        """Return all lots from the point `along` the street up to the limit of sight."""
        first = math.floor(along / LOT)
        if len(self._lots) > 400:
            self._lots.clear()
        keys = [(i, side) for i in range(first, first + int(SIGHT / LOT) + 1) for side in (-1, 1)]
        for key in keys:
            if key not in self._lots:
                self._lots[key] = self._make_lot(*key)
        return [self._lots[key] for key in keys]

    def _make_lot(self, index: int, side: int) -> Lot:
        rng = keyed_rng(self._seed, 1, index, side)
        block, place = divmod(index, LOTS_PER_BLOCK)
        blocks = self._plan.blocks[side]
        kind = 'junction' if place == 0 and block % 2 else str(blocks[block % len(blocks)])
        lot = Lot(index * LOT, side, place, kind)
        if kind == 'junction':
            self._furnish_junction(rng, lot)
            return lot
        if kind == 'terrace':
            middle = float(rng.uniform(0.4, 0.6)) * LOT
            lot.buildings.append(self._make_building(rng, lot, 0.0, middle, 0.0))
            lot.buildings.append(self._make_building(rng, lot, middle, LOT, 0.0))
        elif kind == 'city':
            lot.buildings.append(self._make_building(rng, lot, 0.0, LOT, 0.0))
        elif kind == 'suburb':
            start, setback = float(rng.uniform(0, 2.5)), float(rng.uniform(3, 6))
            stop = LOT - float(rng.uniform(0, 2.0))
            lot.buildings.append(self._make_building(rng, lot, start, stop, setback))
            lot.border = str(rng.choice(('wood', 'hedge', 'wall', 'park', 'wood')))
            lot.border_height = float(rng.uniform(0.8, 1.8))
            if rng.random() < 0.5:
                self._plant(rng, lot, self._plan.outer + 1.6)
        else:
            lot.border, lot.border_height = 'park', float(rng.uniform(1.1, 1.6))
            for _ in range(int(rng.integers(2, 5))):
                self._plant(rng, lot, self._plan.outer + float(rng.uniform(1.5, 16)))
        self._furnish(rng, lot)
        return lot

    def _make_building(
        self, rng: Rng, lot: Lot, start: float, stop: float, setback: float,
    ) -> Building:
        facade = int(rng.integers(len(self._floors)))
        storeys = self._floors[facade] + (1 if lot.kind == 'city' else 0)
        ridge = float(rng.uniform(1.5, 3.2)) if lot.kind != 'city' and rng.random() < 0.8 else 0.0
        height = storeys * float(rng.uniform(2.9, 3.6))
        return Building(lot.start + start, lot.start + stop, setback, height, ridge, facade)

    def _plant(self, rng: Rng, lot: Lot, across: float) -> None:
        along = lot.start + float(rng.uniform(0, LOT))
        height, variant = float(rng.uniform(5, 12)), int(rng.integers(self._trees))
        lot.things.append(Thing('tree', along, lot.side * across, height, variant))

    def _furnish_junction(self, rng: Rng, lot: Lot) -> None:
        across = lot.side * (self._plan.half + 0.5)
        for along in (lot.start - 0.5, lot.start + LOT + 0.5):
            lot.things.append(Thing('signal', along, across, 3.2, int(rng.integers(1 << 16))))

    def _furnish(self, rng: Rng, lot: Lot) -> None:
        """Add what stands along the curb."""
        def add(kind: str, inward: float, height: float, chance: float) -> None:
            if rng.random() < chance:
                along = lot.start + float(rng.uniform(0.05, 0.95)) * LOT
                across = lot.side * (self._plan.half + inward)
                variant = int(rng.integers(1 << 16))
                lot.things.append(Thing(kind, along, across, height, variant))

        if (lot.place + (lot.side > 0)) % 2:
            add('lamp', 0.5, float(rng.uniform(6, 9)), 1.0)
        add('sign', 0.5, float(rng.uniform(2.3, 3.2)), 0.5)
        add('board', 0.9, float(rng.uniform(1.9, 2.8)), 0.12)
        add('bollard', 0.4, 1.0, 0.3 if lot.kind != 'park' else 0.1)
        if lot.place in (1, 4) and rng.random() < 0.5:
            across = lot.side * (self._plan.half + 0.25)
            lot.things.append(Thing('rail', lot.start + LOT * 0.99, across, 1.1, 0))
        if rng.random() < (0.45 if lot.kind in ('park', 'suburb') else 0.25):
            self._plant(rng, lot, self._plan.half + 0.8)
        if self._plan.parking:
            for slot in (0.27, 0.78):
                if rng.random() < 0.6 * self._plan.density:
                    facing = 'parked' if lot.side == self._plan.drive_side else 'facing'
                    along = lot.start + slot * LOT + float(rng.uniform(-0.3, 0.3))
                    across = lot.side * (self._plan.half - 1.05)
                    variant = int(rng.integers(1 << 16))
                    lot.things.append(Thing(facing, along, across, 1.5, variant))


class Mover(NamedTuple):
    """
    A road user that returns with new looks each time it leaves its span.

    Attributes
    ----------
    kind, across
        See `Thing`.
    speed
        Speed along the street.
    phase
        Distance from the rear end of the span at time 0.
    span
        Length of the stretch around the camera that it stays in.

    """

    kind: str
    across: float
    speed: float
    phase: float
    span: float


class Traffic:
    """All road users around a camera that drives at `speed`."""

    def __init__(self, rng: Rng, plan: Plan, seed: int, speed: float) -> None:
        self._plan, self._seed, self._speed = plan, seed, speed
        self._movers = _make_movers(rng, plan)

    def visible(self, time: float) -> list[Thing]:
        """Return the road users at `time`, the car ahead of the camera first."""
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
    near_side, movers = plan.drive_side, []
    oncoming, count = float(rng.uniform(6, 11)), int(rng.integers(2, 6))
    for lane in range(plan.lanes):
        across = -near_side * LANE * (lane + 0.5)
        for i in range(count):
            phase = 160 * (i + float(rng.uniform(0, 0.6))) / count
            movers.append(Mover('oncoming', across, -oncoming, phase, 160.0))
    if plan.lanes == 2:
        across = near_side * LANE * 1.5
        movers += [Mover('ahead', across, 6.0, 45.0 * i, 150.0) for i in range(3)]
    gutter = plan.half - plan.parking - 0.6
    for side, speed in ((near_side, 5.0), (-near_side, -4.5)):
        movers.append(Mover('cyclist', side * gutter, speed, float(rng.uniform(5, 40)), 75.0))
    for _ in range(round(16 + 20 * plan.density)):
        side, speed = rng.choice((-1, 1)), rng.choice((-1, 1)) * rng.uniform(0.8, 1.6)
        across = side * (plan.half + rng.uniform(0.4, plan.pavement - 0.4))
        phase = float(rng.uniform(0, 110))
        movers.append(Mover('walker', float(across), float(speed), phase, 110.0))
    movers.append(Mover('crossing', 0.0, 0.0, float(rng.uniform(0, 120)), 120.0))
    return movers
