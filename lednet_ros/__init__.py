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
LEDNet semantic segmentation for ROS 2.

The names in `__all__` are imported when they are first used, so that importing the package itself
takes no time.
"""

from importlib import import_module
import os
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from lednet_ros.checkpoint import Checkpoint, load_checkpoint
    from lednet_ros.inference.encodings import Frame
    from lednet_ros.inference.options import SegmenterOptions
    from lednet_ros.inference.segmenter import Segmentation, Segmenter
    from lednet_ros.labels import LabelMap
    from lednet_ros.models import build_network

__version__ = '0.1.0'
__all__ = [
    'Checkpoint',
    'Frame',
    'LabelMap',
    'Segmentation',
    'Segmenter',
    'SegmenterOptions',
    'build_network',
    'load_checkpoint',
]

MAX_IMAGE_PIXELS = 2**27
"""Largest image to decode; the variable `OPENCV_IO_MAX_IMAGE_PIXELS` overrides it in OpenCV."""

# A few bytes of a compressed image can claim any size. OpenCV reads its limit when it is loaded,
# so it is set here: this file runs before any other of the package, and so before their `cv2`.
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(MAX_IMAGE_PIXELS))

_MODULES = {
    'Checkpoint': 'checkpoint',
    'Frame': 'inference.encodings',
    'LabelMap': 'labels',
    'Segmentation': 'inference.segmenter',
    'Segmenter': 'inference.segmenter',
    'SegmenterOptions': 'inference.options',
    'build_network': 'models',
    'load_checkpoint': 'checkpoint',
}


# Type checkers would take any name for one that this function knows.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name from its module (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        value = getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List all names, including public ones that aren't imported yet."""
    return sorted({*globals(), *__all__})
