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

"""Camera info of resized images, for messages of rclpy and of `rosbags` alike."""

import copy
from typing import Any

from lednet_ros.inference.encodings import FrameError

# Sizes are uint32.
MAX_FIELD = 2**32 - 1


def camera_info_topic(image_topic: str) -> str:
    """Return the camera info's topic, beside the base topic of the image as in image_transport."""
    return image_topic.removesuffix('/compressed').rpartition('/')[0] + '/camera_info'


def scale_camera_info(info: Any, width: int, height: int, header: Any) -> Any:
    """
    Compute the camera info of a resized image.

    Works like image_proc's resize, with one difference: a camera that sends a region of interest
    or bins pixels sends an image smaller than the calibrated one, and the factors refer to the
    image it sends. Region and binning stay in the result, for the consumer to apply.

    Parameters
    ----------
    info : sensor_msgs.msg.CameraInfo
        Of the image before resizing. An uncalibrated camera may leave its size 0 if its matrices
        are 0 too.
    width, height : int
        Size of the resized image in pixels.
    header : std_msgs.msg.Header
        Shared, not copied: that of the resized image.

    Returns
    -------
    sensor_msgs.msg.CameraInfo
        A new message: K, P and the region of interest scaled; distortion, R and binning
        unchanged.

    Raises
    ------
    FrameError
        With the reason 'size' where a calibrated camera's size is 0, or a
        result doesn't fit its field.

    """
    scaled = copy.deepcopy(info)
    scaled.header = header
    if info.width == 0 or info.height == 0:
        if info.k.any() or info.p.any():
            raise FrameError(
                f'camera_info of a calibrated camera has size {info.width}x{info.height} (width x '
                'height); both must be 1 or more', reason='size')
        scaled.width, scaled.height = width, height
        return scaled

    scale_x = width * max(info.binning_x, 1) / (info.roi.width or info.width)
    scale_y = height * max(info.binning_y, 1) / (info.roi.height or info.height)
    # Integers except for rounding errors.
    whole = round(info.width * scale_x), round(info.height * scale_y)
    region = round(info.roi.width * scale_x), round(info.roi.height * scale_y)
    left, top = int(info.roi.x_offset * scale_x), int(info.roi.y_offset * scale_y)
    if max(*whole, *region, left, top) > MAX_FIELD:
        raise FrameError(
            f'camera_info of {info.width}x{info.height} with binning {info.binning_x}x'
            f'{info.binning_y} and region {info.roi.width}x{info.roi.height} (width x height) '
            f'becomes larger than its fields can hold ({MAX_FIELD})', reason='size')
    scaled.width, scaled.height = whole
    # K is [fx 0 cx; 0 fy cy; 0 0 1], P is [fx 0 cx Tx; 0 fy cy Ty; 0 0 1 0].
    scaled.k[0:3] *= scale_x
    scaled.k[3:6] *= scale_y
    scaled.p[0:4] *= scale_x
    scaled.p[4:8] *= scale_y
    scaled.roi.x_offset = left
    scaled.roi.y_offset = top
    scaled.roi.width, scaled.roi.height = region
    return scaled
