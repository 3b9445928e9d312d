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

"""Cars and vans: meshes of convex faces, and their looks."""

from collections.abc import Sequence
from functools import lru_cache
import math
from typing import NamedTuple, TypeAlias

from lednet_ros.synthetic.basics import Color, PAINTS, pick, Points, scaled
import numpy as np
from numpy.typing import NDArray

Outline: TypeAlias = Sequence[tuple[float, float]]

ROLES = ('paint', 'end', 'top', 'glass', 'window', 'dark', 'tire', 'hub', 'plate', 'tail', 'lamp')
"""Roles of the faces of a mesh, which determine their colors."""

TRIM: tuple[Color, ...] = (
    (54, 62, 70), (34, 38, 44), (26, 26, 28), (22, 22, 23), (140, 142, 146),
)
FRONT_PLATE: Color = (228, 228, 226)
REAR_PLATE: Color = (226, 196, 60)
GLOW: tuple[Color, Color] = ((196, 24, 26), (240, 238, 226))


class Mesh(NamedTuple):
    """
    Convex faces with outward winding.

    Attributes
    ----------
    points
        Corners of all faces, one face after another, (n, 3).
    following
        Index of the next corner around the face, for each corner.
    starts, stops
        Indices of the first corner and of the one after the last, for each face.
    roles
        One of `ROLES` for each face.

    """

    points: Points
    following: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    roles: tuple[str, ...]


@lru_cache(maxsize=4096)
def car_looks(variant: int) -> tuple[bool, Points, Color]:
    """Return whether a car is a van, its width, height and length, and its color."""
    rng = np.random.default_rng(variant)
    if rng.random() < 0.13:
        return True, rng.uniform((1.9, 1.9, 4.6), (2.1, 2.7, 5.6)), pick(rng, PAINTS, 8)
    return False, rng.uniform((1.65, 1.35, 3.7), (1.85, 1.6, 4.6)), pick(rng, PAINTS, 8)


def role_colors(paint: Color, rear: bool, gain: float, lamps: float) -> Points:
    """
    Return the color of a car for each of `ROLES`, above 255 under strong light.

    `paint` is the color of the body, `rear` whether the rear is seen instead of the front, `gain`
    that of the light on everything but the lamps, and `lamps` the gain of those.
    """
    plate = REAR_PLATE if rear else FRONT_PLATE
    shades = np.array([paint, scaled(paint, 0.82), scaled(paint, 1.12), *TRIM, plate]) * gain
    return np.concatenate([shades, np.array(GLOW) * lamps])


def make_car(van: bool) -> Mesh:
    """Build a unit-sized vehicle whose rear is at z = -0.5 and whose wheels stand on y = 0."""
    faces = _van_body() if van else _car_body()
    turns = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    radius = np.array((0.075, 0.15 if van else 0.2))
    for wheel in (0.2, 0.82):
        center = np.array((wheel, radius[1]))
        ring = center + np.stack((-np.cos(turns), np.sin(turns)), 1) * radius
        faces += _on_sides(ring, 0.5, 'tire')
        faces += _on_sides((ring - center) * 0.55 + center, 0.505, 'hub')
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
    return Mesh(np.concatenate([points for points, _ in faces]), following, starts, stops, roles)


def _van_body() -> list[tuple[Points, str]]:
    body = ((0, 0.15), (0, 0.97), (0.03, 1), (0.76, 1), (0.86, 0.62), (1, 0.48), (1, 0.15))
    faces = _extrude(body, 0.03, ('end', 'top', 'top', 'glass', 'top', 'end', 'dark', 'paint'))
    faces += _on_sides(((0.64, 0.6), (0.64, 0.88), (0.76, 0.88), (0.83, 0.6)), 0.5, 'window')
    return [*faces, _on_end((-0.4, 0.62, 0.4, 0.88), -0.501, 'window')]


def _car_body() -> list[tuple[Points, str]]:
    body = ((0, 0.16), (0, 0.5), (0.02, 0.62), (0.72, 0.62), (0.97, 0.5), (1, 0.42), (1, 0.16))
    faces = _extrude(body, 0.02, ('end', 'end', 'top', 'top', 'end', 'end', 'dark', 'paint'))
    cabin = ((0.03, 0.6), (0.14, 0.98), (0.2, 1), (0.5, 1), (0.74, 0.6))
    faces += _extrude(cabin, 0.1, ('glass', 'top', 'top', 'glass', 'dark', 'paint'))
    for window in (((0.11, 0.63), (0.18, 0.93), (0.35, 0.93), (0.36, 0.63)),
                   ((0.39, 0.63), (0.38, 0.93), (0.49, 0.93), (0.66, 0.63))):
        for face, role in _on_sides(window, 0.492, 'window'):
            # The cabin narrows towards the roof, and the windows lean in with it.
            face[:, 0] *= 1 - 0.16 * (face[:, 1] - 0.63)
            faces.append((face, role))
    return faces


def _extrude(profile: Outline, inset: float, roles: Sequence[str]) -> list[tuple[Points, str]]:
    """Turn a side view (rear at 0, front at 1) into outward faces; the last role is the sides'."""
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


def _on_sides(outline: Outline | Points, x: float, role: str) -> list[tuple[Points, str]]:
    left = np.array([(-x, y, z - 0.5) for z, y in outline])
    return [(left[::-1], role), (left * (-1, 1, 1), role)]


def _on_end(box: tuple[float, float, float, float], z: float, role: str) -> tuple[Points, str]:
    left, low, right, high = box
    face = np.array(((left, low, z), (left, high, z), (right, high, z), (right, low, z)))
    return (face if z < 0 else face[::-1]), role
