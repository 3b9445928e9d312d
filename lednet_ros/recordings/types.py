# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Message types for bags that don't carry their definitions, and for those that are written."""

from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosbags.typesys.store import Typestore

LABEL_INFO_TYPE = 'vision_msgs/msg/LabelInfo'
# vision_msgs 4, whose definitions `rosbags` lacks.
DEFINITIONS = {
    'vision_msgs/msg/VisionClass': 'uint16 class_id\nstring class_name\n',
    LABEL_INFO_TYPE: (
        'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n'
    ),
}


def make_typestore() -> Typestore:
    """Give the types of ROS 2 Jazzy and those of `label_info`."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in DEFINITIONS.items():
        typestore.register(get_types_from_msg(definition, name))
    return typestore
