# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Procedural street scenes with exact labels, for tests, demos and training.

Everything is drawn far to near on a canvas of four channels, red, green, blue and class id, so
that one drawing call paints color and label with the same mask and the two cannot disagree.

"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
import math
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[Any]
Points: TypeAlias = NDArray[np.floating[Any]]
Color: TypeAlias = tuple[float, float, float]
Rng: TypeAlias = np.random.Generator
Outline: TypeAlias = Sequence[tuple[float, float]]

CLASS_NAMES: tuple[str, ...] = (
    'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign_symbol', 'fence', 'car',
    'pedestrian', 'bicyclist',
)
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

MIN_SIZE, MAX_SIZE, MAX_SPEED = 64, 4096, 60.0
NEAR, FAR, SIGHT, HAZE = 0.6, 500.0, 150.0, 350.0
LOT = 12.0
LOTS_PER_BLOCK = 5
LANE = 3.1
CARS = ('ahead', 'oncoming', 'parked', 'facing')
GROUND_TILE = 32.0
GROUND_RESOLUTION = 16

WALLS: tuple[Color, ...] = (
    (142, 84, 62), (120, 72, 58), (168, 130, 92), (186, 168, 122), (214, 206, 186),
    (228, 226, 220), (150, 146, 138), (108, 104, 102), (196, 172, 148), (92, 78, 72),
)
PAINTS: tuple[Color, ...] = (
    (190, 192, 196), (230, 232, 232), (28, 30, 34), (70, 74, 82), (150, 22, 26), (28, 48, 110),
    (40, 84, 62), (120, 128, 140), (196, 180, 140), (60, 110, 170), (210, 150, 30),
)
CLOTHES: tuple[Color, ...] = (
    (30, 32, 40), (50, 56, 84), (110, 30, 34), (86, 84, 80), (180, 176, 170), (60, 80, 60),
    (120, 96, 70), (36, 70, 120), (160, 60, 90), (200, 170, 40),
)
ROLES = ('paint', 'end', 'top', 'glass', 'window', 'dark', 'tire', 'hub', 'plate', 'tail', 'lamp')
TRIM: tuple[Color, ...] = (
    (54, 62, 70), (34, 38, 44), (26, 26, 28), (22, 22, 23), (140, 142, 146),
)
PLATES: tuple[Color, Color] = ((228, 228, 226), (226, 196, 60))
SIGNALS: tuple[Color, ...] = (
    (200, 30, 36), (24, 70, 160), (20, 110, 70), (236, 200, 40), (236, 236, 232), (30, 30, 34),
)


class _Light(NamedTuple):
    """The light of a drive; gains apply to surfaces turned to or from the sun."""

    sun_side: int
    sunny: bool
    lit: float
    shaded: float
    shadow: float
    zenith: Color
    horizon: Color
    cloud: float
    exposure: float
    cast: Color


class _Facade(NamedTuple):
    """Textures of one kind of house; each texture is a pyramid, finest first."""

    front: list[Image]
    end: list[Image]
    wall: Color
    roof: Color
    floors: int


class _Building(NamedTuple):
    start: float
    stop: float
    setback: float
    height: float
    ridge: float
    facade: int


class _Thing(NamedTuple):
    """Something that stands on the ground; `variant` picks its looks."""

    kind: str
    along: float
    across: float
    height: float
    variant: int


@dataclass
class _Lot:
    """One stretch of one side of the street."""

    start: float
    side: int
    kind: str
    buildings: list[_Building] = field(default_factory=list)
    things: list[_Thing] = field(default_factory=list)
    border: str = ''
    border_height: float = 0.0


class _Mover(NamedTuple):
    """A road user that comes back with new looks each time it has left the `span`."""

    kind: str
    across: float
    speed: float
    phase: float
    span: float


class _Mesh(NamedTuple):
    """Convex faces with outward winding, one after the other in `points`."""

    points: Points
    following: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    roles: tuple[str, ...]


def _pick(rng: Rng, colors: Sequence[Color], spread: float = 12.0) -> Color:
    base = np.array(colors[int(rng.integers(len(colors)))]) + rng.normal(0, spread, 3) * 0.5
    red, green, blue = np.clip(base + rng.normal(0, spread), 8, 247)
    return float(red), float(green), float(blue)


def _scaled(color: Color, gain: float) -> Color:
    return color[0] * gain, color[1] * gain, color[2] * gain


def _smooth_noise(rng: Rng, height: int, width: int, cells: int) -> NDArray[np.float32]:
    """Noise of zero mean and about unit deviation that repeats at the borders."""
    grid = rng.normal(0, 1.4, (cells, cells)).astype(np.float32)
    grid = np.pad(grid, 2, mode='wrap')
    scale_y, scale_x = height / cells, width / cells
    large = cv2.resize(
        grid, (round((cells + 4) * scale_x), round((cells + 4) * scale_y)),
        interpolation=cv2.INTER_CUBIC,
    )
    top, left = round(2 * scale_y), round(2 * scale_x)
    return np.asarray(large[top:top + height, left:left + width], dtype=np.float32)


def _pyramid(image: Image) -> list[Image]:
    """Halve `image` repeatedly: mean colors, but labels that are never mixed."""
    levels = [image]
    while min(levels[-1].shape[:2]) >= 16:
        size = (levels[-1].shape[1] // 2, levels[-1].shape[0] // 2)
        half = cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA)
        half[..., 3] = cv2.resize(levels[-1][..., 3], size, interpolation=cv2.INTER_NEAREST)
        levels.append(half)
    return levels


def _add_noise(image: Image, noise: NDArray[Any]) -> None:
    """Add `noise` to the color channels in place."""
    shift = np.clip(noise + 128.5, 0, 255).astype(np.uint8)
    shifts = cv2.merge([shift, shift, shift, np.full_like(shift, 128)])
    cv2.addWeighted(image, 1, shifts, 1, -128, image)


def _box(image: Image, left: float, top: float, right: float, bottom: float, color: Color) -> None:
    """Fill a box of a texture, leaving its label as it is."""
    rows, columns = slice(int(top), int(bottom)), slice(int(left), int(right))
    image[rows, columns, :3] = color


