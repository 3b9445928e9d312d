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

"""Houses, fences, plants, people, cars and posts, drawn where they stand."""

import cv2
from lednet_ros.synthetic.basics import (
    BUILDING,
    CAR,
    Light,
    PAINTS,
    Points,
    POLE,
    Rng,
    scaled,
    SIGN,
    SIGNALS,
)
from lednet_ros.synthetic.camera import NEAR, View
from lednet_ros.synthetic.layout import Building, CARS, LOT, Lot, Plan, Thing
from lednet_ros.synthetic.sprites import (
    make_bare_tree,
    make_cyclist,
    make_leafy_tree,
    make_pedestrian,
)
from lednet_ros.synthetic.textures import make_facade, make_fence
from lednet_ros.synthetic.vehicles import car_looks, make_car, role_colors, ROLES
import numpy as np


class Scenery:
    """The looks of everything that stands in a street."""

    def __init__(self, rng: Rng, plan: Plan, light: Light) -> None:
        self._plan, self._light = plan, light
        self._facades = [make_facade(rng) for _ in range(9)]
        bare = rng.random(7) > plan.leafy
        self._trees = [make_bare_tree(rng) if b else make_leafy_tree(rng) for b in bare]
        self._pedestrians = [make_pedestrian(rng) for _ in range(8)]
        self._cyclists = [make_cyclist(rng) for _ in range(4)]
        self._fences = {kind: make_fence(rng, kind)
                        for kind in ('rail', 'wood', 'hedge', 'wall', 'park')}
        self._cars = (make_car(van=False), make_car(van=True))

    @property
    def floors(self) -> list[int]:
        """Return the number of storeys of each facade."""
        return [facade.floors for facade in self._facades]

    @property
    def trees(self) -> int:
        """Return the number of different trees."""
        return len(self._trees)

    def draw_lot(self, view: View, lot: Lot) -> None:
        """Draw the houses and the fence of a lot, the farthest first."""
        for i, house in reversed(list(enumerate(lot.buildings))):
            if house.stop > view.eye[2] + NEAR:
                covered = i > 0 and lot.buildings[i - 1].height >= house.height
                self._draw_building(view, lot.side, house, covered)
        if lot.border:
            edge = lot.side * self._plan.outer
            span = (lot.start, lot.start + LOT)
            self._draw_border(view, lot.border, edge, span, lot.border_height)

    def _draw_border(
        self, view: View, kind: str, across: float, along: tuple[float, float], height: float,
    ) -> None:
        nearest = view.eye[2] + NEAR
        if along[1] > nearest:
            corners = np.array([(across, height, along[0]), (across, height, along[1]),
                                (across, 0, along[1]), (across, 0, along[0])])
            begin = max(0.0, (nearest - along[0]) / (along[1] - along[0]))
            tone = self._light.gain(1 if across > 0 else -1), max(along[0] - view.eye[2], NEAR)
            view.panel(self._fences[kind], view.project(corners), begin, tone, kind != 'rail')

    def _draw_building(
        self, view: View, side: int, house: Building, covered: bool,
    ) -> None:
        facade, gain = self._facades[house.facade], self._light.gain(side)
        edge = side * (self._plan.outer + house.setback)
        back, middle, eaves = edge + side * 9, edge + side * 4.5, edge - side * 0.3
        z0, z1, high, top = house.start, house.stop, house.height, house.height + house.ridge
        pixels = view.project(np.array([
            (edge, high, z0), (edge, high, z1), (edge, 0, z1), (edge, 0, z0),
            (edge, high, z0), (back, high, z0), (back, 0, z0), (edge, 0, z0),
            (edge, high, z0), (middle, top, z0), (back, high, z0),
            (eaves, high, z0), (middle, top, z0), (middle, top, z1), (eaves, high, z1),
            (middle - 0.5, top - 0.5, z0), (middle - 0.5, top + 1.1, z0),
            (middle + 0.5, top + 1.1, z0), (middle + 0.5, top - 0.5, z0),
        ]))
        begin = max(0.0, (view.eye[2] + NEAR - z0) / (z1 - z0))
        depth = max(z0 - view.eye[2], NEAR)
        end_gain = (self._light.lit + 2 * self._light.shaded) / 3
        if not begin and not covered:
            view.panel(facade.end, pixels[4:8], 0.0, (end_gain, depth))
        if house.ridge:
            if not begin:
                wall = view.tone(facade.wall, BUILDING, end_gain * 0.92, depth)
                view.fill(pixels[8:11], wall)
                view.fill(pixels[15:19], wall)
            view.fill(pixels[11:15], view.tone(facade.roof, BUILDING, gain, depth))
        view.panel(facade.front, pixels[:4], begin, (gain, depth))

    def draw_thing(self, view: View, thing: Thing, foot: Points, time: float) -> None:
        """Draw one thing as it is at `time`; `foot` is the pixel of its middle on the ground."""
        side = 1 if thing.across > 0 else -1
        gain, depth = (self._light.gain(side) + self._light.lit) / 2, thing.along - view.eye[2]
        if thing.kind == 'tree':
            tree = self._trees[thing.variant % len(self._trees)]
            view.sprite(tree, foot, thing.height, (gain, depth))
        elif thing.kind in ('walker', 'crossing'):
            walker = self._pedestrians[thing.variant % len(self._pedestrians)]
            phase = int(time * 5 + thing.variant) % len(walker)
            view.sprite(walker[phase], foot, thing.height, (gain, depth))
        elif thing.kind == 'cyclist':
            rider = self._cyclists[thing.variant % len(self._cyclists)]
            view.sprite(rider[int(time * 3) % len(rider)], foot, thing.height, (gain, depth))
        elif thing.kind == 'rail':
            span = thing.along - 2 * LOT / 3, thing.along
            self._draw_border(view, 'rail', thing.across, span, thing.height)
        elif thing.kind in CARS:
            self._draw_car(view, thing, gain)
        else:
            _draw_post(view, thing, foot, gain, time)

    def _draw_car(self, view: View, thing: Thing, gain: float) -> None:
        van, size, paint = car_looks(thing.variant)
        rear = thing.kind in ('ahead', 'parked')
        lamps = 1.1 if thing.kind in ('ahead', 'oncoming') else 0.8
        depth = max(thing.along - view.eye[2], NEAR)
        tones = view.tones(role_colors(paint, rear, gain, lamps), CAR, depth)
        colors = dict(zip(ROLES, tones, strict=True))
        view.mesh(self._cars[van], (thing.across, 0.0, thing.along), size, rear, colors)


