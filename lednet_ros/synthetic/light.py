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

"""The weather of a drive: sun, shade and sky colors."""

from typing import NamedTuple

from lednet_ros.synthetic.basics import Color, Rng


class Light(NamedTuple):
    """
    The light of a drive.

    Attributes
    ----------
    sun_side
        Side of the street where the sun stands: -1 is left, 1 is right.
    sunny
        Whether things cast shadows.
    lit, shaded
        Gains of surfaces turned to and from the sun.
    shadow
        Gain of ground in a shadow.
    zenith, horizon
        Colors of the sky; the horizon's is also that of the haze.
    cloud
        Cloud cover: -1 is clear, 1 is closed.
    exposure
        Gain of the camera.
    cast
        Gains of red, green and blue in the camera.

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
    """Draw the weather of a drive: sunny, bright, overcast or dusk."""
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
