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

"""Lamps, bollards, boards, traffic signs and signals."""

import cv2
from lednet_ros.synthetic.basics import PAINTS, Points, POLE, scaled, SIGN, SIGNALS
from lednet_ros.synthetic.layout import Thing
from lednet_ros.synthetic.view import View
import numpy as np


def draw_post(view: View, thing: Thing, foot: Points, gain: float, time: float) -> None:
    """
    Draw a post with what it carries.

    Parameters
    ----------
    view
        The view to draw into.
    thing
        A `lamp`, `bollard`, `board`, `sign` or `signal`.
    foot
        Pixel of its middle on the ground.
    gain
        Gain of the light.
    time
        Seconds since the start of the drive, for the signals.

    """
    depth = thing.along - view.eye[2]
    scale = view.focal / depth
    x, y = foot
    steel = (96, 100, 100) if thing.variant % 3 else (48, 52, 50)
    color = view.tone(steel, POLE, gain, depth)
    thick = max((0.2 if thing.kind in ('bollard', 'lamp') else 0.13) * scale, 1.0)
    top = y - thing.height * scale
    if thing.kind != 'board':
        view.rectangle(x - thick / 2, top, x + thick / 2, y, color)
    if thing.kind == 'lamp':
        inward = -1 if thing.across > 0 else 1
        reach = x + inward * 1.6 * scale
        view.rectangle(min(x, reach), top - thick * 0.5, max(x, reach), top, color)
        head = reach + inward * 0.5 * scale
        view.rectangle(min(head, reach), top - thick * 0.5, max(head, reach),
                       top + thick * 0.6, color)
    elif thing.kind == 'sign':
        _draw_sign(view, thing, (x, top), scale, gain)
    elif thing.kind == 'signal':
        _draw_signal(view, thing, (x, top), scale, time)
    elif thing.kind == 'board':
        wide = (0.5 + thing.variant % 5 * 0.12) * scale
        panel = view.tone(SIGNALS[thing.variant % 3], SIGN, gain, depth)
        inset = view.tone(PAINTS[thing.variant % len(PAINTS)], SIGN, gain * 1.1, depth)
        view.rectangle(x - wide, top, x + wide, y, panel)
        view.rectangle(x - wide * 0.8, top + wide * 0.6, x + wide * 0.8,
                       y - wide * 0.7, inset)


def _draw_sign(
    view: View, thing: Thing, top: tuple[float, float], scale: float, gain: float,
) -> None:
    depth, (x, y), radius = thing.along - view.eye[2], top, max(0.36 * scale, 1.2)
    rim, face = (view.tone(SIGNALS[i], SIGN, gain * 1.1, depth) for i in (0, 4))
    shape = thing.variant // 8 % 4
    if shape == 0:
        for part, color in ((1.0, rim), (0.72, face)):
            cv2.circle(view.canvas, (round(x), round(y)), round(radius * part), color, -1)
    elif shape == 1:
        for part, color in ((1.0, rim), (0.6, face)):
            corners = [(x, y - radius * part), (x + radius * part, y + radius * 0.8 * part),
                       (x - radius * part, y + radius * 0.8 * part)]
            cv2.fillConvexPoly(view.canvas, np.rint(corners).astype(np.int32), color)
    else:
        blue = view.tone(SIGNALS[1 + thing.variant // 64 % 3], SIGN, gain, depth)
        tall = radius * (1.0 if shape == 2 else 1.7)
        view.rectangle(x - radius, y - tall, x + radius, y + radius, blue)
        view.rectangle(
            x - radius * 0.6, y - tall * 0.5, x + radius * 0.6, y + radius * 0.3, face
        )


def _draw_signal(
    view: View, thing: Thing, top: tuple[float, float], scale: float, time: float,
) -> None:
    (x, y), wide = top, max(0.2 * scale, 1.0)
    box = view.tone((20, 22, 22), SIGN, 1.0, thing.along - view.eye[2])
    view.rectangle(x - wide, y, x + wide, y + wide * 5, box)
    lit = int(time / 4 + thing.variant) % 3
    for i, glow in enumerate(((250, 50, 40), (250, 180, 40), (60, 240, 140))):
        color = (*scaled(glow, 1.0 if i == lit else 0.2), SIGN)
        center = (round(x), round(y + wide * (0.9 + 1.6 * i)))
        cv2.circle(view.canvas, center, round(wide * 0.6), color, -1)
