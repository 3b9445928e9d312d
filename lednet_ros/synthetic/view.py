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

"""The view of one frame: projection, haze, and drawing color and label together."""

from collections.abc import Callable
from functools import lru_cache
import math

import cv2
from lednet_ros.synthetic.basics import Color, Image, Points
from lednet_ros.synthetic.light import Light
from lednet_ros.synthetic.vehicles import Mesh
import numpy as np

NEAR = 0.6
"""Distance in meters from the camera within which nothing is drawn."""
HAZE = 350.0
"""Distance in meters at which 1/e of a color is left."""


class View:
    """
    The canvas of one frame and the camera that looks at it.

    World points are (across, up, along): meters to the right of the road's center line, above the
    ground, and along the street.

    Parameters
    ----------
    width, height
        Size of the frame in pixels.
    focal
        Focal length in pixels.
    horizon
        Row of the horizon.
    eye
        World point of the camera.
    light
        Light of the drive.
    bend
        Where the road's center line is, in meters to the right, for each point along it.

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
        """First row of which all is below the horizon."""
        return math.ceil(self.horizon) + 1

    def sway(self, depth: Points) -> Points:
        """Return how far the road has swerved to the right at `depth` meters ahead."""
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
        """Return `colors` behind the haze of `depth`, with their label."""
        haze = 1 - math.exp(-depth / HAZE)
        shades = np.minimum(colors, 255) * (1 - haze) + np.array(self.light.horizon) * haze
        return [(*shade, label) for shade in shades.tolist()]

    def tone(self, color: Color, label: int, gain: float, depth: float) -> tuple[float, ...]:
        """Return `color` under a light of `gain`, behind the haze of `depth`."""
        return self.tones(np.array([color]) * gain, label, depth)[0]

    def fill(self, pixels: Points, color: tuple[float, ...]) -> None:
        """Fill the convex polygon of `pixels`, which may lie outside of the frame."""
        cv2.fillConvexPoly(self.canvas, np.rint(pixels).astype(np.int32), color)

    def fill_outlines(self, outlines: Points, color: tuple[float, ...]) -> None:
        """Fill polygons of any shape, all with the same number of world points, (n, m, 3)."""
        pixels = np.rint(self.project(outlines.reshape(-1, 3))).astype(np.int32)
        cv2.fillPoly(self.canvas, list(pixels.reshape(*outlines.shape[:2], 2)), color)

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, color: tuple[float, ...],
    ) -> None:
        """Fill a rectangle of pixels, at least one wide and high."""
        cv2.rectangle(self.canvas, (round(left), round(top)),
                      (max(round(right) - 1, round(left)), max(round(bottom) - 1, round(top))),
                      color, -1)

    def panel(
        self, texture: list[Image], corners: Points, begin: float, tone: tuple[float, float],
        solid: bool = True,
    ) -> None:
        """
        Draw an upright rectangle that goes along or across the street.

        Parameters
        ----------
        texture
            What it shows, a pyramid.
        corners
            Its pixels, clockwise from the top left.
        begin
            Fraction of its length that lies behind the camera.
        tone
            Its gain and depth.
        solid
            Whether all of the texture has one label; else, label 0 can be seen through.

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
        Draw an upright image that faces the camera.

        Parameters
        ----------
        texture
            What it shows, a pyramid; label 0 can be seen through.
        foot
            Pixel at the middle of its lower edge.
        height
            Its height in meters.
        tone
            Its gain and depth.

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
        Draw the faces of a mesh that are turned to the camera.

        Parameters
        ----------
        mesh
            The mesh.
        foot
            World point of its middle, on the ground.
        size
            Its width, height and length in meters.
        ahead
            Whether its front points along the street, or else back at the camera.
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


@lru_cache(maxsize=1024)
def _tone_table(horizon: Color, gain: float, step: int) -> Image:
    """
    Tabulate `View.tone` for textures, labels unchanged.

    `step` counts eighths of the log of the depth, few enough for the tables to be reused.

    """
    haze = 1 - math.exp(-math.exp(step / 8) / HAZE)
    ramp = np.arange(256.0)[:, None]
    table = np.empty((1, 256, 4), np.uint8)
    table[0, :, :3] = np.minimum(ramp * gain, 255) * (1 - haze) + np.array(horizon) * haze
    table[0, :, 3] = ramp[:, 0]
    return table