def _draw_post(view: View, thing: Thing, foot: Points, gain: float, time: float) -> None:
    """Draw a lamp, bollard, board, sign or signal."""
    depth = thing.along - view.eye[2]
    scale = view.focal / depth
    x, y = foot
    steel = (96, 100, 100) if thing.variant % 3 else (48, 52, 50)
    color = view.tone(steel, POLE, gain, depth)
    thick = max((0.2 if thing.kind in ('bollard', 'lamp') else 0.13) * scale, 1.0)
    top = y - thing.height * scale
    if thing.kind != 'board':
        view.rectangle(x - thick / 2, top, x + thick / 2, y, color)
    if thing.kind == 'lamp':
        inward = -1 if thing.across > 0 else 1
        reach = x + inward * 1.6 * scale
        view.rectangle(min(x, reach), top - thick * 0.5, max(x, reach), top, color)
        head = reach + inward * 0.5 * scale
        view.rectangle(min(head, reach), top - thick * 0.5, max(head, reach),
                       top + thick * 0.6, color)
    elif thing.kind == 'sign':
        _draw_sign(view, thing, (x, top), scale, gain)
    elif thing.kind == 'signal':
        _draw_signal(view, thing, (x, top), scale, time)
    elif thing.kind == 'board':
        wide = (0.5 + thing.variant % 5 * 0.12) * scale
        panel = view.tone(SIGNALS[thing.variant % 3], SIGN, gain, depth)
        inset = view.tone(PAINTS[thing.variant % len(PAINTS)], SIGN, gain * 1.1, depth)
        view.rectangle(x - wide, top, x + wide, y, panel)
        view.rectangle(x - wide * 0.8, top + wide * 0.6, x + wide * 0.8,
                       y - wide * 0.7, inset)


def _draw_sign(
    view: View, thing: Thing, top: tuple[float, float], scale: float, gain: float,
) -> None:
    depth, (x, y), radius = thing.along - view.eye[2], top, max(0.36 * scale, 1.2)
    rim, face = (view.tone(SIGNALS[i], SIGN, gain * 1.1, depth) for i in (0, 4))
    shape = thing.variant // 8 % 4
    if shape == 0:
        for part, color in ((1.0, rim), (0.72, face)):
            cv2.circle(view.canvas, (round(x), round(y)), round(radius * part), color, -1)
    elif shape == 1:
        for part, color in ((1.0, rim), (0.6, face)):
            corners = [(x, y - radius * part), (x + radius * part, y + radius * 0.8 * part),
                       (x - radius * part, y + radius * 0.8 * part)]
            cv2.fillConvexPoly(view.canvas, np.rint(corners).astype(np.int32), color)
    else:
        blue = view.tone(SIGNALS[1 + thing.variant // 64 % 3], SIGN, gain, depth)
        tall = radius * (1.0 if shape == 2 else 1.7)
        view.rectangle(x - radius, y - tall, x + radius, y + radius, blue)
        view.rectangle(x - radius * 0.6, y - tall * 0.5, x + radius * 0.6, y + radius * 0.3, face)


def _draw_signal(
    view: View, thing: Thing, top: tuple[float, float], scale: float, time: float,
) -> None:
    (x, y), wide = top, max(0.2 * scale, 1.0)
    box = view.tone((20, 22, 22), SIGN, 1.0, thing.along - view.eye[2])
    view.rectangle(x - wide, y, x + wide, y + wide * 5, box)
    lit = int(time / 4 + thing.variant) % 3
    for i, glow in enumerate(((250, 50, 40), (250, 180, 40), (60, 240, 140))):
        color = (*scaled(glow, 1.0 if i == lit else 0.2), SIGN)
        center = (round(x), round(y + wide * (0.9 + 1.6 * i)))
        cv2.circle(view.canvas, center, round(wide * 0.6), color, -1)
