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

"""Sky, skyline and ground: everything behind and below what stands in the street."""

import math
from typing import NamedTuple

import cv2
from lednet_ros.synthetic.basics import (
    BUILDING,
    Color,
    Image,
    Light,
    PAVEMENT,
    pick,
    Points,
    Rng,
    ROAD,
    scaled,
    SKY,
    TREE,
    WALLS,
)
from lednet_ros.synthetic.camera import NEAR, View
from lednet_ros.synthetic.layout import CARS, LANE, LOT, Lot, Plan, Thing
from lednet_ros.synthetic.textures import (
    GROUND_RESOLUTION,
    GROUND_TILE,
    make_grain,
    smooth_noise,
)
import numpy as np

FAR = 500.0
"""Distance at which the ground ends."""


class Paving(NamedTuple):
    """Mean colors of the ground; `edge_lines` is `none`, `white` or `yellow`."""

    edge_lines: str
    asphalt: Color
    flags: Color
    grass: Color


def make_paving(rng: Rng) -> Paving:
    """Choose the colors of a street's ground."""
    edge_lines = str(rng.choice(('none', 'white', 'yellow')))
    gray = float(rng.uniform(74, 112))
    asphalt = (gray, gray * 1.005, gray * float(rng.uniform(1.0, 1.06)))
    stone = float(rng.uniform(112, 160))
    flags = (stone * 1.03, stone * float(rng.uniform(0.95, 1)), stone * 0.93)
    grass = pick(rng, ((72, 92, 46), (92, 100, 58), (58, 82, 44)))
    return Paving(edge_lines, asphalt, flags, grass)


