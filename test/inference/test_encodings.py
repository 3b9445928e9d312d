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

"""Every encoding against independent references, and every reason to refuse a frame."""

import array

import cv2
from lednet_ros.inference import encodings
from lednet_ros.inference.encodings import (
    decode,
    decode_compressed,
    FrameError,
    SUPPORTED_ENCODINGS,
)
import numpy as np
import pytest

HEIGHT, WIDTH = 12, 16
PADDING = 5
BAYER = {
    # Channel (0 red, 1 green, 2 blue) at the four positions of the pattern, row by row.
    'bayer_rggb8': (0, 1, 1, 2),
    'bayer_bggr8': (2, 1, 1, 0),
    'bayer_gbrg8': (1, 2, 0, 1),
    'bayer_grbg8': (1, 0, 2, 1),
}


def random_rows(row_bytes, rows=HEIGHT, seed=7):
    return np.random.default_rng(seed).integers(0, 256, (rows, row_bytes), np.uint8)


def pad(rows, padding=PADDING):
    """Append padding, which must never show up in a result, to every row."""
    return np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)


def decode_rows(rows, encoding, *, height=HEIGHT, width=WIDTH, is_bigendian=False):
    """Decode rows with and without padding; both results must be the same."""
    frames = [
        decode(padded.tobytes(), encoding=encoding, height=height, width=width,
               step=padded.shape[1], is_bigendian=is_bigendian)
        for padded in (rows, pad(rows))
    ]
    np.testing.assert_array_equal(frames[0].pixels, frames[1].pixels)
    for frame in frames:
        assert frame.pixels.shape == (height, width, 3)
        assert frame.pixels.dtype == np.uint8
        # The pixels of a row are packed; rows may be padded.
        assert frame.pixels.strides[1:] == (3, 1)
    return frames[0]


def limited_range_bt601(luma, blue_difference, red_difference):
    """Convert YUV to (height, width, 3) bgr with the textbook formula, in floating point."""
    luma = 1.164383 * np.maximum(luma.astype(float) - 16, 0)
    blue_difference = blue_difference.astype(float) - 128
    red_difference = red_difference.astype(float) - 128
    bgr = np.stack([
        luma + 2.017232 * blue_difference,
        luma - 0.391762 * blue_difference - 0.812968 * red_difference,
        luma + 1.596027 * red_difference,
    ], axis=-1)
    return np.clip(bgr, 0, 255)


def refused(reason, **overrides):
    """Return the error message for a good frame after some changes to it."""
    fields = {'encoding': 'rgb8', 'height': 4, 'width': 6, 'step': 18, **overrides}
    data = fields.pop('data', bytes(72))
    with pytest.raises(FrameError) as caught:
        decode(data, **fields)
    assert caught.value.reason == reason
    return str(caught.value)


@pytest.mark.parametrize('encoding, channels, color_order', [
    ('rgb8', 3, 'rgb'), ('bgr8', 3, 'bgr'), ('8UC3', 3, 'bgr'),
    ('rgba8', 4, 'rgb'), ('bgra8', 4, 'bgr'), ('8UC4', 4, 'bgr'),
])
def test_eight_bit_color(encoding, channels, color_order):
    rows = random_rows(WIDTH * channels)
    frame = decode_rows(rows, encoding)
    assert frame.color_order == color_order
    np.testing.assert_array_equal(
        frame.pixels, rows.reshape(HEIGHT, WIDTH, channels)[..., :3])


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_eight_bit_gray_fills_three_channels(encoding):
    rows = random_rows(WIDTH)
    frame = decode_rows(rows, encoding)
    for channel in range(3):
        np.testing.assert_array_equal(frame.pixels[..., channel], rows)


