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
Textures of upright and level surfaces: house walls, fences and the grain of the ground.

A texture has the channels of the canvas and is kept as a pyramid, a list of copies at halved
resolutions, finest first.
"""

from typing import Any, NamedTuple

import cv2
from lednet_ros.synthetic.basics import (
    BUILDING,
    CLOTHES,
    Color,
    FENCE,
    Image,
    pick,
    Rng,
    scaled,
    SIGNALS,
    TREE,
    WALLS,
)
import numpy as np
from numpy.typing import NDArray

GROUND_TILE = 32.0
"""Length and width after which the grain of the ground repeats."""
GROUND_RESOLUTION = 16
"""Pixels per meter of the grain of the ground."""


class Facade(NamedTuple):
    """
    Textures of one kind of house.

    Attributes
    ----------
    front, end
        Pyramids of the wall along the street and of the one across it.
    wall, roof
        Mean colors.
    floors
        Number of storeys.

    """

    front: list[Image]
    end: list[Image]
    wall: Color
    roof: Color
    floors: int


def smooth_noise(rng: Rng, height: int, width: int, cells: int) -> NDArray[np.float32]:
    """
    Draw (height, width) noise of zero mean and about unit deviation that wraps at the borders.

    `cells` is the number of bumps along each side.
    """
    grid = rng.normal(0, 1.4, (cells, cells)).astype(np.float32)
    grid = np.pad(grid, 2, mode='wrap')
    scale_y, scale_x = height / cells, width / cells
    large = cv2.resize(
        grid, (round((cells + 4) * scale_x), round((cells + 4) * scale_y)),
        interpolation=cv2.INTER_CUBIC,
    )
    top, left = round(2 * scale_y), round(2 * scale_x)
    return np.asarray(large[top:top + height, left:left + width], dtype=np.float32)


def make_pyramid(image: Image) -> list[Image]:
    """Return `image` and its halved copies; colors are averaged, labels are not."""
    levels = [image]
    while min(levels[-1].shape[:2]) >= 16:
        size = (levels[-1].shape[1] // 2, levels[-1].shape[0] // 2)
        half = cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA)
        half[..., 3] = cv2.resize(levels[-1][..., 3], size, interpolation=cv2.INTER_NEAREST)
        levels.append(half)
    return levels


def add_noise(image: Image, noise: NDArray[Any]) -> None:
    """Add `noise` to the color channels in place."""
    shift = np.clip(noise + 128.5, 0, 255).astype(np.uint8)
    shifts = cv2.merge([shift, shift, shift, np.full_like(shift, 128)])
    cv2.addWeighted(image, 1, shifts, 1, -128, image)


def _box(image: Image, left: float, top: float, right: float, bottom: float, color: Color) -> None:
    """Fill a box of a texture with a color; the label stays."""
    rows, columns = slice(int(top), int(bottom)), slice(int(left), int(right))
    image[rows, columns, :3] = color


def _make_wall(rng: Rng, wall: Color, size: int) -> Image:
    image = np.full((size, size, 4), (*wall, BUILDING), np.uint8)
    bricks = np.kron(rng.normal(0, rng.uniform(2, 9), (size // 4, size // 8)), np.ones((4, 8)))
    grime = 7 * smooth_noise(rng, size, size, 6) - np.linspace(0, 14, size)[:, None]
    add_noise(image, bricks + grime)
    return image


def _draw_window(
    rng: Rng, image: Image, box: tuple[float, float, float, float], frame: Color, glass: Color,
) -> None:
    left, top, right, bottom = box
    _box(image, left - 2, top - 5, right + 2, top, scaled(frame, 0.8))
    _box(image, left, top, right, bottom, frame)
    pane = scaled(glass, float(rng.uniform(0.5, 1.3)))
    middle, rail = (left + right) / 2, (top + bottom) / 2
    for x0, x1 in ((left + 2, middle - 1), (middle + 1, right - 2)):
        _box(image, x0, top + 2, x1, bottom - 2, pane)
        _box(image, x0, top + 2, x1, top + (rail - top) * 0.7, scaled(pane, 1.35))
        if rng.random() < 0.3:
            _box(image, x0, top + 2, (x0 + x1) / 2, bottom - 2, (176, 170, 160))
    if bottom - top > 30:
        _box(image, left, rail - 1, right, rail + 1, frame)
    _box(image, left - 3, bottom, right + 3, bottom + 4, scaled(frame, 0.65))


def _draw_shop(rng: Rng, image: Image, top: float) -> None:
    size = image.shape[0]
    fascia = pick(rng, SIGNALS + CLOTHES)
    _box(image, 4, top, size - 4, size, scaled(fascia, 0.6))
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
            _box(image, x, y, x + 10, y + 12, pick(rng, CLOTHES + SIGNALS))


def make_facade(rng: Rng) -> Facade:
    """Draw the street front and the end wall of one kind of house."""
    size = 320
    wall = pick(rng, WALLS)
    roof = pick(rng, ((88, 72, 66), (74, 76, 82), (120, 74, 58), (60, 58, 58)))
    floors = int(rng.choice((2, 2, 3, 3, 4, 5)))
    frame = (226, 224, 218) if rng.random() < 0.7 else (60, 56, 54)
    glass = (52.0, 62.0, 74.0)
    front, end = _make_wall(rng, wall, size), _make_wall(rng, scaled(wall, 0.92), size)
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
        _box(front, door - 16, size - storey * 0.74, door + 16, size, pick(rng, CLOTHES))
    _box(front, 0, 0, size, 8, scaled(roof, 1.2))
    _box(front, 0, 0, 3, size, scaled(wall, 0.6))
    return Facade(make_pyramid(front), make_pyramid(end), wall, roof, floors)


def make_fence(rng: Rng, kind: str) -> list[Image]:
    """
    Draw the border of one lot as a pyramid.

    `kind` is `hedge`, `wall`, `wood`, `park` or `rail`; only the rail is transparent in places.
    """
    height, width = 64, 512
    label = {'hedge': TREE, 'wall': BUILDING}.get(kind, FENCE)
    image = np.full((height, width, 4), (40, 52, 34, label), np.uint8)
    if kind == 'hedge':
        add_noise(image, 16 * smooth_noise(rng, height, width, 40) + 12)
    elif kind == 'wall':
        image[...] = _make_wall(rng, pick(rng, WALLS), width)[:height]
    elif kind == 'wood':
        boards = np.kron(rng.normal(0, 12, width // 8), np.ones(8))
        image[..., :3] = pick(rng, ((128, 96, 66), (108, 92, 78), (90, 66, 50)))
        add_noise(image, np.tile(boards, (height, 1)))
        image[:, ::8, :3] //= 2
    else:
        bar = pick(rng, ((30, 34, 32), (120, 124, 126), (170, 172, 172)))
        if kind == 'rail':
            image[..., 3] = 0
        # Bars, every eighth of them a post, and two rails.
        image[:, ::8] = image[:, 1::8] = image[:, 2::64] = (*bar, FENCE)
        image[:6] = image[-10:-6] = (*scaled(bar, 1.1), FENCE)
    return make_pyramid(image)


def make_grain(rng: Rng) -> list[Image]:
    """Draw the grain of the ground as gains in 1/128, a pyramid; the label's gain is one."""
    size = round(GROUND_TILE * GROUND_RESOLUTION)
    gain = 128 + rng.normal(0, 7, (size, size)) + 5 * smooth_noise(rng, size, size, 24)
    gain += 4 * smooth_noise(rng, size, size, 5)
    for _ in range(9):
        y, x = rng.integers(0, size - 120, 2)
        tall, wide = rng.integers(10, 110, 2)
        gain[y:y + tall, x:x + wide] += rng.choice((-14, -8, 9))
    image = np.full((size, size, 4), 128, np.uint8)
    add_noise(image, gain - 128)
    return make_pyramid(image)[:4]
