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

"""The camera: its way along the street, its view, and its lens and sensor."""

from collections.abc import Callable
from functools import lru_cache
import math

import cv2
from lednet_ros.synthetic.basics import Color, Image, keyed_rng, Light, Points, Rng
from lednet_ros.synthetic.layout import LANE, Plan
from lednet_ros.synthetic.vehicles import Mesh
import numpy as np
from numpy.typing import NDArray

NEAR = 0.6
"""Distance from the camera within which nothing is drawn."""
HAZE = 350.0
"""Distance at which the haze leaves 1/e of a color."""


class View:
    """
    The canvas of one frame, drawn from the world point `eye` of the camera.

    World points are (across, up, along): to the right of the road's center line, above the ground,
    and along the street. The focal length and the row of the horizon are in pixels; `bend` is that
    of the `Plan`.
    """

    def __init__(
        self, width: int, height: int, focal: float, horizon: float, eye: Points, light: Light,
        bend: Callable[[Points], Points],
    ) -> None:
        self.canvas = np.empty((height, width, 4), np.uint8)
        self.width, self.height = width, height
        self.focal, self.horizon, self.eye, self.light = focal, horizon, eye, light
        self._bend = bend
        self._bend_here = float(bend(eye[2:])[0])
        self.slope = float(bend(eye[2:] + 1.0)[0]) - self._bend_here

    @property
    def ground_top(self) -> int:
        """First row that is completely below the horizon."""
        return math.ceil(self.horizon) + 1

    def sway(self, depth: Points) -> Points:
        """Return how far the road has swerved to the right at the distance `depth`."""
        return self._bend(depth + self.eye[2]) - self._bend_here - self.slope * depth

    def project(self, points: Points) -> Points:
        """Return the pixels (x, y) of world `points`."""
        # Edges that cross the near plane all run along the street, where clamping is clipping.
        depth = np.maximum(points[:, 2] - self.eye[2], NEAR)
        scale = self.focal / depth
        result = np.empty((len(points), 2))
        result[:, 0] = self.width / 2 + (points[:, 0] - self.eye[0] + self.sway(depth)) * scale
        result[:, 1] = self.horizon + (self.eye[1] - points[:, 1]) * scale
        return result

    def tones(self, colors: Points, label: int, depth: float) -> list[tuple[float, ...]]:
        """Return `colors` seen through the haze of `depth`, with their label."""
        haze = 1 - math.exp(-depth / HAZE)
        shades = np.minimum(colors, 255) * (1 - haze) + np.array(self.light.horizon) * haze
        return [(*shade, label) for shade in shades.tolist()]

    def tone(self, color: Color, label: int, gain: float, depth: float) -> tuple[float, ...]:
        """Return `color` under a light of `gain`, seen through the haze of `depth`."""
        return self.tones(np.array([color]) * gain, label, depth)[0]

    def fill(self, pixels: Points, color: tuple[float, ...]) -> None:
        """Fill the convex polygon of `pixels`, which may lie outside the frame."""
        cv2.fillConvexPoly(self.canvas, np.rint(pixels).astype(np.int32), color)

    def fill_outlines(self, outlines: Points, color: tuple[float, ...]) -> None:
        """Fill n polygons of any shape, each of m world points, (n, m, 3)."""
        pixels = np.rint(self.project(outlines.reshape(-1, 3))).astype(np.int32)
        cv2.fillPoly(self.canvas, list(pixels.reshape(*outlines.shape[:2], 2)), color)

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, color: tuple[float, ...],
    ) -> None:
        """Fill a rectangle of pixels, at least one pixel wide and high."""
        cv2.rectangle(self.canvas, (round(left), round(top)),
                      (max(round(right) - 1, round(left)), max(round(bottom) - 1, round(top))),
                      color, -1)

    def panel(
        self, texture: list[Image], corners: Points, begin: float, tone: tuple[float, float],
        solid: bool = True,
    ) -> None:
        """
        Draw an upright rectangle along or across the street.

        Parameters
        ----------
        texture
            Pyramid of its images.
        corners
            Its pixels, clockwise from the top left.
        begin
            Fraction of its length behind the camera.
        tone
            Its tone.
        solid
            Whether the whole texture has one label; otherwise label 0 is transparent.

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
        """
        Draw an upright image that faces the camera, `height` meters high.

        `texture` is a pyramid in which label 0 is transparent, `foot` the pixel at the middle of
        the lower edge.
        """
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

    def mesh(
        self, mesh: Mesh, foot: tuple[float, float, float], size: Points, ahead: bool,
        colors: dict[str, tuple[float, ...]],
    ) -> None:
        """
        Draw the visible faces of a mesh.

        Parameters
        ----------
        mesh
            The mesh, of unit size.
        foot
            World point of its middle, on the ground.
        size
            Its width, height and length.
        ahead
            Whether its front points along the street, otherwise back at the camera.
        colors
            Color and label of each role.

        """
        turned = size if ahead else size * (-1, 1, -1)
        pixels = self.project(mesh.points * turned + np.array(foot))
        x, y = pixels.T
        areas = np.add.reduceat(x * y[mesh.following] - x[mesh.following] * y, mesh.starts)
        corners = np.rint(pixels).astype(np.int32)
        for i in np.flatnonzero(areas > 0).tolist():
            face = corners[mesh.starts[i]:mesh.stops[i]]
            cv2.fillConvexPoly(self.canvas, face, colors[mesh.roles[i]])

    def _warp(
        self, image: Image, matrix: Points, box: tuple[int, int, int, int],
        tone: tuple[float, float], solid: bool,
    ) -> None:
        x0, y0, x1, y1 = box
        gain, depth = tone
        table = _tone_table(self.light.horizon, gain, round(8 * math.log(max(depth, NEAR))))
        # The label is the mask, so pixels may be mixed only where the texture has one label.
        flags = cv2.INTER_LINEAR if solid else cv2.INTER_NEAREST
        # The table costs as much as the warp, so it is applied to the smaller image.
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


@lru_cache(maxsize=1024)
def _tone_table(horizon: Color, gain: float, step: int) -> Image:
    """
    Tabulate `View.tone` for textures; labels stay as they are.

    `step` is the natural logarithm of the depth in eighths, so that tables are reused.
    """
    haze = 1 - math.exp(-math.exp(step / 8) / HAZE)
    ramp = np.arange(256.0)[:, None]
    table = np.empty((1, 256, 4), np.uint8)
    table[0, :, :3] = np.minimum(ramp * gain, 255) * (1 - haze) + np.array(horizon) * haze
    table[0, :, 3] = ramp[:, 0]
    return table


class Camera:
    """A level pinhole camera that drives along the street at `speed`."""

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
        """Return the view at `time` with nothing drawn on it."""
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
    """Lens and sensor: blur, vignette, exposure, contrast and noise."""

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
        """Return the image of the canvas at `time`, (height, width, 3) uint8 RGB."""
        frame = cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB)
        cv2.GaussianBlur(frame, (3, 3), self._blur, frame)
        cv2.multiply(frame, self._vignette, frame, 1 / 128)
        exposure = self._light.exposure * (1 + 0.05 * math.sin(0.4 * time + self._plan.phases[1]))
        ramp = np.arange(256.0)[:, None] / 255 * exposure * np.array(self._light.cast)
        table = (255 * np.clip(ramp, 0, 1) ** self._contrast).astype(np.uint8)
        frame = cv2.LUT(frame, table[None])
        # Keyed by the bits of the time, so that frames at any two times differ in noise.
        bits = np.array([time]).view(np.uint32).tolist()
        top, left = keyed_rng(self._seed, 3, *bits).integers(0, 64, 2)
        noise = self._noise[top:top + self._height, left:left + self._width]
        return np.asarray(cv2.addWeighted(frame, 1, noise, 1, -128), dtype=np.uint8)