def _make_wall(rng: Rng, wall: Color, size: int) -> Image:
    image = np.full((size, size, 4), (*wall, BUILDING), np.uint8)
    bricks = np.kron(rng.normal(0, rng.uniform(2, 9), (size // 4, size // 8)), np.ones((4, 8)))
    grime = 7 * _smooth_noise(rng, size, size, 6) - np.linspace(0, 14, size)[:, None]
    _add_noise(image, bricks + grime)
    return image


def _draw_window(
    rng: Rng, image: Image, box: tuple[float, float, float, float], frame: Color, glass: Color,
) -> None:
    left, top, right, bottom = box
    _box(image, left - 2, top - 5, right + 2, top, _scaled(frame, 0.8))
    _box(image, left, top, right, bottom, frame)
    pane = _scaled(glass, float(rng.uniform(0.5, 1.3)))
    middle, rail = (left + right) / 2, (top + bottom) / 2
    for x0, x1 in ((left + 2, middle - 1), (middle + 1, right - 2)):
        _box(image, x0, top + 2, x1, bottom - 2, pane)
        _box(image, x0, top + 2, x1, top + (rail - top) * 0.7, _scaled(pane, 1.35))
        if rng.random() < 0.3:
            _box(image, x0, top + 2, (x0 + x1) / 2, bottom - 2, (176, 170, 160))
    if bottom - top > 30:
        _box(image, left, rail - 1, right, rail + 1, frame)
    _box(image, left - 3, bottom, right + 3, bottom + 4, _scaled(frame, 0.65))


def _draw_shop(rng: Rng, image: Image, top: float) -> None:
    size = image.shape[0]
    fascia = _pick(rng, SIGNALS + CLOTHES)
    _box(image, 4, top, size - 4, size, _scaled(fascia, 0.6))
    _box(image, 4, top, size - 4, top + 20, fascia)
    ink = (235, 232, 220) if sum(fascia) < 400 else (40, 30, 30)
    letter = float(rng.uniform(40, 90))
    while letter < size - 60 and rng.random() < 0.93:
        wide = float(rng.uniform(4, 10))
        _box(image, letter, top + 5, letter + wide, top + 16, ink)
        letter += wide + 4
    for left, right in ((12, 0.36 * size), (0.42 * size, 0.56 * size), (0.62 * size, size - 12)):
        glass = float(rng.uniform(25, 60))
        _box(image, left, top + 26, right, size - 14, (glass, glass * 1.05, glass * 1.1))
        for _ in range(6):
            x, y = rng.uniform(left, right - 12), rng.uniform(top + 26, size - 26)
            _box(image, x, y, x + 10, y + 12, _pick(rng, CLOTHES + SIGNALS))


def _make_facade(rng: Rng) -> _Facade:
    """Draw the street front and the end wall of one kind of house."""
    size = 320
    wall = _pick(rng, WALLS)
    roof = _pick(rng, ((88, 72, 66), (74, 76, 82), (120, 74, 58), (60, 58, 58)))
    floors = int(rng.choice((2, 2, 3, 3, 4, 5)))
    frame = (226, 224, 218) if rng.random() < 0.7 else (60, 56, 54)
    glass = (52.0, 62.0, 74.0)
    front, end = _make_wall(rng, wall, size), _make_wall(rng, _scaled(wall, 0.92), size)
    columns = int(rng.integers(2, 6))
    fill_x, fill_y = float(rng.uniform(0.4, 0.68)), float(rng.uniform(0.45, 0.66))
    storey, bay = size / floors, size / columns
    shop = rng.random() < 0.45
    for floor in range(floors):
        for column in range(columns):
            left = (column + 0.5 - fill_x / 2) * bay
            top = (floor + 0.55 - fill_y / 2) * storey
            box = (left, top, left + fill_x * bay, top + fill_y * storey)
            _draw_window(rng, front, box, frame, glass)
            if column in (1, columns - 2) and floor % 2 == 0 and rng.random() < 0.6:
                _draw_window(rng, end, box, frame, glass)
    if shop:
        _draw_shop(rng, front, size - storey * 0.95)
    else:
        door = (int(rng.integers(columns)) + 0.5) * bay
        _box(front, door - 20, size - storey * 0.8, door + 20, size, frame)
        _box(front, door - 16, size - storey * 0.74, door + 16, size, _pick(rng, CLOTHES))
    _box(front, 0, 0, size, 8, _scaled(roof, 1.2))
    _box(front, 0, 0, 3, size, _scaled(wall, 0.6))
    return _Facade(_pyramid(front), _pyramid(end), wall, roof, floors)


def _make_leafy_tree(rng: Rng) -> list[Image]:
    size = 224
    leaf = _pick(rng, ((62, 84, 40), (78, 92, 44), (46, 66, 38), (96, 92, 50)))
    image = np.full((size, size, 4), (*_scaled(leaf, 0.6), 0), np.uint8)
    trunk = int(rng.integers(5, 10))
    bark = (*_scaled((84, 70, 56), float(rng.uniform(0.6, 1.1))), TREE)
    cv2.rectangle(image, (112 - trunk, 110), (112 + trunk, size), bark, -1)
    spread, lift = float(rng.uniform(56, 92)), float(rng.uniform(54, 76))
    lobes = rng.uniform(-0.62, 0.62, (int(rng.integers(4, 8)), 2))
    blobs = rng.normal(0, 0.24, (420, 2)).clip(-0.45, 0.45)
    blobs += lobes[rng.integers(len(lobes), size=len(blobs))]
    blobs = blobs * (spread, lift) + (112, 84)
    # Low and inner blobs first, so that the lit top lies over the dark inside of the crown.
    for x, y in blobs[np.argsort(-blobs[:, 1] + rng.normal(0, 20, len(blobs)))]:
        light = 1.25 - (y - 40) / 130 + float(rng.normal(0, 0.16))
        color = (*_scaled(leaf, max(light, 0.35)), TREE)
        cv2.circle(image, (int(x), int(y)), int(rng.integers(3, 14)), color, -1)
    return _pyramid(_speckle(rng, image))


def _make_bare_tree(rng: Rng) -> list[Image]:
    size = 224
    bark = _pick(rng, ((78, 66, 56), (58, 52, 48), (96, 86, 74)))
    image = np.full((size, size, 4), (*bark, 0), np.uint8)
    tips = [(112.0, float(size), -math.pi / 2, 52.0, 9.0)]
    while tips:
        x, y, angle, length, thick = tips.pop()
        end_x, end_y = x + length * math.cos(angle), y + length * math.sin(angle)
        color = (*_scaled(bark, float(rng.uniform(0.75, 1.2))), TREE)
        ends = (int(x), int(y)), (int(end_x), int(end_y))
        cv2.line(image, *ends, color, max(1, round(thick)))
        if thick > 0.9:
            for turn in rng.normal(0, 0.5, 3 if thick > 2 else 4):
                shrink = float(rng.uniform(0.62, 0.85))
                tips.append((end_x, end_y, angle + turn, length * shrink, thick * 0.62))
    return _pyramid(_speckle(rng, image))


def _speckle(rng: Rng, image: Image) -> Image:
    _add_noise(image, rng.normal(0, 12, image.shape[:2]))
    return image


def _make_pedestrian(rng: Rng) -> list[list[Image]]:
    """Draw four phases of a walk."""
    skin = _pick(rng, ((214, 168, 140), (170, 120, 92), (110, 78, 60)))
    coat, trousers = _pick(rng, CLOTHES), _pick(rng, CLOTHES[:4])
    hair, bag = _pick(rng, ((40, 30, 24), (120, 90, 50), (90, 88, 86))), _pick(rng, CLOTHES)
    broad, hem = int(rng.integers(13, 19)), int(rng.integers(96, 130))
    has_bag = rng.random() < 0.5
    phases = []
    for swing in (-13, -4, 5, 13):
        image = np.full((192, 72, 4), (*coat, 0), np.uint8)
        for sign in (-1, 1):
            foot = (36 + sign * swing // 2 + sign * 5, 184 - abs(swing) // 4)
            leg = (*_scaled(trousers, 0.8 + 0.2 * sign), PEDESTRIAN)
            cv2.line(image, (36 + sign * 5, 100), foot, leg, 11)
            cv2.ellipse(image, foot, (8, 5), 0, 0, 360, (30, 26, 24, PEDESTRIAN), -1)
        body = np.array([[36 - broad, 38], [36 + broad, 38], [38 + broad, hem], [34 - broad, hem]])
        cv2.fillConvexPoly(image, body, (*coat, PEDESTRIAN))
        for sign in (-1, 1):
            hand = (36 + sign * (broad + 5), 98 - sign * swing // 2)
            arm = (*_scaled(coat, 0.78 + 0.12 * sign), PEDESTRIAN)
            cv2.line(image, (36 + sign * (broad - 1), 42), hand, arm, 9)
            cv2.circle(image, hand, 4, (*skin, PEDESTRIAN), -1)
        if has_bag:
            cv2.rectangle(image, (36, 56), (36 + broad, 90), (*bag, PEDESTRIAN), -1)
        cv2.rectangle(image, (32, 26), (40, 40), (*skin, PEDESTRIAN), -1)
        cv2.ellipse(image, (36, 19), (10, 13), 0, 0, 360, (*skin, PEDESTRIAN), -1)
        cv2.ellipse(image, (36, 15), (11, 11), 0, 180, 360, (*hair, PEDESTRIAN), -1)
        phases.append(_pyramid(_speckle(rng, image)))
    return phases


def _make_cyclist(rng: Rng) -> list[list[Image]]:
    """Draw two phases of pedaling, seen from ahead or behind with a slight turn."""
    coat, trousers = _pick(rng, CLOTHES, 20), _pick(rng, CLOTHES[:4])
    helmet, skin = _pick(rng, SIGNALS), (200.0, 156.0, 130.0)
    turn = int(rng.integers(5, 30))
    phases = []
    for step in (-9, 9):
        image = np.full((192, 128, 4), (*coat, 0), np.uint8)
        tire, steel = (24, 24, 26, BICYCLIST), (*_pick(rng, SIGNALS), BICYCLIST)
        for x, width in ((64 - turn, 3 + turn // 2), (64 + turn, 3 + turn // 2)):
            cv2.ellipse(image, (x, 156), (width, 33), 0, 0, 360, tire, 4)
            cv2.line(image, (x, 156), (64, 104), steel, 4)
        cv2.line(image, (64 - turn, 156), (64 + turn, 156), steel, 4)
        cv2.line(image, (40, 96), (88, 96), tire, 4)
        for sign in (-1, 1):
            knee, foot = (64 + sign * 15, 122 + sign * step), (64 + sign * 12, 158 + sign * step)
            leg = (*_scaled(trousers, 0.85 + 0.15 * sign), BICYCLIST)
            cv2.line(image, (64 + sign * 8, 96), knee, leg, 13)
            cv2.line(image, knee, foot, leg, 10)
            cv2.ellipse(image, foot, (8, 5), 0, 0, 360, tire, -1)
            arm = (*_scaled(coat, 0.8 + 0.1 * sign), BICYCLIST)
            cv2.line(image, (64 + sign * 18, 48), (64 + sign * 23, 94), arm, 10)
        torso = np.array([[44, 42], [84, 42], [80, 104], [48, 104]])
        cv2.fillConvexPoly(image, torso, (*coat, BICYCLIST))
        cv2.ellipse(image, (64, 26), (11, 15), 0, 0, 360, (*skin, BICYCLIST), -1)
        cv2.ellipse(image, (64, 22), (13, 13), 0, 180, 360, (*helmet, BICYCLIST), -1)
        phases.append(_pyramid(_speckle(rng, image)))
    return phases


def _make_fence(rng: Rng, kind: str) -> list[Image]:
    """Draw one lot's length of border; the rail is the one that can be seen through."""
    height, width = 64, 512
    label = {'hedge': TREE, 'wall': BUILDING}.get(kind, FENCE)
    image = np.full((height, width, 4), (40, 52, 34, label), np.uint8)
    if kind == 'hedge':
        _add_noise(image, 16 * _smooth_noise(rng, height, width, 40) + 12)
    elif kind == 'wall':
        image[...] = _make_wall(rng, _pick(rng, WALLS), width)[:height]
    elif kind == 'wood':
        boards = np.kron(rng.normal(0, 12, width // 8), np.ones(8))
        image[..., :3] = _pick(rng, ((128, 96, 66), (108, 92, 78), (90, 66, 50)))
        _add_noise(image, np.tile(boards, (height, 1)))
        image[:, ::8, :3] //= 2
    else:
        bar = _pick(rng, ((30, 34, 32), (120, 124, 126), (170, 172, 172)))
        if kind == 'rail':
            image[..., 3] = 0
        image[:, ::64, :] = image[:, 1::64, :] = image[:, 2::64, :] = (*bar, FENCE)
        image[:, ::8, :] = image[:, 1::8, :] = (*bar, FENCE)
        image[:6] = image[-10:-6] = (*_scaled(bar, 1.1), FENCE)
    return _pyramid(image)


def _make_ground(rng: Rng) -> list[Image]:
    """Draw the grain of the ground as gains in 1/128; the label keeps a gain of one."""
    size = round(GROUND_TILE * GROUND_RESOLUTION)
    gain = 128 + rng.normal(0, 7, (size, size)) + 5 * _smooth_noise(rng, size, size, 24)
    gain += 4 * _smooth_noise(rng, size, size, 5)
    for _ in range(9):
        y, x = rng.integers(0, size - 120, 2)
        tall, wide = rng.integers(10, 110, 2)
        gain[y:y + tall, x:x + wide] += rng.choice((-14, -8, 9))
    image = np.full((size, size, 4), 128, np.uint8)
    _add_noise(image, gain - 128)
    return _pyramid(image)[:4]


def _make_sky(rng: Rng, light: _Light, width: int, height: int) -> Image:
    """Draw the sky over three frame widths, horizon in the last row."""
    ramp = np.linspace(0, 1, height)[:, None, None] ** 1.5
    sky = np.array(light.zenith) * (1 - ramp) + np.array(light.horizon) * ramp
    cover = sum(_smooth_noise(rng, height, 3 * width, n) / n ** 0.5 for n in (3, 6, 12, 24))
    alpha = np.clip(np.asarray(cover) * 0.9 + light.cloud, 0, 1)[..., None] * 0.85
    shade = 238 - 26 * np.clip(_smooth_noise(rng, height, 3 * width, 8), -1, 2)[..., None]
    cloud = shade * np.array(light.horizon) / max(light.horizon)
    image = np.full((height, 3 * width, 4), SKY, np.uint8)
    image[..., :3] = np.clip(sky * (1 - alpha) + cloud * alpha, 0, 255)
    return image


def _make_skyline(rng: Rng, light: _Light, width: int, height: int) -> Image:
    """Draw far houses and trees over three frame widths, the ground in the last row."""
    image = np.zeros((height, 3 * width, 4), np.uint8)
    haze = np.array(light.horizon)
    left = 0
    while left < 3 * width:
        wide = int(rng.integers(max(2, width // 40), max(4, width // 9)))
        top = int(height * rng.uniform(0.45, 0.85))
        wall = np.array(_pick(rng, WALLS)) * 0.55 * light.shaded + haze * 0.4
        cv2.rectangle(image, (left, top), (left + wide, height), (*wall.tolist(), BUILDING), -1)
        left += wide
    for _ in range(int(rng.integers(60, 220))):
        center = (int(rng.integers(3 * width)), int(height * rng.uniform(0.75, 1.1)))
        leaf = np.array((52.0, 60.0, 40.0)) * rng.uniform(0.6, 1.1) * 0.7 + haze * 0.3
        radius = max(1, int(height * rng.uniform(0.1, 0.3)))
        cv2.circle(image, center, radius, (*leaf.tolist(), TREE), -1)
    return image


def _extrude(
    profile: Outline, inset: float, roles: Sequence[str],
) -> list[tuple[Points, str]]:
    """Turn a side view (rear at 0, front at 1) into outward faces; the last role is the side."""
    low, high = min(y for _, y in profile), max(y for _, y in profile)

    def half(y: float) -> float:
        return 0.5 - inset * (y - low) / (high - low)

    left = np.array([(-half(y), y, z - 0.5) for z, y in profile])
    right = left * (-1, 1, 1)
    count = len(profile)
    faces = []
    for i in range(count):
        j = (i + 1) % count
        faces.append((np.array((left[i], left[j], right[j], right[i])), roles[i]))
    return [*faces, (left[::-1], roles[-1]), (right, roles[-1])]


def _on_sides(outline: Outline, x: float, role: str) -> list[tuple[Points, str]]:
    left = np.array([(-x, y, z - 0.5) for z, y in outline])
    return [(left[::-1], role), (left * (-1, 1, 1), role)]


def _on_end(box: tuple[float, float, float, float], z: float, role: str) -> tuple[Points, str]:
    left, low, right, high = box
    face = np.array(((left, low, z), (left, high, z), (right, high, z), (right, low, z)))
    return (face if z < 0 else face[::-1]), role


def _make_car(van: bool) -> _Mesh:
    """Build a unit-sized vehicle whose rear is at z = -0.5 and whose wheels stand on y = 0."""
    turns = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    if van:
        body: Outline = (
            (0, 0.15), (0, 0.97), (0.03, 1), (0.76, 1), (0.86, 0.62), (1, 0.48), (1, 0.15),
        )
        faces = _extrude(body, 0.03, ('end', 'top', 'top', 'glass', 'top', 'end', 'dark', 'paint'))
        faces += _on_sides(((0.64, 0.6), (0.64, 0.88), (0.76, 0.88), (0.83, 0.6)), 0.5, 'window')
        faces.append(_on_end((-0.4, 0.62, 0.4, 0.88), -0.501, 'window'))
    else:
        body = ((0, 0.16), (0, 0.5), (0.02, 0.62), (0.72, 0.62), (0.97, 0.5), (1, 0.42), (1, 0.16))
        faces = _extrude(body, 0.02, ('end', 'end', 'top', 'top', 'end', 'end', 'dark', 'paint'))
        cabin = ((0.03, 0.6), (0.14, 0.98), (0.2, 1), (0.5, 1), (0.74, 0.6))
        faces += _extrude(cabin, 0.1, ('glass', 'top', 'top', 'glass', 'dark', 'paint'))
        for window in (((0.11, 0.63), (0.18, 0.93), (0.35, 0.93), (0.36, 0.63)),
                       ((0.39, 0.63), (0.38, 0.93), (0.49, 0.93), (0.66, 0.63))):
            faces += [
                (face * (1 - 0.16 * (face[:, 1:2] - 0.63) * (1, 0, 0)), role)
                for face, role in _on_sides(window, 0.492, 'window')
            ]
    for wheel in (0.2, 0.82):
        radius = np.array((0.075, 0.2 if not van else 0.15))
        ring = np.stack((wheel - np.cos(turns) * radius[0],
                         radius[1] + np.sin(turns) * radius[1]), 1)
        hub = (ring - (wheel, radius[1])) * 0.55 + (wheel, radius[1])
        faces += _on_sides([tuple(p) for p in ring], 0.5, 'tire')
        faces += _on_sides([tuple(p) for p in hub], 0.505, 'hub')
    for x in (-0.46, 0.28):
        faces.append(_on_end((x, 0.0, x + 0.18, 0.17), -0.48, 'tire'))
        faces.append(_on_end((x, 0.0, x + 0.18, 0.17), 0.48, 'tire'))
        high = 0.5 if van else 0.42
        faces.append(_on_end((x, high, x + 0.18, high + 0.1), -0.502, 'tail'))
        faces.append(_on_end((x, 0.34, x + 0.18, 0.43), 0.502, 'lamp'))
    for z in (-0.502, 0.502):
        faces.append(_on_end((-0.48, 0.16, 0.48, 0.24), z, 'dark'))
        faces.append(_on_end((-0.14, 0.27, 0.14, 0.34), z * 1.002, 'plate'))
    faces.append(_on_end((-0.24, 0.35, 0.24, 0.42), 0.502, 'dark'))
    stops = np.cumsum([len(points) for points, _ in faces])
    starts = np.concatenate([[0], stops[:-1]])
    following = np.arange(stops[-1]) + 1
    following[stops - 1] = starts
    roles = tuple(role for _, role in faces)
    return _Mesh(np.concatenate([points for points, _ in faces]), following, starts, stops, roles)


def _make_light(rng: Rng) -> _Light:
    weather = rng.choice(('sunny', 'bright', 'overcast', 'dusk'), p=(0.35, 0.25, 0.25, 0.15))
    warm = float(rng.uniform(-0.06, 0.08))
    cast = (1 + warm, 1.0, 1 - warm)
    side = int(rng.choice((-1, 1)))
    if weather == 'sunny':
        blue = float(rng.uniform(0.7, 1.1))
        return _Light(side, True, 1.12, 0.6, 0.5, (88 * blue, 138 * blue, 205.0),
                      (205, 220, 235), float(rng.uniform(-0.9, 0.2)),
                      float(rng.uniform(0.85, 1.15)), cast)
    if weather == 'bright':
        return _Light(side, False, 0.95, 0.72, 0.75, (226, 232, 240), (248, 249, 250), 0.5,
                      float(rng.uniform(0.85, 1.15)), cast)
    if weather == 'overcast':
        return _Light(side, False, 0.85, 0.75, 0.78, (172, 178, 186), (222, 225, 228), 0.3,
                      float(rng.uniform(0.75, 1.1)), cast)
    return _Light(side, False, 0.6, 0.45, 0.8, (110, 122, 148), (224, 204, 180), 0.1,
                  float(rng.uniform(0.6, 0.95)), (1.06, 1.0, 0.96))


@lru_cache(maxsize=1024)
def _tone_table(horizon: Color, gain: float, step: int) -> Image:
    """
    Tabulate `_View.tone` for textures, labels unchanged.

    `step` counts eighths of the log of the depth, few enough for the tables to be reused.

    """
    haze = 1 - math.exp(-math.exp(step / 8) / HAZE)
    ramp = np.arange(256.0)[:, None]
    table = np.empty((1, 256, 4), np.uint8)
    table[0, :, :3] = np.minimum(ramp * gain, 255) * (1 - haze) + np.array(horizon) * haze
    table[0, :, 3] = ramp[:, 0]
    return table


@lru_cache(maxsize=4096)
def _car_looks(variant: int) -> tuple[bool, Points, Color]:
    """Return whether a car is a van, its width, height and length, and its paint."""
    rng = np.random.default_rng(variant)
    if rng.random() < 0.13:
        return True, rng.uniform((1.9, 1.9, 4.6), (2.1, 2.7, 5.6)), _pick(rng, PAINTS, 8)
    return False, rng.uniform((1.65, 1.35, 3.7), (1.85, 1.6, 4.6)), _pick(rng, PAINTS, 8)


@lru_cache(maxsize=4096)
def _mover_looks(seed: int, number: int, cycle: int) -> tuple[int, float]:
    """Return the variant and the height of a mover on its `cycle`-th pass."""
    rng = np.random.default_rng((seed, 2, number, cycle & 0xFFFFFFFF))
    return int(rng.integers(1 << 16)), float(rng.uniform(1.5, 1.9))


class _View:
    """
    The canvas of one frame and the camera that looks at it.

    World points are (across, up, along): meters to the right of the road's center line, above the
    ground, and along the street.

    """

    def __init__(
        self, width: int, height: int, focal: float, horizon: float, eye: Points, light: _Light,
        bend: Callable[[Points], Points],
    ) -> None:
        self.canvas = np.empty((height, width, 4), np.uint8)
        self.width, self.height = width, height
        self.focal, self.horizon, self.eye, self.light = focal, horizon, eye, light
        self._bend = bend
        step = 1.0
        self._bend_here = float(bend(eye[2:])[0])
        self.slope = (float(bend(eye[2:] + step)[0]) - self._bend_here) / step

    def sway(self, depth: Points) -> Points:
        """Return how far the road has swerved to the right at `depth` meters ahead."""
        return self._bend(depth + self.eye[2]) - self._bend_here - self.slope * depth

    def project(self, points: Points) -> Points:
        # Edges that cross the near plane all run along the street, where clamping is clipping.
        depth = np.maximum(points[:, 2] - self.eye[2], NEAR)
        scale = self.focal / depth
        result = np.empty((len(points), 2))
        result[:, 0] = self.width / 2 + (points[:, 0] - self.eye[0] + self.sway(depth)) * scale
        result[:, 1] = self.horizon + (self.eye[1] - points[:, 1]) * scale
        return result

    def tones(self, colors: Points, label: int, depth: float) -> list[tuple[float, ...]]:
        """Return `colors` behind the haze of `depth`, with their label."""
        haze = 1 - math.exp(-depth / HAZE)
        shades = np.minimum(colors, 255) * (1 - haze) + np.array(self.light.horizon) * haze
        return [(*shade, label) for shade in shades.tolist()]

    def tone(self, color: Color, label: int, gain: float, depth: float) -> tuple[float, ...]:
        """Return `color` under a light of `gain`, behind the haze of `depth`."""
        return self.tones(np.array([color]) * gain, label, depth)[0]

    def fill(self, pixels: Points, color: tuple[float, ...]) -> None:
        cv2.fillConvexPoly(self.canvas, np.rint(pixels).astype(np.int32), color)

    def panel(self, texture: list[Image], corners: Points, begin: float, tone: tuple[float, float],
              solid: bool = True) -> None:
        """
        Draw an upright rectangle whose projected `corners` go clockwise from the top left.

        `begin` is the fraction of its length that lies behind the camera; `tone` is its gain and
        depth.

        """
        (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
        box = (max(math.floor(x0), 0), max(math.floor(y0), 0),
               min(math.ceil(x1), self.width), min(math.ceil(y1), self.height))
        if box[2] <= box[0] or box[3] <= box[1]:
            return
        tall = max(abs(corners[3, 1] - corners[0, 1]), abs(corners[2, 1] - corners[1, 1]))
        fine = max(tall / texture[0].shape[0], (x1 - x0) / texture[0].shape[1], 1e-3)
        image = texture[min(len(texture) - 1, max(0, round(-math.log2(fine))))]
        rows, columns = image.shape[:2]
        left = begin * columns
        source = np.array([(left, 0), (columns, 0), (columns, rows), (left, rows)], np.float32)
        matrix = cv2.getPerspectiveTransform(source, (corners - box[:2]).astype(np.float32))
        self._warp(image, np.asarray(matrix, np.float64), box, tone, solid)

    def sprite(
        self, texture: list[Image], foot: Points, height: float, tone: tuple[float, float],
    ) -> None:
        """Draw an upright picture, standing at the pixel `foot`, that faces the camera."""
        x, y = foot
        tall = height * self.focal / tone[1]
        wide = tall * texture[0].shape[1] / texture[0].shape[0]
        box = (max(int(x - wide / 2), 0), max(int(y - tall), 0),
               min(int(x + wide / 2) + 1, self.width), min(int(y) + 1, self.height))
        if box[2] <= box[0] or box[3] <= box[1]:
            return
        level = round(math.log2(max(texture[0].shape[0] / tall, 1)))
        image = texture[min(level, len(texture) - 1)]
        scale = tall / image.shape[0]
        left, top = x - wide / 2 - box[0], y - tall - box[1]
        matrix = np.array([(scale, 0, left), (0, scale, top), (0, 0, 1)])
        self._warp(image, matrix, box, tone, solid=False)

    def _warp(
        self, image: Image, matrix: Points, box: tuple[int, int, int, int],
        tone: tuple[float, float], solid: bool,
    ) -> None:
        x0, y0, x1, y1 = box
        gain, depth = tone
        table = _tone_table(self.light.horizon, gain, round(8 * math.log(max(depth, NEAR))))
        # Only where the whole texture has one label may pixels be mixed: the label is the mask.
        flags = cv2.INTER_LINEAR if solid else cv2.INTER_NEAREST
        # The table costs as much as the warp, so it goes to the smaller side of it.
        early = image.shape[0] * image.shape[1] < (x1 - x0) * (y1 - y0)
        source = cv2.LUT(image, table) if early else image
        patch = cv2.warpPerspective(source, matrix, (x1 - x0, y1 - y0), flags=flags)
        if not early:
            patch = cv2.LUT(patch, table)
        mask: Image = cv2.extractChannel(patch, 3)
        if solid:
            label = int(image[0, 0, 3])
            mask = cv2.inRange(mask, np.array([label]), np.array([label]))
        cv2.copyTo(patch, mask, self.canvas[y0:y1, x0:x1])

    def mesh(
        self, mesh: _Mesh, foot: tuple[float, float, float], size: Points, ahead: bool,
        colors: dict[str, tuple[float, ...]],
    ) -> None:
        turned = size if ahead else size * (-1, 1, -1)
        pixels = self.project(mesh.points * turned + np.array(foot))
        x, y = pixels.T
        areas = np.add.reduceat(x * y[mesh.following] - x[mesh.following] * y, mesh.starts)
        corners = np.rint(pixels).astype(np.int32)
        for i in np.flatnonzero(areas > 0).tolist():
            face = corners[mesh.starts[i]:mesh.stops[i]]
            cv2.fillConvexPoly(self.canvas, face, colors[mesh.roles[i]])


class StreetScene:
    """
    An endless street as the forward camera of a car sees it, with exact labels.

    Parameters
    ----------
    width, height
        Size of the frames in pixels, 64 to 4096 each.
    seed
        Which street: its houses, plants, traffic, light and camera all follow from it.
    speed
        Speed of the camera in m/s, 0 to 60.

    Raises
    ------
    ValueError
        If a size, the seed or the speed is outside its range.

    Notes
    -----
    Road markings are road, trunks and hedges are tree, and vans are car, as in CamVid.

    """

    def __init__(
        self, width: int = 480, height: int = 360, seed: int = 0, speed: float = 8.0,
    ) -> None:
        for name, size in (('width', width), ('height', height)):
            if not MIN_SIZE <= size <= MAX_SIZE:
                raise ValueError(f'{name} is {size}, must be {MIN_SIZE} to {MAX_SIZE}')
        if seed < 0:
            raise ValueError(f'seed is {seed}, must be 0 or more')
        if not 0 <= speed <= MAX_SPEED:
            raise ValueError(f'speed is {speed}, must be 0 to {MAX_SPEED:g} m/s')
        self._width, self._height, self._seed, self._speed = width, height, seed, speed
        rng = np.random.default_rng(seed)
        self._light = _make_light(rng)
        self._lay_out(rng)
        self._make_textures(rng)
        self._make_lens(rng)
        self._movers = self._make_movers(rng)
        self._cars = (_make_car(van=False), _make_car(van=True))
        self._lots: dict[tuple[int, int], _Lot] = {}

    @property
    def camera_matrix(self) -> Points:
        """
        Pinhole intrinsics of the camera, 3x3.

        The camera looks level along the street; the principal point lies on the mean horizon.
        """
        return np.array([[self._focal, 0.0, self._width / 2], [0.0, self._focal, self._horizon],
                         [0.0, 0.0, 1.0]])

    def render(self, time: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """
        Draw the street at one time.

        Parameters
        ----------
        time
            Seconds since the start of the drive; any finite number.

        Returns
        -------
        frame
            RGB image, (height, width, 3) uint8.
        labels
            Class ids, (height, width) uint8, every pixel in 0 to 10.

        Raises
        ------
        ValueError
            If the time is not finite.

        """
        if not math.isfinite(time):
            raise ValueError(f'time is {time}, must be finite')
        time = float(time) + 0.0
        view = self._look(time)
        self._draw_sky(view)
        self._draw_ground(view)
        lots = self._visible_lots(view)
        movers = self._visible_movers(time)
        things = [thing for lot in lots for thing in lot.things] + movers
        things = [thing for thing in things
                  if (-1.5 if thing.kind in CARS else 1) < thing.along - view.eye[2] < SIGHT]
        self._draw_shade(view, lots, things)
        feet = view.project(np.array([(thing.across, 0.0, thing.along) for thing in things]))
        # A lot comes before all that stands along it, so it counts as far as its far end.
        order = [(-lot.start - LOT, 0, i) for i, lot in enumerate(lots)]
        order += [(-thing.along, 1, i) for i, thing in enumerate(things)]
        for _, is_thing, i in sorted(order):
            if is_thing:
                self._draw_thing(view, things[i], feet[i], time)
            else:
                self._draw_lot(view, lots[i])
        return self._develop(view.canvas, time), view.canvas[..., 3].copy()

    def _lay_out(self, rng: Rng) -> None:
        self._drive_side = int(rng.choice((-1, 1), p=(0.7, 0.3)))
        self._lanes = int(rng.choice((1, 2), p=(0.8, 0.2)))
        self._parking = float(rng.choice((0.0, 2.2), p=(0.6, 0.4)))
        self._half = self._lanes * LANE + self._parking + float(rng.uniform(0, 0.5))
        self._pavement = float(rng.uniform(2.6, 5.4))
        self._density = float(rng.uniform(0.35, 1.0))
        self._leafy = float(rng.choice((0.15, 0.85)))
        kinds = ('terrace', 'city', 'suburb', 'park', 'terrace', 'suburb')
        self._blocks = {side: rng.permutation(kinds) for side in (-1, 1)}
        self._swerve = rng.uniform(0, 2 * math.pi, 2), rng.uniform(0.3, 1.0, 2) * (9, 2.2)
        self._sway_phase = rng.uniform(0, 2 * math.pi, 4)
        self._focal = self._width * float(rng.uniform(0.8, 1.1))
        self._horizon = self._height * float(rng.uniform(0.45, 0.54))
        self._camera_height = float(rng.uniform(1.2, 1.6))
        self._edge_lines = str(rng.choice(('none', 'white', 'yellow')))
        gray = float(rng.uniform(74, 112))
        self._asphalt = (gray, gray * 1.005, gray * float(rng.uniform(1.0, 1.06)))
        stone = float(rng.uniform(112, 160))
        self._flags = (stone * 1.03, stone * float(rng.uniform(0.95, 1)), stone * 0.93)
        self._grass = _pick(rng, ((72, 92, 46), (92, 100, 58), (58, 82, 44)))

    def _make_textures(self, rng: Rng) -> None:
        light = self._light
        self._facades = [_make_facade(rng) for _ in range(9)]
        bare = rng.random(7) > self._leafy
        self._trees = [_make_bare_tree(rng) if b else _make_leafy_tree(rng) for b in bare]
        self._pedestrians = [_make_pedestrian(rng) for _ in range(8)]
        self._cyclists = [_make_cyclist(rng) for _ in range(4)]
        self._fences = {kind: _make_fence(rng, kind)
                        for kind in ('rail', 'wood', 'hedge', 'wall', 'park')}
        self._grain = _make_ground(rng)
        self._sky = _make_sky(rng, light, self._width, round(self._height * 0.66))
        self._skyline = _make_skyline(rng, light, self._width, max(6, round(self._height * 0.07)))

    def _make_lens(self, rng: Rng) -> None:
        y, x = np.ogrid[-1:1:self._height * 1j, -1:1:self._width * 1j]
        fall = 128 * (1 - float(rng.uniform(0.05, 0.22)) * (x * x + y * y) / 2)
        self._vignette = np.repeat(fall[..., None], 3, 2).astype(np.uint8)
        self._blur = float(rng.uniform(0.3, 0.75))
        self._contrast = float(rng.uniform(0.85, 1.2))
        size = (self._height + 64, self._width + 64, 3)
        noise = rng.standard_normal(size, np.float32) * float(rng.uniform(1.5, 5.0)) + 128.5
        self._noise = noise.astype(np.uint8)

    def _make_movers(self, rng: Rng) -> list[_Mover]:
        own, movers = self._drive_side, []
        oncoming, count = float(rng.uniform(6, 11)), int(rng.integers(2, 6))
        for lane in range(self._lanes):
            across = -own * LANE * (lane + 0.5)
            for i in range(count):
                phase = 160 * (i + float(rng.uniform(0, 0.6))) / count
                movers.append(_Mover('oncoming', across, -oncoming, phase, 160.0))
        if self._lanes == 2:
            movers += [_Mover('ahead', own * LANE * 1.5, 6.0, 45.0 * i, 150.0) for i in range(3)]
        gutter = self._half - self._parking - 0.6
        for side, speed in ((own, 5.0), (-own, -4.5)):
            movers.append(_Mover('cyclist', side * gutter, speed, float(rng.uniform(5, 40)), 75.0))
        for _ in range(round(16 + 20 * self._density)):
            side, speed = rng.choice((-1, 1)), rng.choice((-1, 1)) * rng.uniform(0.8, 1.6)
            across = side * (self._half + rng.uniform(0.4, self._pavement - 0.4))
            movers.append(
                _Mover('walker', float(across), float(speed), float(rng.uniform(0, 110)), 110.0))
        movers.append(_Mover('crossing', 0.0, 0.0, float(rng.uniform(0, 120)), 120.0))
        return movers

    def _bend(self, along: Points) -> Points:
        (phase, phase2), (swing, swing2) = self._swerve
        bend: Points = swing * np.sin(along / 75 + phase) + swing2 * np.sin(along / 31 + phase2)
        return bend

    def _look(self, time: float) -> _View:
        a, b, c, d = self._sway_phase
        along = self._speed * time
        lane = self._drive_side * LANE * 0.5
        eye = np.array([lane + 0.25 * math.sin(along / 40 + a),
                        self._camera_height + 0.015 * math.sin(7 * time + b), along])
        pitch = 0.004 * math.sin(1.3 * time + c) + 0.002 * math.sin(9 * time + d)
        horizon = self._horizon + min(self._focal, 2.0 * self._height) * pitch
        return _View(self._width, self._height, self._focal, horizon, eye, self._light, self._bend)

    def _rng(self, *key: int) -> Rng:
        return np.random.default_rng([self._seed, *(k & 0xFFFFFFFF for k in key)])

    def _visible_lots(self, view: _View) -> list[_Lot]:
        first = math.floor((view.eye[2] + NEAR) / LOT)
        if len(self._lots) > 400:
            self._lots.clear()
        keys = [(i, side) for i in range(first, first + int(SIGHT / LOT) + 1) for side in (-1, 1)]
        for key in keys:
            if key not in self._lots:
                self._lots[key] = self._make_lot(*key)
        return [self._lots[key] for key in keys]

    def _make_lot(self, index: int, side: int) -> _Lot:
        rng = self._rng(1, index, side)
        block, place = divmod(index, LOTS_PER_BLOCK)
        kind = str(self._blocks[side][block % len(self._blocks[side])])
        lot = _Lot(index * LOT, side, 'junction' if place == 0 and block % 2 else kind)
        if lot.kind == 'junction':
            self._furnish_junction(rng, lot)
            return lot
        if lot.kind in ('terrace', 'city'):
            cut = float(rng.uniform(0.4, 0.6)) * LOT if lot.kind == 'terrace' else LOT
            ends = [0.0, cut, LOT] if cut < LOT else [0.0, LOT]
            for start, stop in pairwise(ends):
                lot.buildings.append(self._make_building(rng, lot, start, stop, 0.0))
        elif lot.kind == 'suburb':
            start, setback = float(rng.uniform(0, 2.5)), float(rng.uniform(3, 6))
            stop = LOT - float(rng.uniform(0, 2.0))
            lot.buildings.append(self._make_building(rng, lot, start, stop, setback))
            lot.border = str(rng.choice(('wood', 'hedge', 'wall', 'park', 'wood')))
            lot.border_height = float(rng.uniform(0.8, 1.8))
            if rng.random() < 0.5:
                self._plant(rng, lot, self._half + self._pavement + 1.6)
        else:
            lot.border, lot.border_height = 'park', float(rng.uniform(1.1, 1.6))
            for _ in range(int(rng.integers(2, 5))):
                self._plant(rng, lot, self._half + self._pavement + float(rng.uniform(1.5, 16)))
        self._furnish(rng, lot, place)
        return lot

    def _make_building(
        self, rng: Rng, lot: _Lot, start: float, stop: float, setback: float,
    ) -> _Building:
        facade = int(rng.integers(len(self._facades)))
        storeys = self._facades[facade].floors + (1 if lot.kind == 'city' else 0)
        ridge = float(rng.uniform(1.5, 3.2)) if lot.kind != 'city' and rng.random() < 0.8 else 0.0
        height = storeys * float(rng.uniform(2.9, 3.6))
        return _Building(lot.start + start, lot.start + stop, setback, height, ridge, facade)

    def _plant(self, rng: Rng, lot: _Lot, across: float) -> None:
        along = lot.start + float(rng.uniform(0, LOT))
        height, variant = float(rng.uniform(5, 12)), int(rng.integers(len(self._trees)))
        lot.things.append(_Thing('tree', along, lot.side * across, height, variant))

    def _furnish_junction(self, rng: Rng, lot: _Lot) -> None:
        across = lot.side * (self._half + 0.5)
        for along in (lot.start - 0.5, lot.start + LOT + 0.5):
            lot.things.append(
                _Thing('signal', along, across, 3.2, int(rng.integers(1 << 16))))

    def _furnish(self, rng: Rng, lot: _Lot, place: int) -> None:
        """Set up what stands along the kerb."""
        def add(kind: str, inward: float, height: float, chance: float) -> None:
            if rng.random() < chance:
                along = lot.start + float(rng.uniform(0.05, 0.95)) * LOT
                across = lot.side * (self._half + inward)
                variant = int(rng.integers(1 << 16))
                lot.things.append(_Thing(kind, along, across, height, variant))

        if (place + (lot.side > 0)) % 2:
            add('lamp', 0.5, float(rng.uniform(6, 9)), 1.0)
        add('sign', 0.5, float(rng.uniform(2.3, 3.2)), 0.5)
        add('board', 0.9, float(rng.uniform(1.9, 2.8)), 0.12)
        add('bollard', 0.4, 1.0, 0.3 if lot.kind != 'park' else 0.1)
        if place in (1, 4) and rng.random() < 0.5:
            lot.things.append(_Thing('rail', lot.start + LOT * 0.99,
                                     lot.side * (self._half + 0.25), 1.1, 0))
        if rng.random() < (0.45 if lot.kind in ('park', 'suburb') else 0.25):
            self._plant(rng, lot, self._half + 0.8)
        if self._parking:
            for slot in (0.27, 0.78):
                if rng.random() < 0.6 * self._density:
                    facing = 'parked' if lot.side == self._drive_side else 'facing'
                    along = lot.start + slot * LOT + float(rng.uniform(-0.3, 0.3))
                    across = lot.side * (self._half - 1.05)
                    variant = int(rng.integers(1 << 16))
                    lot.things.append(_Thing(facing, along, across, 1.5, variant))

    def _visible_movers(self, time: float) -> list[_Thing]:
        here = self._speed * time
        wave = 5 * math.sin(0.23 * time + self._sway_phase[0])
        lead = _Thing('ahead', here + 22 + 20 * (1 - self._density) + wave,
                      self._drive_side * LANE * 0.5, 1.5, self._seed * 7919 & 0xFFFF)
        things = [lead]
        for number, mover in enumerate(self._movers):
            travelled = mover.phase + (mover.speed - self._speed) * time
            cycle, ahead = divmod(travelled, mover.span)
            variant, height = _mover_looks(self._seed, number, int(cycle))
            across = mover.across
            if mover.kind == 'crossing':
                across = (self._half + 3) * math.sin(0.15 * time + mover.phase)
            things.append(_Thing(mover.kind, here + ahead - 5, across, height, variant))
        return things

    def _draw_sky(self, view: _View) -> None:
        rows = min(self._height, math.ceil(view.horizon) + 1)
        turn = int(self._width - view.slope * self._focal) % (2 * self._width)
        sky = self._sky[max(0, len(self._sky) - rows):, turn:turn + self._width]
        view.canvas[rows - len(sky):rows] = sky
        # Very wide frames nod by more than the sky has to spare.
        view.canvas[:rows - len(sky)] = sky[0]
        skyline = self._skyline[:, turn:turn + self._width]
        target = view.canvas[rows - len(skyline):rows]
        cv2.copyTo(skyline, np.ascontiguousarray(skyline[..., 3]), target)

    def _draw_ground(self, view: _View) -> None:
        gain = (self._light.lit + self._light.shaded) / 2
        top = math.ceil(view.horizon) + 1
        grass = view.tone(self._grass, TREE, gain, 5)
        _rectangle(view.canvas, 0, top, self._width, self._height, grass)
        depths = np.concatenate([np.geomspace(NEAR, 60, 16), np.geomspace(70, FAR, 8)])
        along = depths + view.eye[2]
        half, outer = self._half, self._half + self._pavement
        strips: list[tuple[float, float, Color, int]] = [
            (-outer - 1.5, outer + 1.5, self._flags, PAVEMENT),
            (-half - 0.18, half + 0.18, _scaled(self._flags, 1.2), PAVEMENT),
            (-half, half, self._asphalt, ROAD),
            (-half, 0.35 - half, _scaled(self._asphalt, 0.8), ROAD),
            (half - 0.35, half, _scaled(self._asphalt, 0.8), ROAD),
        ]
        if self._edge_lines != 'none':
            paint = (222, 222, 216) if self._edge_lines == 'white' else (206, 172, 60)
            for side in (-1, 1):
                x = side * (half - self._parking - 0.45)
                strips.append((x - 0.06, x + 0.06, paint, ROAD))
        for left, right, color, label in strips:
            edges = np.zeros((2 * len(along), 3))
            edges[:, 2] = np.concatenate([along, along[::-1]])
            edges[:, 0] = np.repeat((left, right), len(along))
            pixels = np.rint(view.project(edges)).astype(np.int32)
            cv2.fillPoly(view.canvas, [pixels], view.tone(color, label, gain, 8))
        self._draw_junctions(view, gain)
        self._draw_markings(view, gain)
        self._apply_grain(view, top)

    def _draw_junctions(self, view: _View, gain: float) -> None:
        asphalt = view.tone(self._asphalt, ROAD, gain, 8)
        line = view.tone((214, 214, 208), ROAD, gain, 8)
        for lot in self._visible_lots(view):
            if lot.kind == 'junction':
                z0, z1 = lot.start, lot.start + LOT
                inner, outer = lot.side * (self._half - 0.1), lot.side * 60
                view.fill(view.project(_ground_box(inner, outer, z0 + 1.5, z1 - 1.5)), asphalt)
            elif lot.kind == 'city' and round(lot.start / LOT) % LOTS_PER_BLOCK == 2:
                for x in (np.arange(0.3, self._half - 0.6, 1.1) * lot.side).tolist():
                    if lot.start + 3 > view.eye[2] + NEAR:
                        bar = _ground_box(x, x + 0.55 * lot.side, lot.start, lot.start + 3)
                        view.fill(view.project(bar), line)

    def _draw_markings(self, view: _View, gain: float) -> None:
        period, dash = 6.0, 2.6
        first = math.floor(view.eye[2] / period)
        begin = (first + np.arange(14)) * period
        begin = begin[begin + dash > view.eye[2] + NEAR]
        color = view.tone((226, 226, 220), ROAD, gain, 8)
        lanes = [lane * LANE for lane in range(1 - self._lanes, self._lanes)]
        for x in lanes:
            quads = np.zeros((len(begin), 4, 3))
            quads[..., 0] = x + np.array((-0.07, 0.07, 0.07, -0.07))
            quads[..., 2] = begin[:, None] + np.array((0, 0, dash, dash))
            pixels = np.rint(view.project(quads.reshape(-1, 3))).astype(np.int32)
            cv2.fillPoly(view.canvas, list(pixels.reshape(-1, 4, 2)), color)

    def _apply_grain(self, view: _View, top: int) -> None:
        depth = view.focal * view.eye[1] / (np.arange(top, self._height) + 0.5 - view.horizon)
        column = (np.arange(self._width) + 0.5 - self._width / 2) / view.focal
        middle = view.eye[0] - view.sway(depth)
        # Far rows sample a coarser level, which keeps the grain from flickering.
        split = int(np.searchsorted(-depth, -14.0))
        for level, rows in ((3, slice(0, split)), (0, slice(split, None))):
            if not len(depth[rows]):
                continue
            scale = GROUND_RESOLUTION / 2 ** level
            map_x = (column * depth[rows, None] + middle[rows, None]) * scale
            map_y = np.repeat(((depth[rows] + view.eye[2]) % GROUND_TILE)[:, None] * scale,
                              self._width, 1)
            grain = cv2.remap(self._grain[level], map_x.astype(np.float32),
                              map_y.astype(np.float32), cv2.INTER_LINEAR,
                              borderMode=cv2.BORDER_WRAP)
            target = view.canvas[top:][rows]
            cv2.multiply(target, grain, target, 1 / 128)

    def _draw_shade(self, view: _View, lots: list[_Lot], things: list[_Thing]) -> None:
        light, top = self._light, math.ceil(view.horizon) + 1
        shade = np.full_like(view.canvas, 128)
        plain, shadow = view.canvas, 128 * light.shadow
        view.canvas = shade
        dark = (shadow, shadow, min(shadow * 1.06, 128), 128)
        shapes: list[tuple[Points, tuple[float, ...]]] = []
        for lot in lots:
            if light.sunny and lot.side == light.sun_side:
                for house in lot.buildings:
                    edge = lot.side * (self._half + self._pavement + house.setback)
                    reach = edge - lot.side * house.height * 0.75
                    shapes.append((_ground_box(edge, reach, house.start, house.stop, 1.0), dark))
        for thing in things:
            if thing.along - view.eye[2] < 60:
                shapes += self._shadows(thing, dark)
        if shapes:
            pixels = view.project(np.concatenate([points for points, _ in shapes]))
            splits = np.cumsum([len(points) for points, _ in shapes])[:-1]
            for corners, (_, color) in zip(np.split(pixels, splits), shapes, strict=True):
                view.fill(corners, color)
        view.canvas = plain
        cv2.multiply(plain[top:], shade[top:], plain[top:], 1 / 128)

    def _shadows(
        self, thing: _Thing, dark: tuple[float, ...],
    ) -> list[tuple[Points, tuple[float, ...]]]:
        """Return what darkens the ground around `thing`."""
        cast = -self._light.sun_side * 0.75 * self._light.sunny
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
            # Several small patches look dappled, as light through leaves does.
            spots = np.random.default_rng(thing.variant).normal(0, 0.16, (7, 3)) * (1, 0, 1)
            center = np.array((x + thing.height * cast * 0.8, 0.0, z))
            return [(center + thing.height * (ring * 0.13 + spot), dark) for spot in spots]
        if cast and thing.kind in ('lamp', 'sign', 'signal'):
            reach = x + thing.height * cast
            return [(_ground_box(x, reach, z - 0.08, z + 0.08, 0.7), dark)]
        return []

    def _gain(self, side: int) -> float:
        """Return the gain of a surface that faces the street from `side`."""
        return self._light.shaded if side == self._light.sun_side else self._light.lit

    def _draw_lot(self, view: _View, lot: _Lot) -> None:
        for i, house in reversed(list(enumerate(lot.buildings))):
            if house.stop > view.eye[2] + NEAR:
                covered = i > 0 and lot.buildings[i - 1].height >= house.height
                self._draw_building(view, lot.side, house, covered)
        if lot.border:
            edge = lot.side * (self._half + self._pavement)
            span = (lot.start, lot.start + LOT)
            self._draw_border(view, lot.border, edge, span, lot.border_height)

    def _draw_border(
        self, view: _View, kind: str, across: float, along: tuple[float, float], height: float,
    ) -> None:
        nearest = view.eye[2] + NEAR
        if along[1] > nearest:
            corners = np.array([(across, height, along[0]), (across, height, along[1]),
                                (across, 0, along[1]), (across, 0, along[0])])
            begin = max(0.0, (nearest - along[0]) / (along[1] - along[0]))
            tone = self._gain(1 if across > 0 else -1), max(along[0] - view.eye[2], NEAR)
            view.panel(self._fences[kind], view.project(corners), begin, tone, kind != 'rail')

    def _draw_building(
        self, view: _View, side: int, house: _Building, covered: bool,
    ) -> None:
        facade, gain = self._facades[house.facade], self._gain(side)
        edge = side * (self._half + self._pavement + house.setback)
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

    def _draw_thing(self, view: _View, thing: _Thing, foot: Points, time: float) -> None:
        side = 1 if thing.across > 0 else -1
        gain, depth = (self._gain(side) + self._light.lit) / 2, thing.along - view.eye[2]
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
            self._draw_post(view, thing, foot, gain, time)

    def _draw_car(self, view: _View, thing: _Thing, gain: float) -> None:
        van, size, paint = _car_looks(thing.variant)
        ahead = thing.kind in ('ahead', 'parked')
        lamps = 1.1 if thing.kind in ('ahead', 'oncoming') else 0.8
        plate = PLATES[ahead]
        shades = np.array([paint, _scaled(paint, 0.82), _scaled(paint, 1.12), *TRIM, plate]) * gain
        glow = np.array([(196, 24, 26), (240, 238, 226)]) * lamps
        depth = max(thing.along - view.eye[2], NEAR)
        colors = dict(zip(ROLES, view.tones(np.concatenate([shades, glow]), CAR, depth),
                          strict=True))
        view.mesh(self._cars[van], (thing.across, 0.0, thing.along), size, ahead, colors)

    def _draw_post(
        self, view: _View, thing: _Thing, foot: Points, gain: float, time: float,
    ) -> None:
        depth = thing.along - view.eye[2]
        scale = view.focal / depth
        x, y = foot
        steel = (96, 100, 100) if thing.variant % 3 else (48, 52, 50)
        color = view.tone(steel, POLE, gain, depth)
        thick = max((0.2 if thing.kind in ('bollard', 'lamp') else 0.13) * scale, 1.0)
        top = y - thing.height * scale
        if thing.kind != 'board':
            _rectangle(view.canvas, x - thick / 2, top, x + thick / 2, y, color)
        if thing.kind == 'lamp':
            inward = -1 if thing.across > 0 else 1
            reach = x + inward * 1.6 * scale
            _rectangle(view.canvas, min(x, reach), top - thick * 0.5, max(x, reach), top, color)
            head = reach + inward * 0.5 * scale
            _rectangle(view.canvas, min(head, reach), top - thick * 0.5, max(head, reach),
                       top + thick * 0.6, color)
        elif thing.kind == 'sign':
            self._draw_sign(view, thing, (x, top), scale, gain)
        elif thing.kind == 'signal':
            self._draw_signal(view, thing, (x, top), scale, time)
        elif thing.kind == 'board':
            wide = (0.5 + thing.variant % 5 * 0.12) * scale
            panel = view.tone(SIGNALS[thing.variant % 3], SIGN, gain, depth)
            inset = view.tone(PAINTS[thing.variant % len(PAINTS)], SIGN, gain * 1.1, depth)
            _rectangle(view.canvas, x - wide, top, x + wide, y, panel)
            _rectangle(view.canvas, x - wide * 0.8, top + wide * 0.6, x + wide * 0.8,
                       y - wide * 0.7, inset)

    def _draw_sign(
        self, view: _View, thing: _Thing, top: tuple[float, float], scale: float, gain: float,
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
            _rectangle(view.canvas, x - radius, y - tall, x + radius, y + radius, blue)
            _rectangle(view.canvas, x - radius * 0.6, y - tall * 0.5, x + radius * 0.6,
                       y + radius * 0.3, face)

    def _draw_signal(
        self, view: _View, thing: _Thing, top: tuple[float, float], scale: float, time: float,
    ) -> None:
        (x, y), wide = top, max(0.2 * scale, 1.0)
        box = view.tone((20, 22, 22), SIGN, 1.0, thing.along - view.eye[2])
        _rectangle(view.canvas, x - wide, y, x + wide, y + wide * 5, box)
        lit = int(time / 4 + thing.variant) % 3
        for i, glow in enumerate(((250, 50, 40), (250, 180, 40), (60, 240, 140))):
            color = (*_scaled(glow, 1.0 if i == lit else 0.2), SIGN)
            center = (round(x), round(y + wide * (0.9 + 1.6 * i)))
            cv2.circle(view.canvas, center, round(wide * 0.6), color, -1)

    def _develop(self, canvas: Image, time: float) -> NDArray[np.uint8]:
        """Turn the canvas into what the sensor delivers."""
        frame = cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB)
        cv2.GaussianBlur(frame, (3, 3), self._blur, frame)
        cv2.multiply(frame, self._vignette, frame, 1 / 128)
        exposure = self._light.exposure * (1 + 0.05 * math.sin(0.4 * time + self._sway_phase[1]))
        ramp = np.arange(256.0)[:, None] / 255 * exposure * np.array(self._light.cast)
        table = (255 * np.clip(ramp, 0, 1) ** self._contrast).astype(np.uint8)
        frame = cv2.LUT(frame, table[None])
        rng = self._rng(3, *np.array([time]).view(np.uint32).tolist())
        top, left = rng.integers(0, 64, 2)
        noise = self._noise[top:top + self._height, left:left + self._width]
        return np.asarray(cv2.addWeighted(frame, 1, noise, 1, -128), dtype=np.uint8)


def _ground_box(
    left: float, right: float, near: float, far: float, slant: float = 0.0,
) -> Points:
    """Return the corners of a box on the ground whose right edge is `slant` meters ahead."""
    return np.array([(left, 0, near), (left, 0, far), (right, 0, far + slant),
                     (right, 0, near + slant)])


def _rectangle(
    canvas: Image, left: float, top: float, right: float, bottom: float, color: tuple[float, ...],
) -> None:
    """Fill a rectangle at least one pixel wide."""
    cv2.rectangle(canvas, (round(left), round(top)),
                  (max(round(right) - 1, round(left)), max(round(bottom) - 1, round(top))),
                  color, -1)
