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

"""Classes, colors, array types, random draws and light that all parts of the street share."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[Any]
Points: TypeAlias = NDArray[np.floating[Any]]
Color: TypeAlias = tuple[float, float, float]
Rng: TypeAlias = np.random.Generator

CLASS_NAMES: tuple[str, ...] = (
    'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign_symbol', 'fence', 'car',
    'pedestrian', 'bicyclist',
)
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

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
SIGNALS: tuple[Color, ...] = (
    (200, 30, 36), (24, 70, 160), (20, 110, 70), (236, 200, 40), (236, 236, 232), (30, 30, 34),
)


def pick(rng: Rng, colors: Sequence[Color], spread: float = 12.0) -> Color:
    """
    Pick one of `colors` and vary it; red, green and blue are 8 to 247.

    `spread` is the standard deviation of the brightness; hues vary by half of it.
    """
    base = np.array(colors[int(rng.integers(len(colors)))]) + rng.normal(0, spread, 3) * 0.5
    red, green, blue = np.clip(base + rng.normal(0, spread), 8, 247)
    return float(red), float(green), float(blue)


def scaled(color: Color, gain: float) -> Color:
    """Return `color` made brighter or darker by `gain`."""
    return color[0] * gain, color[1] * gain, color[2] * gain


def keyed_rng(seed: int, *key: int) -> Rng:
    """
    Return a generator whose numbers do not depend on what was drawn before.

    `key` says what the numbers are for; the low 32 bits of each integer count.
    """
    return np.random.default_rng([seed, *(k & 0xFFFFFFFF for k in key)])


class Light(NamedTuple):
    """
    The light during a drive.

    Attributes
    ----------
    sun_side
        Side of the street where the sun stands.
    sunny
        Whether things cast shadows.
    lit, shaded
        Gains of surfaces that face the sun and of those that do not.
    shadow
        Gain of ground in a shadow.
    zenith, horizon
        Colors of the sky; haze has the color of the horizon.
    cloud
        Cloud cover: -1 is clear, 1 is overcast.
    exposure
        Gain of the camera.
    cast
        Gains of the camera for red, green and blue.

    """

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

    def gain(self, side: int) -> float:
        """Return the gain of a surface that faces the street from `side`."""
        return self.shaded if side == self.sun_side else self.lit


def make_light(rng: Rng) -> Light:
    """Choose the weather of a drive: sunny, bright, overcast or dusk."""
    weather = rng.choice(('sunny', 'bright', 'overcast', 'dusk'), p=(0.35, 0.25, 0.25, 0.15))
    warm = float(rng.uniform(-0.06, 0.08))
    cast = (1 + warm, 1.0, 1 - warm)
    side = int(rng.choice((-1, 1)))
    if weather == 'sunny':
        blue = float(rng.uniform(0.7, 1.1))
        return Light(
            side, sunny=True, lit=1.12, shaded=0.6, shadow=0.5,
            zenith=(88 * blue, 138 * blue, 205.0), horizon=(205, 220, 235),
            cloud=float(rng.uniform(-0.9, 0.2)), exposure=float(rng.uniform(0.85, 1.15)),
            cast=cast,
        )
    if weather == 'bright':
        return Light(
            side, sunny=False, lit=0.95, shaded=0.72, shadow=0.75,
            zenith=(226, 232, 240), horizon=(248, 249, 250),
            cloud=0.5, exposure=float(rng.uniform(0.85, 1.15)), cast=cast,
        )
    if weather == 'overcast':
        return Light(
            side, sunny=False, lit=0.85, shaded=0.75, shadow=0.78,
            zenith=(172, 178, 186), horizon=(222, 225, 228),
            cloud=0.3, exposure=float(rng.uniform(0.75, 1.1)), cast=cast,
        )
    return Light(
        side, sunny=False, lit=0.6, shaded=0.45, shadow=0.8,
        zenith=(110, 122, 148), horizon=(224, 204, 180),
        cloud=0.1, exposure=float(rng.uniform(0.6, 0.95)), cast=(1.06, 1.0, 0.96),
    )