@pytest.mark.parametrize('is_bigendian', [False, True])
@pytest.mark.parametrize('encoding, channels, color_order', [
    ('rgb16', 3, 'rgb'), ('bgr16', 3, 'bgr'), ('16UC3', 3, 'bgr'),
    ('rgba16', 4, 'rgb'), ('bgra16', 4, 'bgr'), ('16UC4', 4, 'bgr'),
    ('mono16', 1, 'bgr'), ('16UC1', 1, 'bgr'),
])
def test_sixteen_bit_keeps_the_high_byte(encoding, channels, color_order, is_bigendian):
    values = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, channels), np.uint16)
    stored = values.astype('>u2' if is_bigendian else '<u2').view(np.uint8)
    frame = decode_rows(stored.reshape(HEIGHT, -1), encoding, is_bigendian=is_bigendian)
    assert frame.color_order == color_order
    expected = np.broadcast_to(values // 256, (HEIGHT, WIDTH, max(channels, 3)))[..., :3]
    np.testing.assert_array_equal(frame.pixels, expected)


@pytest.mark.parametrize('encoding, luma_at, blue_at, red_at', [
    ('yuv422', 1, 0, 2), ('uyvy', 1, 0, 2), ('yuv422_yuy2', 0, 1, 3), ('yuyv', 0, 1, 3),
])
def test_yuv_422(encoding, luma_at, blue_at, red_at):
    rows = random_rows(WIDTH * 2)
    frame = decode_rows(rows, encoding)
    expected = limited_range_bt601(
        rows[:, luma_at::2],
        rows[:, blue_at::4].repeat(2, axis=1), rows[:, red_at::4].repeat(2, axis=1))
    assert frame.color_order == 'bgr'
    np.testing.assert_allclose(frame.pixels, expected, atol=1.1)


@pytest.mark.parametrize('encoding, blue_at, red_at', [('nv12', 0, 1), ('nv21', 1, 0)])
def test_yuv_420_with_two_planes(encoding, blue_at, red_at):
    rows = random_rows(WIDTH, HEIGHT * 3 // 2)
    frame = decode_rows(rows, encoding)
    blue_difference, red_difference = (
        rows[HEIGHT:, at::2].repeat(2, axis=0).repeat(2, axis=1) for at in (blue_at, red_at))
    expected = limited_range_bt601(rows[:HEIGHT], blue_difference, red_difference)
    assert frame.color_order == 'bgr'
    np.testing.assert_allclose(frame.pixels, expected, atol=1.1)


@pytest.mark.parametrize('encoding', BAYER)
def test_bayer_mosaic_of_a_known_scene(encoding):
    # Three bands of plain color: away from the edges, all pixels must be exact.
    scene = np.zeros((18, 16, 3), np.uint8)
    scene[:6], scene[6:12], scene[12:] = (250, 30, 5), (20, 240, 60), (0, 70, 230)
    mosaic = np.zeros(scene.shape[:2], np.uint8)
    for place, channel in enumerate(BAYER[encoding]):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = scene[row::2, column::2, channel]

    frame = decode_rows(mosaic, encoding, height=18)

    assert frame.color_order == 'bgr'
    inside = [*range(1, 5), *range(7, 11), *range(13, 17)]
    np.testing.assert_array_equal(frame.pixels[inside], scene[inside][..., ::-1])


@pytest.mark.parametrize('is_bigendian', [False, True])
@pytest.mark.parametrize('encoding', BAYER)
def test_sixteen_bit_bayer_uses_the_high_bytes(encoding, is_bigendian):
    high, low = random_rows(WIDTH), random_rows(WIDTH, seed=8)
    stored = np.stack([high, low] if is_bigendian else [low, high], axis=-1)
    frame = decode_rows(
        stored.reshape(HEIGHT, -1), encoding.replace('8', '16'), is_bigendian=is_bigendian)
    np.testing.assert_array_equal(frame.pixels, decode_rows(high, encoding).pixels)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', '8UC3'])
@pytest.mark.parametrize('padding', [0, PADDING])
def test_three_channels_are_not_copied(encoding, padding):
    data = pad(random_rows(WIDTH * 3), padding)
    frame = decode(
        data, encoding=encoding, height=HEIGHT, width=WIDTH, step=WIDTH * 3 + padding)
    assert np.shares_memory(frame.pixels, data)
    assert frame.pixels.strides == (WIDTH * 3 + padding, 3, 1)
    data[3, 6] ^= 0xFF
    assert frame.pixels[3, 2, 0] == data[3, 6]


@pytest.mark.parametrize('encoding', SUPPORTED_ENCODINGS)
def test_data_may_be_any_buffer(encoding):
    # Enough for each encoding; the rest is ignored.
    rows = random_rows(WIDTH * 8, HEIGHT * 3 // 2)
    kinds = [rows, rows.tobytes(), bytearray(rows), memoryview(rows.tobytes()),
             array.array('B', rows.tobytes())]
    frames = [
        decode(data, encoding=encoding, height=HEIGHT, width=WIDTH, step=WIDTH * 8).pixels
        for data in kinds
    ]
    for frame in frames[1:]:
        np.testing.assert_array_equal(frame, frames[0])


@pytest.mark.parametrize('encoding', SUPPORTED_ENCODINGS)
def test_smallest_image(encoding):
    frame = decode(bytes(64), encoding=encoding, height=2, width=2, step=16)
    assert frame.pixels.shape == (2, 2, 3)


@pytest.mark.parametrize('encoding, planes_height', [('rgb8', 4), ('nv12', 6), ('yuyv', 4)])
def test_last_row_may_lack_its_padding(encoding, planes_height):
    row_bytes = {'rgb8': 18, 'nv12': 6, 'yuyv': 12}[encoding]
    rows = pad(random_rows(row_bytes, planes_height))
    fields = {'encoding': encoding, 'height': 4, 'width': 6, 'step': row_bytes + PADDING}
    whole, cut = rows.tobytes(), rows.tobytes()[:-PADDING]
    np.testing.assert_array_equal(
        decode(cut, **fields).pixels, decode(whole, **fields).pixels)
    assert refused('truncated', data=cut[:-1], **fields) == (
        f'data has {len(cut) - 1} bytes; {planes_height} rows with step {row_bytes + PADDING} '
        f'must have at least {len(cut)}')


def test_unknown_encoding_is_named_with_the_known_ones():
    message = refused('encoding', encoding='RGB8')
    assert message.startswith("encoding 'RGB8' is not supported; allowed: rgb8, bgr8, ")
    for encoding in SUPPORTED_ENCODINGS:
        assert encoding in message


@pytest.mark.parametrize('name', ['height', 'width'])
@pytest.mark.parametrize('side', [0, -4, encodings.MAX_SIDE + 1, 2**32 - 1])
def test_absurd_size(name, side):
    assert refused('size', **{name: side}) == f'{name} is {side}; it must be 1 to 32767'


@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'nv12', 'nv21'])
def test_odd_width_without_a_whole_color_sample(encoding):
    message = refused('size', encoding=encoding, width=5)
    assert message == f'width is 5; with {encoding!r} it must be even'


@pytest.mark.parametrize('encoding', ['nv12', 'nv21'])
def test_odd_height_without_a_whole_color_sample(encoding):
    message = refused('size', encoding=encoding, height=3)
    assert message == f'height is 3; with {encoding!r} it must be even'


@pytest.mark.parametrize('step', [0, 17])
def test_step_smaller_than_a_row(step):
    message = refused('step', step=step)
    assert message == f'step is {step}; it must be at least 18, the bytes of a row'


def test_no_data():
    assert refused('truncated', data=array.array('B')).startswith('data has 0 bytes; 4 rows')


def test_largest_size_is_refused_without_arithmetic_overflow():
    message = refused('truncated', height=32767, width=32767, step=2**32 - 1)
    assert message.endswith(str((2**32 - 1) * 32766 + 32767 * 3))


@pytest.fixture(scope='module')
def image():
    coarse = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_LINEAR)