class Ground:
    """Road, pavements, markings, grain and shadows."""

    def __init__(self, rng: Rng, plan: Plan, paving: Paving, light: Light) -> None:
        self._plan, self._paving, self._light = plan, paving, light
        self._grain = make_grain(rng)

    def draw(self, view: View, lots: list[Lot]) -> None:
        """Fill the canvas below the horizon."""
        gain = (self._light.lit + self._light.shaded) / 2
        grass = view.tone(self._paving.grass, TREE, gain, 5)
        view.rectangle(0, view.ground_top, view.width, view.height, grass)
        depths = np.concatenate([np.geomspace(NEAR, 60, 16), np.geomspace(70, FAR, 8)])
        along = depths + view.eye[2]
        half, outer = self._plan.half, self._plan.outer
        strips: list[tuple[float, float, Color, int]] = [
            (-outer - 1.5, outer + 1.5, self._paving.flags, PAVEMENT),
            (-half - 0.18, half + 0.18, scaled(self._paving.flags, 1.2), PAVEMENT),
            (-half, half, self._paving.asphalt, ROAD),
            (-half, 0.35 - half, scaled(self._paving.asphalt, 0.8), ROAD),
            (half - 0.35, half, scaled(self._paving.asphalt, 0.8), ROAD),
        ]
        if self._paving.edge_lines != 'none':
            paint = (222, 222, 216) if self._paving.edge_lines == 'white' else (206, 172, 60)
            for side in (-1, 1):
                x = side * (half - self._plan.parking - 0.45)
                strips.append((x - 0.06, x + 0.06, paint, ROAD))
        for left, right, color, label in strips:
            edges = np.zeros((2 * len(along), 3))
            edges[:, 2] = np.concatenate([along, along[::-1]])
            edges[:, 0] = np.repeat((left, right), len(along))
            view.fill_outlines(edges[None], view.tone(color, label, gain, 8))
        self._draw_junctions(view, lots, gain)
        self._draw_markings(view, gain)
        self._apply_grain(view)

    def _draw_junctions(self, view: View, lots: list[Lot], gain: float) -> None:
        asphalt = view.tone(self._paving.asphalt, ROAD, gain, 8)
        line = view.tone((214, 214, 208), ROAD, gain, 8)
        for lot in lots:
            if lot.kind == 'junction':
                z0, z1 = lot.start, lot.start + LOT
                inner, outer = lot.side * (self._plan.half - 0.1), lot.side * 60
                view.fill(view.project(_ground_box(inner, outer, z0 + 1.5, z1 - 1.5)), asphalt)
            elif lot.kind == 'city' and lot.place == 2:
                for x in (np.arange(0.3, self._plan.half - 0.6, 1.1) * lot.side).tolist():
                    if lot.start + 3 > view.eye[2] + NEAR:
                        bar = _ground_box(x, x + 0.55 * lot.side, lot.start, lot.start + 3)
                        view.fill(view.project(bar), line)

    def _draw_markings(self, view: View, gain: float) -> None:
        period, dash = 6.0, 2.6
        first = math.floor(view.eye[2] / period)
        begin = (first + np.arange(14)) * period
        begin = begin[begin + dash > view.eye[2] + NEAR]
        color = view.tone((226, 226, 220), ROAD, gain, 8)
        for lane in range(1 - self._plan.lanes, self._plan.lanes):
            quads = np.zeros((len(begin), 4, 3))
            quads[..., 0] = lane * LANE + np.array((-0.07, 0.07, 0.07, -0.07))
            quads[..., 2] = begin[:, None] + np.array((0, 0, dash, dash))
            view.fill_outlines(quads, color)

    def _apply_grain(self, view: View) -> None:
        top = view.ground_top
        depth = view.focal * view.eye[1] / (np.arange(top, view.height) + 0.5 - view.horizon)
        column = (np.arange(view.width) + 0.5 - view.width / 2) / view.focal
        middle = view.eye[0] - view.sway(depth)
        # Far rows sample a coarser level, which keeps the grain from flickering.
        split = int(np.searchsorted(-depth, -14.0))
        for level, rows in ((3, slice(0, split)), (0, slice(split, None))):
            if not len(depth[rows]):
                continue
            scale = GROUND_RESOLUTION / 2 ** level
            map_x = (column * depth[rows, None] + middle[rows, None]) * scale
            map_y = np.repeat(((depth[rows] + view.eye[2]) % GROUND_TILE)[:, None] * scale,
                              view.width, 1)
            grain = cv2.remap(self._grain[level], map_x.astype(np.float32),
                              map_y.astype(np.float32), cv2.INTER_LINEAR,
                              borderMode=cv2.BORDER_WRAP)
            target = view.canvas[top:][rows]
            cv2.multiply(target, grain, target, 1 / 128)

    def shade(self, view: View, lots: list[Lot], things: list[Thing]) -> None:
        """Darken the ground where `things` shade it, before anything is drawn on it."""
        light, shadow = self._light, 128 * self._light.shadow
        dark = (shadow, shadow, min(shadow * 1.06, 128), 128)
        shapes: list[tuple[Points, tuple[float, ...]]] = []
        for lot in lots:
            if light.sunny and lot.side == light.sun_side:
                for house in lot.buildings:
                    edge = lot.side * (self._plan.outer + house.setback)
                    reach = edge - lot.side * house.height * 0.75
                    shapes.append((_ground_box(edge, reach, house.start, house.stop, 1.0), dark))
        for thing in things:
            if thing.along - view.eye[2] < 60:
                shapes += self._shadows(thing, dark)
        # Gains in 1/128; where shadows overlap, the last one counts.
        gains = np.full_like(view.canvas, 128)
        for points, color in shapes:
            cv2.fillConvexPoly(gains, np.rint(view.project(points)).astype(np.int32), color)
        ground = view.canvas[view.ground_top:]
        cv2.multiply(ground, gains[view.ground_top:], ground, 1 / 128)

    def _shadows(
        self, thing: Thing, dark: tuple[float, ...],
    ) -> list[tuple[Points, tuple[float, ...]]]:
        """Return polygons of world points and gains in 1/128 of the shadows of `thing`."""
        cast = -0.75 * self._light.sun_side if self._light.sunny else 0.0
        x, z = thing.across, thing.along
        if thing.kind in CARS:
            contact = (*(0.55 * c for c in dark[:3]), 128.0)
            left, right = x - 0.92 + min(cast, 0), x + 0.92 + max(cast, 0)
            return [(_ground_box(left, right, z - 2.1, z + 2.1), contact)]
        if thing.kind in ('walker', 'crossing', 'cyclist'):
            reach = x + cast * 1.7
            return [(_ground_box(x - 0.25, reach + 0.25, z - 0.15, z + 0.15, 0.3), dark)]
        if cast and thing.kind == 'tree':
            turns = np.linspace(0, 2 * math.pi, 10, endpoint=False)
            ring = np.stack((np.cos(turns), 0 * turns, np.sin(turns)), 1)
            # Several small patches look dappled, like light through leaves.
            spots = np.random.default_rng(thing.variant).normal(0, 0.16, (7, 3)) * (1, 0, 1)
            center = np.array((x + thing.height * cast * 0.8, 0.0, z))
            return [(center + thing.height * (ring * 0.13 + spot), dark) for spot in spots]
        if cast and thing.kind in ('lamp', 'sign', 'signal'):
            reach = x + thing.height * cast
            return [(_ground_box(x, reach, z - 0.08, z + 0.08, 0.7), dark)]
        return []


