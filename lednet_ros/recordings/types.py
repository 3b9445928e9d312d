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
    """Return the types of ROS 2 Jazzy and those of `label_info`."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in DEFINITIONS.items():
        typestore.register(get_types_from_msg(definition, name))
    return typestore
