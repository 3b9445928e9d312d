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
Decoding of camera data to frames for the network.

The names of the encodings are those of ``sensor_msgs/image_encodings.hpp``; ROS isn't needed.

Three-channel eight-bit data is never copied. Everything else takes one pass of OpenCV that
packs the pixels of a row: a strided or broadcast view (four channels, gray) would cost nothing
here, but a hundred times that pass in the consumer, because ``cv2.resize``, ``np.copyto`` and
``torch.Tensor.copy_`` then read it byte by byte (2048x1024: 14 ms instead of 0.1 ms).
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
from dataclasses import dataclass
import os
from typing import Any, cast, NamedTuple, TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import array

    # Missing at run time before OpenCV 4.8; Ubuntu has older versions.
    from cv2.typing import MatLike

    PixelData = bytes | bytearray | memoryview | array.array[int] | NDArray[Any]

# The largest coordinate that OpenCV's geometric functions take.
MAX_SIDE = 32767
JPEG_END = b'\xff\xd9'


class FrameError(ValueError):
    """
    A frame that can't be used.

    Parameters
    ----------
    message
        Names the thing, its value and what is allowed.
    reason
        A short stable name to count by: 'encoding', 'size', 'step', 'truncated' or 'compressed'.

    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Frame:
    """
    One image, ready for the network.

    Attributes
    ----------
    pixels
        (height, width, 3) uint8, range 0..255. The pixels of a row are packed; the rows may be
        padded. May be a read-only view of the original data.
    color_order
        Order of the channels, 'rgb' or 'bgr'. Gray images have three equal channels, 'bgr'.

    """

    pixels: NDArray[np.uint8]
    color_order: str


class _Format(NamedTuple):
    """Memory layout of an encoding, and the function that converts its rows to pixels."""

    pixel_bytes: int
    to_pixels: Callable[[NDArray[np.uint8]], MatLike]
    color_order: str = 'bgr'
    sixteen_bit: bool = False
    even_width: bool = False
    # A second plane of half as many rows, as wide as the first: blue and red differences.
    chroma_plane: bool = False


def _packed(rows: NDArray[np.uint8]) -> MatLike:
    return rows.reshape(len(rows), -1, 3)


def _converted(channels: int, code: int) -> Callable[[NDArray[np.uint8]], MatLike]:
    def convert(rows: NDArray[np.uint8]) -> MatLike:
        return cv2.cvtColor(rows.reshape(len(rows), -1, channels), code)

    return convert


def _two_planes(code: int) -> Callable[[NDArray[np.uint8]], MatLike]:
    def convert(rows: NDArray[np.uint8]) -> MatLike:
        height = len(rows) * 2 // 3
        chroma = rows[height:].reshape(height // 2, -1, 2)
        return cv2.cvtColorTwoPlane(rows[:height], chroma, code)

    return convert


# Dropping alpha keeps the order of the other channels: the same for rgba.
_opaque = _converted(4, cv2.COLOR_BGRA2BGR)
_gray = _converted(1, cv2.COLOR_GRAY2BGR)
_uyvy = _converted(2, cv2.COLOR_YUV2BGR_UYVY)
_yuyv = _converted(2, cv2.COLOR_YUV2BGR_YUYV)

_EIGHT_BIT = {
    'rgb8': _Format(3, _packed, 'rgb'),
    'bgr8': _Format(3, _packed),
    'rgba8': _Format(4, _opaque, 'rgb'),
    'bgra8': _Format(4, _opaque),
    'mono8': _Format(1, _gray),
    # OpenCV's types carry no color order; bgr is OpenCV's default.
    '8UC1': _Format(1, _gray),
    '8UC3': _Format(3, _packed),
    '8UC4': _Format(4, _opaque),
    # ROS names a Bayer pattern by its first two rows from the first pixel, OpenCV by the second
    # and third pixel of the second row: red and blue seem swapped.
    'bayer_rggb8': _Format(1, _converted(1, cv2.COLOR_BayerBG2BGR)),
    'bayer_bggr8': _Format(1, _converted(1, cv2.COLOR_BayerRG2BGR)),
    'bayer_gbrg8': _Format(1, _converted(1, cv2.COLOR_BayerGR2BGR)),
    'bayer_grbg8': _Format(1, _converted(1, cv2.COLOR_BayerGB2BGR)),
}
_SIXTEEN_BIT = {
    name.replace('8', '16'): layout._replace(pixel_bytes=2 * layout.pixel_bytes, sixteen_bit=True)
    for name, layout in _EIGHT_BIT.items()
}
_FORMATS = _EIGHT_BIT | _SIXTEEN_BIT | {
    'yuv422': _Format(2, _uyvy, even_width=True),
    'uyvy': _Format(2, _uyvy, even_width=True),
    'yuv422_yuy2': _Format(2, _yuyv, even_width=True),
    'yuyv': _Format(2, _yuyv, even_width=True),
    'nv12': _Format(1, _two_planes(cv2.COLOR_YUV2BGR_NV12), even_width=True, chroma_plane=True),
    'nv21': _Format(1, _two_planes(cv2.COLOR_YUV2BGR_NV21), even_width=True, chroma_plane=True),
}

SUPPORTED_ENCODINGS: tuple[str, ...] = tuple(_FORMATS)


def decode(
    data: PixelData, *, encoding: str, height: int, width: int, step: int,
    is_bigendian: bool = False
) -> Frame:
    """
    Decode a camera's raw pixel data.

    Of sixteen-bit samples the high byte is taken, so that 65535 is white: images of a camera
    that puts twelve bits into sixteen without shifting them become dark. YUV is converted as
    BT.601 with limited range, Bayer patterns are interpolated bilinearly.

    Parameters
    ----------
    data
        Contiguous bytes. Those after the last row are ignored; the last row may lack its padding.
    encoding
        One of SUPPORTED_ENCODINGS.
    height, width
        Size of the image in pixels.
    step
        Bytes from one row to the next, in both planes of nv12 and nv21.
    is_bigendian
        Byte order of sixteen-bit samples.

    Returns
    -------
    Frame
        A view of `data` for the encodings with three eight-bit channels.

    Raises
    ------
    FrameError
        With the reason 'encoding', 'size', 'step' or 'truncated'.

    """
    layout = _FORMATS.get(encoding)
    if layout is None:
        raise FrameError(
            f'encoding {encoding!r} is not supported; allowed: {", ".join(SUPPORTED_ENCODINGS)}',
            reason='encoding')
    _check_size(height, width)
    if layout.even_width and width % 2:
        raise FrameError(f'width is {width}; with {encoding!r} it must be even', reason='size')
    if layout.chroma_plane and height % 2:
        raise FrameError(f'height is {height}; with {encoding!r} it must be even', reason='size')
    rows = view_rows(
        data, height=height * 3 // 2 if layout.chroma_plane else height,
        row_bytes=width * layout.pixel_bytes, step=step)
    if layout.sixteen_bit:
        high_byte = 0 if is_bigendian else 1
        rows = cast(
            'NDArray[np.uint8]',
            cv2.extractChannel(rows.reshape(len(rows), -1, 2), high_byte))
    return Frame(cast('NDArray[np.uint8]', layout.to_pixels(rows)), layout.color_order)


def decode_compressed(data: PixelData) -> Frame:
    """
    Decode a compressed image.

    Of sixteen-bit samples the high byte is taken, gray becomes three channels, alpha is dropped.
    A camera's orientation tag is ignored: the pixels stay where its calibration has them. A JPEG
    may lack its end marker, which some cameras leave out, if all of its pixels are there.

    Parameters
    ----------
    data
        A JPEG, a PNG or another format that OpenCV decodes. Bytes after the end are ignored.

    Returns
    -------
    Frame
        Always in color order 'bgr'.

    Raises
    ------
    FrameError
        With the reason 'truncated' if a part is missing, 'compressed' if the data can't be
        decoded, 'size' if the image is too large.

    """
    raw = bytes(data)
    is_jpeg = raw.startswith(b'\xff\xd8')
    has_end = _jpeg_has_end(raw) if is_jpeg else _png_has_end(raw)
    pixels = None
    # Some OpenCV versions accept images without their end as they are.
    if has_end or is_jpeg:
        with contextlib.suppress(cv2.error):
            # Raised for empty data and for sizes beyond OpenCV's limit.
            pixels = cv2.imdecode(
                np.frombuffer(raw if has_end else raw + JPEG_END, np.uint8),
                cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if not has_end and (pixels is None or _lacks_pixels(raw, pixels)):
        raise FrameError(
            f'compressed image is cut off after {len(raw)} bytes; it must reach its end marker',
            reason='truncated')
    if pixels is None:
        raise FrameError(
            f'compressed image of {len(raw)} bytes starts with "{raw[:8].hex(" ")}" and cannot '
            'be decoded; it must be an intact JPEG, PNG or other format that OpenCV reads, of at '
            f"most {os.environ['OPENCV_IO_MAX_IMAGE_PIXELS']} pixels",
            reason='compressed')
    _check_size(*pixels.shape[:2])
    return Frame(cast('NDArray[np.uint8]', pixels), 'bgr')


def decode_message(message: Any) -> Frame:
    """
    Decode an image message, in the node and from bags.

    The `format` of a compressed image matters only where it says more than the data:
    image_transport names channels there that were not swapped for the encoder, and Bayer
    patterns, which it stores as gray.

    Parameters
    ----------
    message
        A `sensor_msgs/Image` or `sensor_msgs/CompressedImage` of rclpy or rosbags.

    Returns
    -------
    Frame
        (height, width, 3) uint8; a view of the message's data where that is possible.

    Raises
    ------
    FrameError
        The message can't be used.

    """
    if not hasattr(message, 'format'):
        return decode(
            message.data, encoding=message.encoding, height=message.height, width=message.width,
            step=message.step, is_bigendian=bool(message.is_bigendian))
    frame = decode_compressed(message.data)
    encoding, _, compression = message.format.lower().partition(';')
    if 'compressed rgb' in compression:
        return Frame(frame.pixels, 'rgb')
    mosaic = frame.pixels[..., 0]
    if (
        encoding.startswith('bayer_') and 'compressed bgr' not in compression
        and (mosaic == frame.pixels[..., 1]).all()
    ):
        height, width = mosaic.shape
        return decode(
            np.ascontiguousarray(mosaic), encoding=encoding.replace('16', '8'), height=height,
            width=width, step=width)
    return frame


def view_rows(data: PixelData, *, height: int, row_bytes: int, step: int) -> NDArray[np.uint8]:
    """
    View pixel data as rows without their padding.

    Parameters
    ----------
    data
        Contiguous bytes; more than needed are fine, and the last row may lack its padding.
    height
        Number of rows of all planes together.
    row_bytes
        Bytes of a row that hold pixels.
    step
        Bytes from one row to the next.

    Returns
    -------
    NDArray[np.uint8]
        (height, row_bytes), a view of `data`; read-only if `data` is.

    Raises
    ------
    FrameError
        With the reason 'step' or 'truncated'.

    """
    if step < row_bytes:
        raise FrameError(
            f'step is {step}; it must be at least {row_bytes}, the bytes of a row', reason='step')
    available = np.frombuffer(data, np.uint8)
    needed = step * (height - 1) + row_bytes
    if available.size < needed:
        raise FrameError(
            f'data has {available.size} bytes; {height} rows with step {step} must have at least '
            f'{needed}', reason='truncated')
    return np.ndarray((height, row_bytes), np.uint8, available, strides=(step, 1))


def _check_size(height: int, width: int) -> None:
    for name, side in (('height', height), ('width', width)):
        if not 0 < side <= MAX_SIDE:
            raise FrameError(f'{name} is {side}; it must be 1 to {MAX_SIDE}', reason='size')


def _jpeg_has_end(raw: bytes) -> bool:
    """Return whether a JPEG has its end marker."""
    # Segments before the scan are skipped by their length: a thumbnail in one has an end marker.
    position = 2
    while position + 4 <= len(raw) and raw[position] == 0xFF:
        marker = raw[position + 1]
        if marker == 0xDA:
            return raw.rfind(JPEG_END, position) >= 0
        if marker == 0xFF:
            position += 1
        else:
            position += 2 + int.from_bytes(raw[position + 2:position + 4], 'big')
    return False


def _lacks_pixels(raw: bytes, pixels: MatLike) -> bool:
    """Return whether a JPEG that was decoded without its end marker lacks pixels, too."""
    # The decoder leaves missing blocks gray, except where they blend with those above; a cut
    # through the last block doesn't show. A progressive JPEG would lack detail instead, which
    # doesn't show either.
    height, width = pixels.shape[:2]
    corner = pixels[max((height - 1) // 8 * 8, height - 4):, max((width - 1) // 8 * 8, width - 4):]
    return bool((corner == 128).all()) or b'\xff\xc2' in raw


def _png_has_end(raw: bytes) -> bool:
    """Return whether a PNG has its last chunk; true for other formats."""
    if not raw.startswith(b'\x89PNG\r\n\x1a\n'):
        return True
    # A chunk has a length, a name, data and a checksum; the last one is named IEND.
    position = 8
    while position + 12 <= len(raw):
        if raw[position + 4:position + 8] == b'IEND':
            return True
        position += 12 + int.from_bytes(raw[position:position + 4], 'big')
    return False
