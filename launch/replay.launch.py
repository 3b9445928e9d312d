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

"""Play a bag with /clock and segment it: ros2 launch lednet_ros replay.launch.py bag:=PATH."""

from pathlib import Path
import sys

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.events.process import ProcessExited, ProcessIO
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(__file__).absolute().parents[1]

# The node logs this when it is active. Launch could miss its transition event.
READY = b'segmenting '


def make_actions(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Make the actions from the values of the launch arguments."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    try:
        from lednet_ros.recordings.bags import COMPRESSED_TYPE
        from lednet_ros.recordings.sources import find_image_topic
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f'{error} in {sys.executable}, which runs ros2 launch; where another Python has it: '
            'python $(which ros2) launch lednet_ros replay.launch.py ...'
        ) from error

    bag = Path(value('bag')).expanduser()
    topic, kind = find_image_topic(bag, value('image') or None)
    # The delay lets player and node discover each other.
    command = ['ros2', 'bag', 'play', str(bag), '--clock', '--delay', '1', '--rate', value('rate')]
    if value('loop').lower() == 'true':
        command.append('--loop')
    if kind == COMPRESSED_TYPE and not topic.endswith('/compressed'):
        command += ['--remap', f'{topic}:={topic}/compressed']
        topic += '/compressed'
    arguments = {name: value(name) for name in ('params_file', 'checkpoint', 'device', 'rviz')}
    arguments |= {
        'image': topic,
        'image_transport': 'compressed' if kind == COMPRESSED_TYPE else 'raw',
        'use_sim_time': 'true',
        'log_level': 'info',
    }
    players = [ExecuteProcess(cmd=command, output='screen')]

    def start_player(event: ProcessIO) -> ExecuteProcess | None:
        return players.pop() if players and READY in event.text else None

    return [
        RegisterEventHandler(OnProcessExit(on_exit=shut_down)),
        # Loading the network takes seconds: a short bag would end before.
        RegisterEventHandler(OnProcessIO(on_stdout=start_player, on_stderr=start_player)),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'segment.launch.py')),
            launch_arguments=arguments.items(),
        ),
    ]


def shut_down(event: ProcessExited, context: LaunchContext) -> EmitEvent | None:
    """End the launch when the bag, rviz or the node ends."""
    if context.is_shutdown:
        return None
    return EmitEvent(event=Shutdown(reason=f'{event.process_name} has ended'))


def generate_launch_description() -> LaunchDescription:
    """Describe the launch."""
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='Folder or file of a rosbag2.'),
            DeclareLaunchArgument('rate', default_value='1.0', description='Playback speed.'),
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
                'params_file',
                default_value=str(SHARE / 'config' / 'segment.yaml'),
                description='Parameter file of the node.',
            ),
            DeclareLaunchArgument(
                'checkpoint',
                default_value='',
                description="Checkpoint file or name; empty takes the parameter file's.",
            ),
            DeclareLaunchArgument(
                'device',
                default_value='',
                description="auto, cpu, cuda or cuda:N; empty takes the parameter file's.",
            ),
            OpaqueFunction(function=make_actions),
        ]
    )
