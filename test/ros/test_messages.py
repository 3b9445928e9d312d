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

"""Messages to frames and back, compared with cv_bridge where it supports the conversion."""

import array
import builtins
import sys
import types

from builtin_interfaces.msg import Time
import cv2
from lednet_ros.inference.camera_info import scale_camera_info
from lednet_ros.inference.encodings import decode_message, FrameError
from lednet_ros.ros import messages
import numpy as np
import pytest
from sensor_msgs.msg import (
    CameraInfo,
    CompressedImage,
    Image,
    RegionOfInterest,
)
from std_msgs.msg import Header

pytestmark = pytest.mark.ros

HEIGHT, WIDTH = 12, 16


@pytest.fixture
def header():
    return Header(stamp=Time(sec=2**31 - 1, nanosec=999_999_999), frame_id='camera/ü optical')


def random_image(encoding, pixel_bytes, *, padding=0, is_bigendian=0):
    rows = np.random.default_rng(11).integers(0, 256, (HEIGHT, WIDTH * pixel_bytes), np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)
    return Image(
        height=HEIGHT, width=WIDTH, encoding=encoding, is_bigendian=is_bigendian,
        step=padded.shape[1], data=array.array('B', padded.tobytes()))


def refused(decoder, msg):
    """Return the error that the decoder raises for a message."""
    with pytest.raises(FrameError) as caught:
        decoder(msg)
    return caught.value


@pytest.mark.parametrize('padding', [0, 7])
@pytest.mark.parametrize('encoding, pixel_bytes', [
    ('rgb8', 3), ('bgr8', 3), ('rgba8', 4), ('bgra8', 4), ('mono8', 1),
    ('bayer_rggb8', 1), ('bayer_bggr8', 1), ('bayer_gbrg8', 1),
])
def test_same_pixels_as_cv_bridge(encoding, pixel_bytes, padding):
    cv_bridge = pytest.importorskip('cv_bridge')
    # Without padding, which cv_bridge gets wrong.
    reference = cv_bridge.CvBridge().imgmsg_to_cv2(random_image(encoding, pixel_bytes), 'bgr8')
    frame = decode_message(random_image(encoding, pixel_bytes, padding=padding))
    order = slice(None, None, -1) if frame.color_order == 'rgb' else slice(None)
    np.testing.assert_array_equal(frame.pixels[..., order], reference)


@pytest.mark.parametrize('encoding, channels', [
    ('8UC1', 1), ('8UC3', 3), ('8UC4', 4), ('mono16', 1), ('rgb16', 3), ('bgra16', 4),
])
def test_same_samples_as_cv_bridge_without_conversion(encoding, channels):
    cv_bridge = pytest.importorskip('cv_bridge')
    msg = random_image(encoding, channels * (2 if '16' in encoding else 1))
    samples = cv_bridge.CvBridge().imgmsg_to_cv2(msg).reshape(HEIGHT, WIDTH, channels)
    if samples.dtype == np.uint16:
        samples = samples >> 8
    np.testing.assert_array_equal(
        decode_message(msg).pixels,
        np.broadcast_to(samples, (HEIGHT, WIDTH, max(channels, 3)))[..., :3])


def test_byte_order_of_the_message_is_honored():
    little, big = (
        decode_message(random_image('mono16', 2, is_bigendian=order)).pixels[..., 0]
        for order in (0, 1))
    stored = np.frombuffer(random_image('mono16', 2).data, np.uint8).reshape(HEIGHT, WIDTH, 2)
    np.testing.assert_array_equal(little, stored[..., 1])
    np.testing.assert_array_equal(big, stored[..., 0])


def test_message_is_viewed_not_copied():
    msg = random_image('bgr8', 3, padding=7)
    assert np.shares_memory(
        decode_message(msg).pixels, np.frombuffer(msg.data, np.uint8))


def test_empty_message():
    error = refused(decode_message, Image(encoding='rgb8'))
    assert error.reason == 'size'
    assert str(error) == 'height is 0; it must be 1 to 32767'


def test_data_shorter_than_declared():
    msg = random_image('rgb8', 3)
    msg.data = msg.data[:100]
    error = refused(decode_message, msg)
    assert error.reason == 'truncated'
    assert '100 bytes' in str(error) and str(HEIGHT * WIDTH * 3) in str(error)


