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

"""Results to image messages."""

from __future__ import annotations

import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header


def fill_image(msg: Image, pixels: NDArray[np.uint8], encoding: str, header: Header) -> None:
    """
    Copy pixels into an image message, reusing its buffer unless the size has changed.

    Parameters
    ----------
    msg
        Message to fill, without row padding.
    pixels
        (height, width) or (height, width, channels) uint8, any strides.
    encoding
        Encoding of the pixels, like 'mono8' or 'bgr8'.
    header
        Shared, not copied: the input's stamp and frame_id.

    """
    # Only array.array is assigned without a check of every element, which takes 0.3 s.
    if len(msg.data) != pixels.size:
        msg.data = array.array('B', bytes(pixels.size))
    buffer = np.frombuffer(msg.data, np.uint8).reshape(pixels.shape)
    np.copyto(buffer, pixels, casting='no')
    msg.header = header
    msg.height, msg.width = pixels.shape[:2]
    msg.encoding = encoding
    msg.is_bigendian = 0
    msg.step = pixels.size // pixels.shape[0]


def fill_compressed(
    msg: CompressedImage, pixels: NDArray[np.uint8], *, image_format: str,
    encoding: str, quality: int, header: Header
) -> None:
    """
    Put compressed pixels into a message, as image_transport's compressed plugin does.

    Parameters
    ----------
    msg
        Message to fill.
    pixels
        (height, width) uint8 for 'mono8', (height, width, 3) uint8 for 'rgb8' and 'bgr8'.
    image_format
        'png', which is lossless, as class ids need it, or 'jpeg'.
    encoding
        Encoding of the pixels: 'mono8', 'rgb8' or 'bgr8'. A subscriber gets it back.
    quality
        JPEG quality, 0 to 100; PNG has none.
    header
        Shared, not copied: the input's stamp and frame_id.

    """
    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if encoding == 'rgb8' else pixels
    # OpenCV's default for PNG is its fastest setting; naming it explicitly is slower.
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if image_format == 'jpeg' else []
    _, encoded = cv2.imencode(f'.{image_format}', image, options)
    stored_as = 'mono8' if encoding == 'mono8' else 'bgr8'
    msg.header = header
    msg.format = f'{encoding}; {image_format} compressed {stored_as}'
    msg.data = array.array('B', encoded.tobytes())
