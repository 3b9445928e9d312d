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

"""Classes, colors, array types and random draws that all parts of the street share."""

from collections.abc import Sequence
from typing import Any, TypeAlias

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
    Pick one of `colors` and vary it.

    Parameters
    ----------
    rng
        Source of the choice.
    colors
        What to choose from.
    spread
        Standard deviation of the brightness; hues vary by half of it.

    Returns
    -------
    Color
        Red, green and blue, 8 to 247.

    """
    base = np.array(colors[int(rng.integers(len(colors)))]) + rng.normal(0, spread, 3) * 0.5
    red, green, blue = np.clip(base + rng.normal(0, spread), 8, 247)
    return float(red), float(green), float(blue)


def scaled(color: Color, gain: float) -> Color:
    """Return `color` made brighter or darker by `gain`."""
    return color[0] * gain, color[1] * gain, color[2] * gain


def keyed_rng(seed: int, *key: int) -> Rng:
    """
    Return random numbers that do not depend on what was drawn before.

    Parameters
    ----------
    seed
        Seed of the street, 0 or more.
    *key
        What the numbers are for; any integers, of which the low 32 bits count.

    Returns
    -------
    Rng
        A new generator.

    """
    return np.random.default_rng([seed, *(k & 0xFFFFFFFF for k in key)])
