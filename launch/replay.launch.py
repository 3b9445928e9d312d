# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Play a bag with /clock and segment it: ros2 launch lednet_ros replay.launch.py bag:=PATH."""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from lednet_ros.evaluation.sources import COMPRESSED_TYPE, find_image_topic
from lednet_ros.files import share_directory

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

SEGMENT = share_directory() / 'launch' / 'segment.launch.py'


def make_actions(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Make the actions from the values of the launch arguments."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    bag = Path(value('bag'))
    topic, kind = find_image_topic(bag, value('image') or None)
    compressed = kind == COMPRESSED_TYPE
    command = ['ros2', 'bag', 'play', str(bag), '--clock', '--rate', value('rate')]
    if value('loop') == 'true':
        command.append('--loop')
    arguments = {
        'image': topic.removesuffix('/compressed') if compressed else topic,
        'image_transport': 'compressed' if compressed else 'raw',
        'use_sim_time': 'true',
        'rviz': value('rviz'),
    }
    for name in ('params_file', 'checkpoint', 'device'):
        if value(name):
            arguments[name] = value(name)
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(SEGMENT)), launch_arguments=arguments.items()
        ),
        ExecuteProcess(
            cmd=command,
            output='screen',
            on_exit=[EmitEvent(event=Shutdown(reason='the bag has ended'))],
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe the launch."""
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='Folder of a rosbag2.'),
            DeclareLaunchArgument('rate', default_value='1.0', description='Playing speed.'),
            DeclareLaunchArgument(
                'loop',
                default_value='false',
                choices=['true', 'false'],
                description='Start again at the end.',
            ),
            DeclareLaunchArgument(
                'image',
                default_value='',
                description='Image topic; empty takes the only one of the bag.',
            ),
            DeclareLaunchArgument(
                'rviz', default_value='true', choices=['true', 'false'], description='Open rviz.'
            ),
            DeclareLaunchArgument(
                'params_file', default_value='', description='Parameter file of the node.'
            ),
            DeclareLaunchArgument(
                'checkpoint', default_value='', description='Checkpoint file or name.'
            ),
            DeclareLaunchArgument('device', default_value='', description='auto, cpu or cuda.'),
            OpaqueFunction(function=make_actions),
        ]
    )
