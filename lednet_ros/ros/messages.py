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

"""Image messages to frames, and results to image messages."""

from __future__ import annotations

import array
import sys
from typing import Any

import cv2
from lednet_ros.inference.encodings import (
    decode_message,
    Frame,
    FrameError,
    SUPPORTED_ENCODINGS,
    view_rows,
)
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header


def decode_image(message: Any) -> Frame:
    """
    Decode an image message by `decode_message`, or else by cv_bridge.

    Encodings that `decode_message` doesn't know go to cv_bridge, where that is installed. Those
    that it can't convert to color either, like depth in '32FC1', are refused: no scale makes an
    image of such values.

    Returns
    -------
    Frame
        (height, width, 3) uint8; a view of the message's data where that is possible.

    Raises
    ------
    FrameError
        The message can't be used.

    """
    if isinstance(message, Image) and message.encoding not in SUPPORTED_ENCODINGS:
        return _decode_with_cv_bridge(message)
    return decode_message(message)


def _decode_with_cv_bridge(msg: Image) -> Frame:
    # Imported only for the encodings that need it: it is optional, and broken installations of it
    # (built for another numpy) are common.
    try:
        from cv_bridge import CvBridge
    except ImportError as error:
        raise FrameError(
            f'encoding {msg.encoding!r} needs cv_bridge, which cannot be imported ({error}); '
            f'allowed without it: {", ".join(SUPPORTED_ENCODINGS)}',
            reason='encoding') from error
    bridge = CvBridge()
    try:
        sample_type, channels = bridge.encoding_to_dtype_with_channels(msg.encoding)
        pixels = bridge.imgmsg_to_cv2(_normalized(msg, np.dtype(sample_type), channels), 'bgr8')
    except FrameError:
        raise
    except Exception as error:
        # The various cv_bridges raise CvBridgeError, KeyError, RuntimeError, cv2.error and more.
        raise FrameError(
            f'encoding {msg.encoding!r} cannot be converted to bgr8, not even by cv_bridge '
            f'({type(error).__name__}: {error}); allowed: {", ".join(SUPPORTED_ENCODINGS)}',
            reason='encoding') from error
    if pixels.dtype != np.uint8 or pixels.shape != (msg.height, msg.width, 3):
        raise FrameError(
            f'encoding {msg.encoding!r} became {pixels.dtype} {pixels.shape} in cv_bridge; '
            f'it must become uint8 {(msg.height, msg.width, 3)}', reason='encoding')
    return Frame(pixels, 'bgr')


def _normalized(msg: Image, sample_type: np.dtype[Any], channels: int) -> Image:
    """Copy an image without row padding, in this machine's byte order: cv_bridge ignores both."""
    rows = view_rows(
        msg.data, height=msg.height, row_bytes=msg.width * channels * sample_type.itemsize,
        step=msg.step)
    samples = np.frombuffer(rows.tobytes(), sample_type)
    if bool(msg.is_bigendian) != (sys.byteorder == 'big'):
        samples = samples.byteswap()
    return Image(
        height=msg.height, width=msg.width, encoding=msg.encoding,
        is_bigendian=int(sys.byteorder == 'big'), step=rows.shape[1],
        data=array.array('B', samples.tobytes()))


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
