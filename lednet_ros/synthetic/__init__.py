# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Procedural street scenes with exact labels, for tests, demos and training.

Everything is drawn far to near on a canvas of four channels, red, green, blue and class id, so
that one drawing call paints color and label with the same mask and the two cannot disagree.

"""

from lednet_ros.synthetic.basics import CLASS_NAMES
from lednet_ros.synthetic.street import StreetScene

__all__ = ['CLASS_NAMES', 'StreetScene']
