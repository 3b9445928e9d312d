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

"""The camera: its way along the street, and what its lens and sensor make of the view."""

import math

import cv2
from lednet_ros.synthetic.basics import Image, keyed_rng, Points, Rng
from lednet_ros.synthetic.layout import LANE, Plan
from lednet_ros.synthetic.light import Light
from lednet_ros.synthetic.view import View
import numpy as np
from numpy.typing import NDArray


class Camera:
    """
    A level pinhole camera that drives along the street.

    Parameters
    ----------
    rng
        Source of its intrinsics and height.
    width, height
        Size of the frames in pixels.
    speed
        Its speed in m/s.
    plan
        The plan of the street.
    light
        The light of the drive.

    """

    def __init__(
        self, rng: Rng, width: int, height: int, speed: float, plan: Plan, light: Light,
    ) -> None:
        self._width, self._height, self._speed = width, height, speed
        self._plan, self._light = plan, light
        self._focal = width * float(rng.uniform(0.8, 1.1))
        self._horizon = height * float(rng.uniform(0.45, 0.54))
        self._eye_height = float(rng.uniform(1.2, 1.6))

    @property
    def matrix(self) -> Points:
        """Pinhole intrinsics, 3x3."""
        return np.array([[self._focal, 0.0, self._width / 2], [0.0, self._focal, self._horizon],
                         [0.0, 0.0, 1.0]])

    def look(self, time: float) -> View:
        """Return the view at `time`, its canvas not drawn yet."""
        a, b, c, d = self._plan.phases
        along = self._speed * time
        lane = self._plan.drive_side * LANE * 0.5
        eye = np.array([lane + 0.25 * math.sin(along / 40 + a),
                        self._eye_height + 0.015 * math.sin(7 * time + b), along])
        pitch = 0.004 * math.sin(1.3 * time + c) + 0.002 * math.sin(9 * time + d)
        horizon = self._horizon + min(self._focal, 2.0 * self._height) * pitch
        return View(self._width, self._height, self._focal, horizon, eye, self._light,
                    self._plan.bend)


class Sensor:
    """
    Lens and sensor: blur, vignette, exposure, contrast and noise.

    Parameters
    ----------
    rng
        Source of its flaws.
    width, height
        Size of the frames in pixels.
    seed
        The seed of the street.
    plan
        The plan of the street.
    light
        The light of the drive.

    """

    def __init__(
        self, rng: Rng, width: int, height: int, seed: int, plan: Plan, light: Light,
    ) -> None:
        self._width, self._height, self._seed = width, height, seed
        self._plan, self._light = plan, light
        y, x = np.ogrid[-1:1:height * 1j, -1:1:width * 1j]
        fall = 128 * (1 - float(rng.uniform(0.05, 0.22)) * (x * x + y * y) / 2)
        self._vignette = np.repeat(fall[..., None], 3, 2).astype(np.uint8)
        self._blur = float(rng.uniform(0.3, 0.75))
        self._contrast = float(rng.uniform(0.85, 1.2))
        size = (height + 64, width + 64, 3)
        noise = rng.standard_normal(size, np.float32) * float(rng.uniform(1.5, 5.0)) + 128.5
        self._noise = noise.astype(np.uint8)

    def develop(self, canvas: Image, time: float) -> NDArray[np.uint8]:
        """Turn the canvas into what the sensor delivers at `time`, (height, width, 3) RGB."""
        frame = cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB)
        cv2.GaussianBlur(frame, (3, 3), self._blur, frame)
        cv2.multiply(frame, self._vignette, frame, 1 / 128)
        exposure = self._light.exposure * (1 + 0.05 * math.sin(0.4 * time + self._plan.phases[1]))
        ramp = np.arange(256.0)[:, None] / 255 * exposure * np.array(self._light.cast)
        table = (255 * np.clip(ramp, 0, 1) ** self._contrast).astype(np.uint8)
        frame = cv2.LUT(frame, table[None])
        # The bits of the time, since frames at any two times differ in noise.
        bits = np.array([time]).view(np.uint32).tolist()
        top, left = keyed_rng(self._seed, 3, *bits).integers(0, 64, 2)
        noise = self._noise[top:top + self._height, left:left + self._width]
        return np.asarray(cv2.addWeighted(frame, 1, noise, 1, -128), dtype=np.uint8)