def compressed(image, extension, *options):
    return cv2.imencode(extension, image, options)[1].tobytes()


@pytest.mark.parametrize('kind', [bytes, np.array, lambda data: array.array('B', data)])
def test_jpeg(image, kind):
    data = compressed(image, '.jpg', cv2.IMWRITE_JPEG_QUALITY, 98)
    frame = decode_compressed(kind(bytearray(data)))
    assert frame.color_order == 'bgr'
    assert frame.pixels.shape == image.shape
    assert np.abs(frame.pixels.astype(int) - image).mean() < 2


def test_gray_jpeg_fills_three_channels(image):
    frame = decode_compressed(compressed(image[..., 0], '.jpg'))
    assert frame.pixels.shape == image.shape
    assert (frame.pixels == frame.pixels[..., :1]).all()


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_png_of_any_depth_becomes_eight_bit_bgr(channels, dtype):
    stored = np.random.default_rng(5).integers(
        0, np.iinfo(dtype).max + 1, (20, 30, channels), dtype)
    high_bytes = stored if dtype == np.uint8 else stored >> 8
    frame = decode_compressed(compressed(stored, '.png'))
    assert frame.pixels.dtype == np.uint8
    np.testing.assert_array_equal(
        frame.pixels, np.broadcast_to(high_bytes, (20, 30, max(channels, 3)))[..., :3])


