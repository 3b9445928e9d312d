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

"""Images of trees and people that always face the camera; label 0 (sky) is transparent."""

import math

import cv2
from lednet_ros.synthetic.basics import (
    BICYCLIST,
    CLOTHES,
    Image,
    PEDESTRIAN,
    pick,
    Rng,
    scaled,
    SIGNALS,
    TREE,
)
from lednet_ros.synthetic.textures import add_noise, make_pyramid
import numpy as np


def make_leafy_tree(rng: Rng) -> list[Image]:
    """Draw a tree with leaves, as a pyramid."""
    size = 224
    leaf = pick(rng, ((62, 84, 40), (78, 92, 44), (46, 66, 38), (96, 92, 50)))
    image = np.full((size, size, 4), (*scaled(leaf, 0.6), 0), np.uint8)
    trunk = int(rng.integers(5, 10))
    bark = (*scaled((84, 70, 56), float(rng.uniform(0.6, 1.1))), TREE)
    cv2.rectangle(image, (112 - trunk, 110), (112 + trunk, size), bark, -1)
    spread, lift = float(rng.uniform(56, 92)), float(rng.uniform(54, 76))
    lobes = rng.uniform(-0.62, 0.62, (int(rng.integers(4, 8)), 2))
    blobs = rng.normal(0, 0.24, (420, 2)).clip(-0.45, 0.45)
    blobs += lobes[rng.integers(len(lobes), size=len(blobs))]
    blobs = blobs * (spread, lift) + (112, 84)
    # Low blobs first, so that the lit top covers the dark inside of the crown.
    for x, y in blobs[np.argsort(-blobs[:, 1] + rng.normal(0, 20, len(blobs)))]:
        light = 1.25 - (y - 40) / 130 + float(rng.normal(0, 0.16))
        color = (*scaled(leaf, max(light, 0.35)), TREE)
        cv2.circle(image, (int(x), int(y)), int(rng.integers(3, 14)), color, -1)
    return make_pyramid(_speckle(rng, image))


def make_bare_tree(rng: Rng) -> list[Image]:
    """Draw a tree without leaves, as a pyramid."""
    size = 224
    bark = pick(rng, ((78, 66, 56), (58, 52, 48), (96, 86, 74)))
    image = np.full((size, size, 4), (*bark, 0), np.uint8)
    tips = [(112.0, float(size), -math.pi / 2, 52.0, 9.0)]
    while tips:
        x, y, angle, length, thick = tips.pop()
        end_x, end_y = x + length * math.cos(angle), y + length * math.sin(angle)
        color = (*scaled(bark, float(rng.uniform(0.75, 1.2))), TREE)
        ends = (int(x), int(y)), (int(end_x), int(end_y))
        cv2.line(image, *ends, color, max(1, round(thick)))
        if thick > 0.9:
            for turn in rng.normal(0, 0.5, 3 if thick > 2 else 4):
                shrink = float(rng.uniform(0.62, 0.85))
                tips.append((end_x, end_y, angle + turn, length * shrink, thick * 0.62))
    return make_pyramid(_speckle(rng, image))


