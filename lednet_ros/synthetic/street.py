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

"""The street as the camera sees it."""

import math

from lednet_ros.synthetic.background import Backdrop, Ground, make_paving
from lednet_ros.synthetic.basics import make_light, Points
from lednet_ros.synthetic.camera import Camera, NEAR, Sensor, View
from lednet_ros.synthetic.layout import CARS, LOT, Lot, Lots, make_plan, SIGHT, Thing, Traffic
from lednet_ros.synthetic.scenery import Scenery
import numpy as np
from numpy.typing import NDArray

MIN_SIZE, MAX_SIZE, MAX_SPEED = 64, 4096, 60.0


class StreetScene:
    """
    An endless street as the forward camera of a car sees it, with exact labels.

    Parameters
    ----------
    width, height
        Size of the frames in pixels, 64 to 4096 each.
    seed
        Determines houses, plants, traffic, light and camera.
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
        rng = np.random.default_rng(seed)
        # All parts draw from one generator, so their order here determines each seed's street.
        light, plan = make_light(rng), make_plan(rng)
        self._camera = Camera(rng, width, height, speed, plan, light)
        paving = make_paving(rng)
        self._scenery = Scenery(rng, plan, light)
        self._ground = Ground(rng, plan, paving, light)
        self._backdrop = Backdrop(rng, light, width, height)
        self._sensor = Sensor(rng, width, height, seed, plan, light)
        self._traffic = Traffic(rng, plan, seed, speed)
        self._lots = Lots(plan, seed, self._scenery.floors, self._scenery.trees)

    @property
    def camera_matrix(self) -> Points:
        """
        Pinhole intrinsics of the camera, 3x3.

        The camera looks level along the street; the principal point lies on the mean horizon.
        """
        return self._camera.matrix

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
        time = float(time) + 0.0  # turns -0.0, which would have other noise, into 0.0
        view = self._camera.look(time)
        lots = self._lots.visible(view.eye[2] + NEAR)
        things = [thing for lot in lots for thing in lot.things] + self._traffic.visible(time)
        things = [thing for thing in things
                  if (-1.5 if thing.kind in CARS else 1) < thing.along - view.eye[2] < SIGHT]
        self._backdrop.draw(view)
        self._ground.draw(view, lots)
        self._ground.shade(view, lots, things)
        self._draw_standing(view, lots, things, time)
        return self._sensor.develop(view.canvas, time), view.canvas[..., 3].copy()

    def _draw_standing(
        self, view: View, lots: list[Lot], things: list[Thing], time: float,
    ) -> None:
        """Draw everything that stands on the ground, the farthest first."""
        feet = view.project(np.array([(thing.across, 0.0, thing.along) for thing in things]))
        # A lot is drawn before everything that stands along it, so its far end counts.
        order = [(-lot.start - LOT, 0, i) for i, lot in enumerate(lots)]
        order += [(-thing.along, 1, i) for i, thing in enumerate(things)]
        for _, is_thing, i in sorted(order):
            if is_thing:
                self._scenery.draw_thing(view, things[i], feet[i], time)
            else:
                self._scenery.draw_lot(view, lots[i])
