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

"""What lies behind the street: sky and skyline."""

import cv2
from lednet_ros.synthetic.basics import BUILDING, Image, pick, Rng, SKY, TREE, WALLS
from lednet_ros.synthetic.light import Light
from lednet_ros.synthetic.textures import smooth_noise
from lednet_ros.synthetic.view import View
import numpy as np


class Backdrop:
    """
    Sky and skyline, painted over three frame widths so that the camera can turn.

    Parameters
    ----------
    rng
        Source of clouds, houses and trees.
    light
        The light of the drive.
    width, height
        Size of the frames in pixels.

    """

    def __init__(self, rng: Rng, light: Light, width: int, height: int) -> None:
        self._sky = _make_sky(rng, light, width, round(height * 0.66))
        self._skyline = _make_skyline(rng, light, width, max(6, round(height * 0.07)))

    def draw(self, view: View) -> None:
        """Fill all of the canvas above the ground."""
        rows = min(view.height, view.ground_top)
        turn = int(view.width - view.slope * view.focal) % (2 * view.width)
        sky = self._sky[max(0, len(self._sky) - rows):, turn:turn + view.width]
        view.canvas[rows - len(sky):rows] = sky
        # Very wide frames nod by more than the sky has to spare.
        view.canvas[:rows - len(sky)] = sky[0]
        skyline = self._skyline[:, turn:turn + view.width]
        target = view.canvas[rows - len(skyline):rows]
        cv2.copyTo(skyline, np.ascontiguousarray(skyline[..., 3]), target)


def _make_sky(rng: Rng, light: Light, width: int, height: int) -> Image:
    """Draw the sky over three frame widths, horizon in the last row."""
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
    """Draw far houses and trees over three frame widths, the ground in the last row."""
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