def _ground_box(
    left: float, right: float, near: float, far: float, slant: float = 0.0,
) -> Points:
    """Return the corners of a box on the ground whose right edge is `slant` meters ahead."""
    return np.array([(left, 0, near), (left, 0, far), (right, 0, far + slant),
                     (right, 0, near + slant)])


class Backdrop:
    """Sky and skyline, painted over three frame widths so that the camera can turn."""

    def __init__(self, rng: Rng, light: Light, width: int, height: int) -> None:
        self._sky = _make_sky(rng, light, width, round(height * 0.66))
        self._skyline = _make_skyline(rng, light, width, max(6, round(height * 0.07)))

    def draw(self, view: View) -> None:
        """Fill the canvas above the ground."""
        rows = min(view.height, view.ground_top)
        turn = int(view.width - view.slope * view.focal) % (2 * view.width)
        sky = self._sky[max(0, len(self._sky) - rows):, turn:turn + view.width]
        view.canvas[rows - len(sky):rows] = sky
        # Very wide frames pitch by more than the sky has to spare.
        view.canvas[:rows - len(sky)] = sky[0]
        skyline = self._skyline[:, turn:turn + view.width]
        target = view.canvas[rows - len(skyline):rows]
        cv2.copyTo(skyline, np.ascontiguousarray(skyline[..., 3]), target)


def _make_sky(rng: Rng, light: Light, width: int, height: int) -> Image:
    """Draw the sky over three frame widths, with the horizon in the last row."""
    ramp = np.linspace(0, 1, height)[:, None, None] ** 1.5
    sky = np.array(light.zenith) * (1 - ramp) + np.array(light.horizon) * ramp
    cover = sum(smooth_noise(rng, height, 3 * width, n) / n ** 0.5 for n in (3, 6, 12, 24))
    alpha = np.clip(np.asarray(cover) * 0.9 + light.cloud, 0, 1)[..., None] * 0.85
    shade = 238 - 26 * np.clip(smooth_noise(rng, height, 3 * width, 8), -1, 2)[..., None]
    cloud = shade * np.array(light.horizon) / max(light.horizon)
    image = np.full((height, 3 * width, 4), SKY, np.uint8)
    image[..., :3] = np.clip(sky * (1 - alpha) + cloud * alpha, 0, 255)
    return image


def _make_skyline(rng: Rng, light: Light, width: int, height: int) -> Image:
    """Draw far houses and trees over three frame widths, with the ground in the last row."""
    image = np.zeros((height, 3 * width, 4), np.uint8)
    haze = np.array(light.horizon)
    left = 0
    while left < 3 * width:
        wide = int(rng.integers(max(2, width // 40), max(4, width // 9)))
        top = int(height * rng.uniform(0.45, 0.85))
        wall = np.array(pick(rng, WALLS)) * 0.55 * light.shaded + haze * 0.4
        cv2.rectangle(image, (left, top), (left + wide, height), (*wall.tolist(), BUILDING), -1)
        left += wide
    for _ in range(int(rng.integers(60, 220))):
        center = (int(rng.integers(3 * width)), int(height * rng.uniform(0.75, 1.1)))
        leaf = np.array((52.0, 60.0, 40.0)) * rng.uniform(0.6, 1.1) * 0.7 + haze * 0.3
        radius = max(1, int(height * rng.uniform(0.1, 0.3)))
        cv2.circle(image, center, radius, (*leaf.tolist(), TREE), -1)
    return image