@pytest.mark.parametrize('encoding, pixel_bytes', [('32FC1', 4), ('8UC2', 2), ('no such', 1)])
def test_encodings_that_cv_bridge_cannot_convert_are_rejected(encoding, pixel_bytes):
    pytest.importorskip('cv_bridge')
    error = refused(messages.decode_image, random_image(encoding, pixel_bytes))
    assert error.reason == 'encoding'
    assert repr(encoding) in str(error)
    assert 'cv_bridge' in str(error) and 'mono8' in str(error)


def test_missing_cv_bridge_is_named(monkeypatch):
    def failing_import(name, *args, **kwargs):
        if name == 'cv_bridge':
            raise ImportError('numpy.core.multiarray failed to import')
        return real_import(name, *args, **kwargs)

    real_import = builtins.__import__
    monkeypatch.setattr(builtins, '__import__', failing_import)
    error = refused(messages.decode_image, random_image('nv24', 2))
    assert error.reason == 'encoding'
    assert str(error).startswith(
        "encoding 'nv24' needs cv_bridge, which cannot be imported "
        '(numpy.core.multiarray failed to import); allowed without it: rgb8, ')


@pytest.fixture
def future_bridge(monkeypatch):
    """Replace cv_bridge by one with an encoding 'depth16', two samples per pixel."""
    class CvBridge:
        result = np.full((HEIGHT, WIDTH, 3), 9, np.uint8)
        received = None

        def encoding_to_dtype_with_channels(self, encoding):
            assert encoding == 'depth16'
            return 'uint16', 2

        def imgmsg_to_cv2(self, msg, desired_encoding):
            assert desired_encoding == 'bgr8'
            CvBridge.received = msg
            return self.result

    module = types.ModuleType('cv_bridge')
    module.CvBridge = CvBridge
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)
    return CvBridge


@pytest.mark.parametrize('is_bigendian', [0, 1])
def test_cv_bridge_gets_packed_rows_in_native_byte_order(future_bridge, is_bigendian):
    msg = random_image('depth16', 4, padding=7, is_bigendian=is_bigendian)
    frame = messages.decode_image(msg)
    assert frame.pixels is future_bridge.result
    assert frame.color_order == 'bgr'

    received = future_bridge.received
    assert (received.height, received.width, received.step) == (HEIGHT, WIDTH, WIDTH * 4)
    assert received.encoding == 'depth16'
    assert received.is_bigendian == (sys.byteorder == 'big')
    rows = np.frombuffer(msg.data, np.uint8).reshape(HEIGHT, -1)[:, :-7]
    np.testing.assert_array_equal(
        np.frombuffer(received.data, np.uint16),
        np.frombuffer(rows.tobytes(), '>u2' if is_bigendian else '<u2'))


def test_message_for_cv_bridge_is_checked_first(future_bridge):
    msg = random_image('depth16', 4)
    msg.step -= 1
    assert refused(messages.decode_image, msg).reason == 'step'
    assert future_bridge.received is None


@pytest.mark.parametrize('result', [
    np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.float32),
])
def test_result_of_cv_bridge_is_checked(future_bridge, result):
    future_bridge.result = result
    error = refused(messages.decode_image, random_image('depth16', 4))
    assert error.reason == 'encoding'
    assert str(result.shape) in str(error) and str(result.dtype) in str(error)


@pytest.mark.parametrize('layout, color_order', [
    ('', 'bgr'), ('png', 'bgr'), ('bgr8; png compressed bgr8', 'bgr'),
    ('rgb8; png compressed bgr8', 'bgr'), ('rgb8; png compressed rgb8', 'rgb'),
    ('mono8; png compressed mono8', 'bgr'), ('RGB8; PNG compressed RGB8', 'rgb'),
    ('bayer_rggb8; png compressed bgr8', 'bgr'),
])
def test_color_order_from_the_format_of_a_compressed_image(layout, color_order):
    pixels = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    encoded = cv2.imencode('.png', pixels)[1]
    frame = decode_message(
        CompressedImage(format=layout, data=array.array('B', encoded.tobytes())))
    assert frame.color_order == color_order
    np.testing.assert_array_equal(frame.pixels, pixels)