@pytest.mark.parametrize('extension', ['.bmp', '.tiff'])
def test_other_lossless_formats(image, extension):
    frame = decode_compressed(compressed(image, extension))
    np.testing.assert_array_equal(frame.pixels, image)


@pytest.mark.parametrize('options', [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
@pytest.mark.parametrize('kept', [0.01, 0.5, 0.95])
def test_truncated_jpeg(image, options, kept):
    data = compressed(image, '.jpg', *options)
    data = data[:int(len(data) * kept)]
    with pytest.raises(FrameError) as caught:
        decode_compressed(data)
    assert caught.value.reason == 'truncated'
    assert str(caught.value) == (
        f'compressed image is cut off after {len(data)} bytes; it must reach its end marker')


@pytest.mark.parametrize('options', [
    (), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
])
@pytest.mark.parametrize('padding', [0, 500])
def test_complete_jpeg_without_its_end_marker(image, options, padding):
    data = compressed(image, '.jpg', *options)
    np.testing.assert_array_equal(
        decode_compressed(data[:-2] + bytes(padding)).pixels, decode_compressed(data).pixels)


def test_end_of_a_thumbnail_is_not_the_end_of_the_jpeg(image):
    data = compressed(image, '.jpg')
    thumbnail = compressed(image[::8, ::8], '.jpg')
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    # Any number of 0xFF may stand before a marker.
    with_thumbnail = data[:2] + segment + b'\xff' + data[2:]
    np.testing.assert_array_equal(
        decode_compressed(with_thumbnail).pixels, decode_compressed(data).pixels)
    with pytest.raises(FrameError) as caught:
        decode_compressed(with_thumbnail[:-len(data) // 2])
    assert caught.value.reason == 'truncated'


@pytest.mark.parametrize('kept', [0.02, 0.5, 0.99])
def test_truncated_png(image, kept):
    data = compressed(image, '.png')
    with pytest.raises(FrameError) as caught:
        decode_compressed(data[:int(len(data) * kept)])
    assert caught.value.reason == 'truncated'


@pytest.mark.parametrize('extension', ['.jpg', '.png'])
def test_padding_after_a_compressed_image_is_ignored(image, extension):
    data = compressed(image, extension)
    np.testing.assert_array_equal(
        decode_compressed(data + bytes(1000)).pixels, decode_compressed(data).pixels)


@pytest.mark.parametrize('data', [b'', b'not an image', b'\x00' * 12 + b'\x89PNG'])
def test_data_in_no_image_format(data):
    with pytest.raises(FrameError) as caught:
        decode_compressed(data)
    assert caught.value.reason == 'compressed'
    assert f'compressed image of {len(data)} bytes starts with' in str(caught.value)
    assert data[:8].hex(' ') in str(caught.value)


def test_damaged_png(image):
    data = bytearray(compressed(image, '.png'))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(FrameError) as caught:
        decode_compressed(data)
    assert caught.value.reason == 'compressed'


def test_compressed_image_that_is_too_large():
    with pytest.raises(FrameError) as caught:
        decode_compressed(compressed(np.zeros((1, 40000), np.uint8), '.png'))
    assert caught.value.reason == 'size'
    assert str(caught.value) == 'width is 40000; it must be 1 to 32767'


def test_orientation_tag_does_not_rotate_the_pixels(image):
    # TIFF header, one entry: tag 0x0112, type short, one value: 6, rotated by 90 degrees.
    exif = b'Exif\0\0' + bytes.fromhex(
        '4d4d002a 00000008 0001 0112 0003 00000001 00060000 00000000')
    data = compressed(image, '.jpg')
    segment = b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif
    rotated = data[:2] + segment + data[2:]
    assert cv2.imdecode(np.frombuffer(rotated, np.uint8), cv2.IMREAD_COLOR).shape == (160, 120, 3)
    assert decode_compressed(rotated).pixels.shape == (120, 160, 3)