def make_pedestrian(rng: Rng) -> list[list[Image]]:
    """Draw four phases of a walk, each as a pyramid."""
    skin = pick(rng, ((214, 168, 140), (170, 120, 92), (110, 78, 60)))
    coat, trousers = pick(rng, CLOTHES), pick(rng, CLOTHES[:4])
    hair, bag = pick(rng, ((40, 30, 24), (120, 90, 50), (90, 88, 86))), pick(rng, CLOTHES)
    broad, hem = int(rng.integers(13, 19)), int(rng.integers(96, 130))
    has_bag = rng.random() < 0.5
    phases = []
    for swing in (-13, -4, 5, 13):
        image = np.full((192, 72, 4), (*coat, 0), np.uint8)
        for sign in (-1, 1):
            foot = (36 + sign * swing // 2 + sign * 5, 184 - abs(swing) // 4)
            leg = (*scaled(trousers, 0.8 + 0.2 * sign), PEDESTRIAN)
            cv2.line(image, (36 + sign * 5, 100), foot, leg, 11)
            cv2.ellipse(image, foot, (8, 5), 0, 0, 360, (30, 26, 24, PEDESTRIAN), -1)
        body = np.array([[36 - broad, 38], [36 + broad, 38], [38 + broad, hem], [34 - broad, hem]])
        cv2.fillConvexPoly(image, body, (*coat, PEDESTRIAN))
        for sign in (-1, 1):
            hand = (36 + sign * (broad + 5), 98 - sign * swing // 2)
            arm = (*scaled(coat, 0.78 + 0.12 * sign), PEDESTRIAN)
            cv2.line(image, (36 + sign * (broad - 1), 42), hand, arm, 9)
            cv2.circle(image, hand, 4, (*skin, PEDESTRIAN), -1)
        if has_bag:
            cv2.rectangle(image, (36, 56), (36 + broad, 90), (*bag, PEDESTRIAN), -1)
        cv2.rectangle(image, (32, 26), (40, 40), (*skin, PEDESTRIAN), -1)
        cv2.ellipse(image, (36, 19), (10, 13), 0, 0, 360, (*skin, PEDESTRIAN), -1)
        cv2.ellipse(image, (36, 15), (11, 11), 0, 180, 360, (*hair, PEDESTRIAN), -1)
        phases.append(make_pyramid(_speckle(rng, image)))
    return phases


def make_cyclist(rng: Rng) -> list[list[Image]]:
    """Draw two phases of pedaling, seen almost from the front or back, each as a pyramid."""
    coat, trousers = pick(rng, CLOTHES, 20), pick(rng, CLOTHES[:4])
    helmet, skin = pick(rng, SIGNALS), (200.0, 156.0, 130.0)
    turn = int(rng.integers(5, 30))
    phases = []
    for step in (-9, 9):
        image = np.full((192, 128, 4), (*coat, 0), np.uint8)
        tire, steel = (24, 24, 26, BICYCLIST), (*pick(rng, SIGNALS), BICYCLIST)
        for x in (64 - turn, 64 + turn):
            cv2.ellipse(image, (x, 156), (3 + turn // 2, 33), 0, 0, 360, tire, 4)
            cv2.line(image, (x, 156), (64, 104), steel, 4)
        cv2.line(image, (64 - turn, 156), (64 + turn, 156), steel, 4)
        cv2.line(image, (40, 96), (88, 96), tire, 4)
        for sign in (-1, 1):
            knee, foot = (64 + sign * 15, 122 + sign * step), (64 + sign * 12, 158 + sign * step)
            leg = (*scaled(trousers, 0.85 + 0.15 * sign), BICYCLIST)
            cv2.line(image, (64 + sign * 8, 96), knee, leg, 13)
            cv2.line(image, knee, foot, leg, 10)
            cv2.ellipse(image, foot, (8, 5), 0, 0, 360, tire, -1)
            arm = (*scaled(coat, 0.8 + 0.1 * sign), BICYCLIST)
            cv2.line(image, (64 + sign * 18, 48), (64 + sign * 23, 94), arm, 10)
        torso = np.array([[44, 42], [84, 42], [80, 104], [48, 104]])
        cv2.fillConvexPoly(image, torso, (*coat, BICYCLIST))
        cv2.ellipse(image, (64, 26), (11, 15), 0, 0, 360, (*skin, BICYCLIST), -1)
        cv2.ellipse(image, (64, 22), (13, 13), 0, 180, 360, (*helmet, BICYCLIST), -1)
        phases.append(make_pyramid(_speckle(rng, image)))
    return phases


def _speckle(rng: Rng, image: Image) -> Image:
    add_noise(image, rng.normal(0, 12, image.shape[:2]))
    return image
