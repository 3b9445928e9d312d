# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Play a bag with /clock and segment it: ros2 launch lednet_ros replay.launch.py bag:=PATH."""

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.event_handlers import OnStateTransition
from lednet_ros.evaluation.sources import COMPRESSED_TYPE, find_image_topic
from lednet_ros.files import share_directory

SEGMENT = share_directory() / 'launch' / 'segment.launch.py'


def make_actions(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Make the actions from the values of the launch arguments."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    bag = Path(value('bag')).expanduser()
    topic, kind = find_image_topic(bag, value('image') or None)
    # The delay is for the discovery between player and node.
    command = ['ros2', 'bag', 'play', str(bag), '--clock', '--delay', '1', '--rate', value('rate')]
    if value('loop').lower() == 'true':
        command.append('--loop')
    if kind == COMPRESSED_TYPE and not topic.endswith('/compressed'):
        command += ['--remap', f'{topic}:={topic}/compressed']
        topic += '/compressed'
    arguments = {'image': topic, 'use_sim_time': 'true', 'rviz': value('rviz')}
    for name in ('params_file', 'checkpoint', 'device'):
        if value(name):
            arguments[name] = value(name)
    return [
        RegisterEventHandler(OnProcessExit(on_exit=shut_down)),
        # Loading the network takes seconds, in which a short bag would be over.
        RegisterEventHandler(
            OnStateTransition(
                goal_state='active', entities=[ExecuteProcess(cmd=command, output='screen')]
            )
        ),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(SEGMENT)), launch_arguments=arguments.items()
        ),
    ]


def shut_down(event: ProcessExited, _: LaunchContext) -> EmitEvent:
    """End the launch with the bag, with rviz or with a node that can't work."""
    return EmitEvent(event=Shutdown(reason=f'{event.process_name} has ended'))


def generate_launch_description() -> LaunchDescription:
    """Describe the launch."""
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='Folder or file of a rosbag2.'),
            DeclareLaunchArgument('rate', default_value='1.0', description='Playing speed.'),
            DeclareLaunchArgument(
                'loop',
                default_value='false',
                choices=['true', 'false', 'True', 'False'],
                description='Start again at the end.',
            ),
            DeclareLaunchArgument(
                'image',
                default_value='',
                description='Image topic; empty takes the only one of the bag.',
            ),
            DeclareLaunchArgument(
                'rviz',
                default_value='true',
                choices=['true', 'false', 'True', 'False'],
                description='Open rviz.',
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