@pytest.mark.parametrize('dtype, encoding, compression', [
    (np.uint8, 'bayer_grbg8', 'png'), (np.uint16, 'bayer_grbg16', 'png'),
    (np.uint8, 'bayer_grbg8', 'jpeg'),
])
def test_compressed_bayer_pattern(dtype, encoding, compression):
    mosaic = np.random.default_rng(2).integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH), dtype)
    encoded = cv2.imencode(f'.{compression}', mosaic)[1]
    if compression == 'jpeg':
        mosaic = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    frame = decode_message(CompressedImage(
        format=f'{encoding}; {compression} compressed ',
        data=array.array('B', encoded.tobytes())))
    raw = decode_message(Image(
        height=HEIGHT, width=WIDTH, encoding=encoding, step=WIDTH * mosaic.itemsize,
        data=array.array('B', mosaic.tobytes())))
    np.testing.assert_array_equal(frame.pixels, raw.pixels)


def test_truncated_compressed_image():
    encoded = cv2.imencode('.jpg', np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
    msg = CompressedImage(data=array.array('B', encoded[:len(encoded) // 2]))
    assert refused(decode_message, msg).reason == 'truncated'


def test_fill_image(header):
    pixels = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)
    msg = Image(is_bigendian=1)
    messages.fill_image(msg, pixels, 'rgb8', header)
    assert (msg.height, msg.width, msg.step) == (5, 7, 21)
    assert (msg.encoding, msg.is_bigendian) == ('rgb8', 0)
    assert msg.header == Header(
        stamp=Time(sec=2**31 - 1, nanosec=999_999_999), frame_id='camera/ü optical')
    assert isinstance(msg.data, array.array) and msg.data.typecode == 'B'
    assert msg.data.tobytes() == pixels.tobytes()
    np.testing.assert_array_equal(decode_message(msg).pixels, pixels)


def test_label_image_has_no_row_padding(header):
    labels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    # Every second column of a wider image: the message must be packed nevertheless.
    strided = np.repeat(labels, 2, axis=1)[:, ::2]
    msg = Image()
    messages.fill_image(msg, strided, 'mono8', header)
    assert (msg.height, msg.width, msg.step) == (5, 7, 7)
    assert msg.data.tobytes() == labels.tobytes()


def test_fill_image_reuses_the_buffer_until_the_size_changes(header):
    msg = Image()
    messages.fill_image(msg, np.zeros((4, 6), np.uint8), 'mono8', header)
    buffer = msg.data
    address = np.frombuffer(buffer, np.uint8)

    messages.fill_image(msg, np.full((4, 6), 5, np.uint8), 'mono8', header)
    assert msg.data is buffer
    assert np.shares_memory(address, np.frombuffer(msg.data, np.uint8))
    assert bytes(buffer) == b'\5' * 24

    # The same number of bytes in another shape fits too.
    messages.fill_image(msg, np.full((2, 4, 3), 6, np.uint8), 'bgr8', header)
    assert msg.data is buffer
    assert (msg.height, msg.width, msg.step) == (2, 4, 12)

    messages.fill_image(msg, np.full((4, 7), 7, np.uint8), 'mono8', header)
    assert msg.data is not buffer
    assert bytes(msg.data) == b'\7' * 28
    assert bytes(buffer) == b'\6' * 24


@pytest.mark.parametrize('dtype', [np.uint16, np.int64, np.float32, bool])
def test_fill_image_takes_only_bytes(header, dtype):
    with pytest.raises(TypeError):
        messages.fill_image(Image(), np.zeros((4, 6), dtype), 'mono8', header)


def test_labels_survive_png_exactly(header):
    labels = np.random.default_rng(4).integers(0, 256, (20, 30), np.uint8)
    msg = CompressedImage()
    messages.fill_compressed(
        msg, labels, image_format='png', encoding='mono8', quality=1, header=header)
    assert msg.format == 'mono8; png compressed mono8'
    assert msg.header == header
    assert isinstance(msg.data, array.array)
    stored = cv2.imdecode(np.frombuffer(msg.data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, labels)


@pytest.mark.parametrize('image_format', ['png', 'jpeg'])
@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8'])
def test_colors_survive_compression(header, encoding, image_format):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., encoding.index('r')] = 250
    before = red.copy()
    msg = CompressedImage()
    messages.fill_compressed(
        msg, red, image_format=image_format, encoding=encoding, quality=95, header=header)
    assert msg.format == f'{encoding}; {image_format} compressed bgr8'
    np.testing.assert_array_equal(red, before)
    np.testing.assert_allclose(
        decode_message(msg).pixels[8, 8], (0, 0, 250), atol=3)


def test_jpeg_quality(header):
    noise = np.random.default_rng(6).integers(0, 256, (64, 64, 3), np.uint8)
    sizes = []
    for quality in (20, 95):
        msg = CompressedImage()
        messages.fill_compressed(
            msg, noise, image_format='jpeg', encoding='bgr8', quality=quality, header=header)
        sizes.append(len(msg.data))
    assert sizes[0] * 2 < sizes[1]


@pytest.fixture
def info():
    return CameraInfo(
        header=Header(frame_id='old'), width=2048, height=1024, distortion_model='plumb_bob',
        d=[0.1, -0.2, 0.001, 0.002, 0.3],
        k=[1000.0, 0.0, 1020.0, 0.0, 1010.0, 500.0, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0],
        p=[900.0, 0.0, 1000.0, -120.0, 0.0, 910.0, 510.0, 8.0, 0.0, 0.0, 1.0, 0.0])


def test_camera_info_of_a_smaller_image(info, header):
    scaled = scale_camera_info(info, 512, 512, header)
    assert (scaled.width, scaled.height) == (512, 512)
    assert scaled.header == header
    assert scaled.k.tolist() == [250, 0, 255, 0, 505, 250, 0, 0, 1]
    assert scaled.p.tolist() == [225, 0, 250, -30, 0, 455, 255, 4, 0, 0, 1, 0]
    assert scaled.distortion_model == 'plumb_bob'
    assert scaled.d.tolist() == info.d.tolist()
    assert scaled.r.tolist() == info.r.tolist()
    assert scaled.roi == RegionOfInterest()


def test_camera_info_of_the_same_size_is_unchanged(info, header):
    info.header = header
    info.binning_x = info.binning_y = 1
    assert scale_camera_info(info, 2048, 1024, header) == info


def test_input_camera_info_is_not_modified(info, header):
    scaled = scale_camera_info(info, 512, 256, header)
    scaled.d[0] = 7.0
    assert (info.width, info.height, info.header.frame_id) == (2048, 1024, 'old')
    assert (info.k[0], info.p[0], info.d[0]) == (1000, 900, 0.1)


def test_camera_info_with_binning(info, header):
    # The camera sends 1024x512: at that size nothing changes.
    info.binning_x = info.binning_y = 2
    info.header = header
    assert scale_camera_info(info, 1024, 512, header) == info
    scaled = scale_camera_info(info, 512, 256, header)
    assert (scaled.width, scaled.height) == (1024, 512)
    assert (scaled.binning_x, scaled.binning_y) == (2, 2)
    assert scaled.k[0] == 500


def test_camera_info_with_a_region_of_interest(info, header):
    # The camera sends 800x400 out of 2048x1024.
    info.roi = RegionOfInterest(x_offset=101, y_offset=50, width=800, height=400, do_rectify=True)
    scaled = scale_camera_info(info, 400, 100, header)
    assert scaled.roi == RegionOfInterest(
        x_offset=50, y_offset=12, width=400, height=100, do_rectify=True)
    assert (scaled.width, scaled.height) == (1024, 256)
    assert (scaled.k[0], scaled.k[4]) == (500, 252.5)


def test_region_of_interest_has_exactly_the_size_of_the_image(info, header):
    # 61 / 7 * 7 is a little less than 61.
    info.roi = RegionOfInterest(width=7, height=7)
    scaled = scale_camera_info(info, 61, 61, header)
    assert (scaled.roi.width, scaled.roi.height) == (61, 61)


def test_camera_info_of_an_uncalibrated_camera(header):
    scaled = scale_camera_info(CameraInfo(), 512, 256, header)
    assert scaled == CameraInfo(header=header, width=512, height=256)
    scaled = scale_camera_info(CameraInfo(width=2048, height=1024), 512, 256, header)
    assert scaled == CameraInfo(header=header, width=512, height=256)


@pytest.mark.parametrize('size', [(0, 1024), (2048, 0)])
def test_calibrated_camera_info_without_a_size(info, header, size):
    info.width, info.height = size
    with pytest.raises(FrameError) as caught:
        scale_camera_info(info, 512, 256, header)
    assert caught.value.reason == 'size'
    assert f'size {size[0]}x{size[1]}' in str(caught.value)
