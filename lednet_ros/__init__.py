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

"""LEDNet semantic segmentation for ROS 2."""

import os

__version__ = '0.1.0'

MAX_IMAGE_PIXELS = 2**27
"""Largest image that is decoded; `OPENCV_IO_MAX_IMAGE_PIXELS` names another limit for OpenCV's."""

# A few bytes of a compressed image can claim any size. OpenCV reads its limit when it is loaded,
# so it is set here: this file runs before any other of the package, and so before their `cv2`.
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(MAX_IMAGE_PIXELS))
