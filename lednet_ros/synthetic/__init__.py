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

"""
Procedural street scenes with exact labels, for tests, demos and training.

Everything is drawn far to near on a canvas of four channels, red, green, blue and class id. One
drawing call paints color and label with the same mask, so the two cannot disagree.

All parts share a few conventions: lengths are in meters, speeds in m/s, frame sizes in pixels and
times in seconds since the start of the drive. Side -1 is left, 1 is right. `rng` draws everything
that is random about a part, `seed` is the seed of the street, and `plan` and `light` are its
`Plan` and `Light`. A tone is the gain of the light on a surface with the distance ahead of the
camera, from which the haze follows.

"""

from lednet_ros.synthetic.basics import CLASS_NAMES
from lednet_ros.synthetic.street import StreetScene

__all__ = ['CLASS_NAMES', 'StreetScene']
