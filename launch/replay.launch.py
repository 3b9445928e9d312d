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


"""Play a recording with /clock and segment it: `replay.launch.py bag:=PATH`."""

from collections.abc import Mapping, Sequence
import math
from pathlib import Path
import sys
from typing import NamedTuple

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
from launch_ros.actions import Node

SHARE = Path(__file__).absolute().parents[1]

# The node logs this when it is active. Launch could miss its transition event.
READY = b'segmenting '
LEVELS = ('debug', 'info')
# Lets player and node discover each other.
DELAY = 1.0


class Recording(NamedTuple):
    """A recording's image topics as they are played, and how it is played."""

    images: Sequence[str]
    is_compressed: bool
    remaps: Sequence[str]
    by_ros2_bag: bool


def prepare(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Look into the recording, set segment.launch.py's arguments and prepare the player."""
    values = context.launch_configurations
    check_values(values)
    path = Path(values['bag']).expanduser()
    try:
        recording = look_into(path, values)
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f'{error} in {sys.executable}, which runs ros2 launch; where another Python has it: '
            'python $(which ros2) launch lednet_ros replay.launch.py ...'
        ) from error
    values['images' if values.get('cameras') else 'image'] = ','.join(recording.images)
    values['image_transport'] = 'compressed' if recording.is_compressed else 'raw'
    values['use_sim_time'] = 'true'
    players = [make_player(path, recording, context)]

    def start_player(event: ProcessIO) -> ExecuteProcess | None:
        return players.pop() if players and READY in event.text else None

    return [
        RegisterEventHandler(OnProcessExit(on_exit=shut_down)),
        # Loading the network takes seconds: a short recording would end before.
        RegisterEventHandler(OnProcessIO(on_stdout=start_player, on_stderr=start_player)),
    ]


def look_into(path: Path, values: Mapping[str, str]) -> Recording:
    """Find the images of a recording; raise RuntimeError if it can't be played as asked."""
    from lednet_ros.recordings.bags import COMPRESSED_TYPE, IMAGE_TYPES, is_bag, NODE, open_bag
    from lednet_ros.recordings.sources import read_frames

    several = values.get('cameras')
    if not is_bag(path):
        if several:
            raise RuntimeError(f"cameras is '{several}'; {path} has the images of one")
        # Fails now if they can't be read.
        next(read_frames(path))
        image = values['image']
        return Recording([image or '/image'], False, [f'image:={image}'] if image else [], False)
    names = values.get('images', '').split(',') if several else [values['image']]
    if several and not names[0]:
        raise RuntimeError(f"cameras is '{several}': images must have their topics in {path}")
    with open_bag(path) as bag:
        topics = [
            bag.choose_topic(name.strip() or None, IMAGE_TYPES, 'image topic') for name in names
        ]
        by_ros2_bag = not bag.is_ros1 and not bag.damage and has_ros2_bag(path)
        # Results of an earlier run must not mix with those of this one.
        node = f"{values.get('namespace', '').strip('/')}/{values.get('name', NODE[1:])}/"
        remaps = [
            f'{topic.name}:=/recorded{topic.name}'
            for topic in bag.topics
            if topic.name.startswith(f"/{node.lstrip('/')}")
        ]
    is_compressed = topics[0].type == COMPRESSED_TYPE
    if any((topic.type == COMPRESSED_TYPE) != is_compressed for topic in topics):
        raise RuntimeError(
            f'{path}: the images must be all raw or all compressed, but are '
            + ', '.join(f'{topic.name} ({topic.type})' for topic in topics)
        )
    images = []
    for topic in topics:
        ending = '/compressed' if is_compressed else ''
        images.append(topic.name.removesuffix(ending) + ending)
        if images[-1] != topic.name:
            remaps.append(f'{topic.name}:={images[-1]}')
    return Recording(images, is_compressed, remaps, by_ros2_bag)


def make_player(path: Path, recording: Recording, context: LaunchContext) -> ExecuteProcess:
    """Make the process that plays: `ros2 bag play` if it can, or else the package's player."""
    from lednet_ros.ros.distribution import PROFILE_VARIABLES

    values = context.launch_configurations
    options = [str(path), '--clock', '--delay', str(DELAY), '--rate', values['rate']]
    options += ['--start-offset', values['start_offset']]
    if values['loop'].lower() == 'true':
        options.append('--loop')
    if recording.remaps:
        options += ['--remap', *recording.remaps]
    environment = {
        variable: str(SHARE / 'config' / 'fastdds.xml')
        for variable in PROFILE_VARIABLES
        if variable not in context.environment
    }
    if recording.by_ros2_bag:
        return ExecuteProcess(
            cmd=['ros2', 'bag', 'play', *options], output='screen', additional_env=environment
        )
    return Node(
        package='lednet_ros',
        executable='player',
        arguments=[*options, '--subscribers', '1'],
        output='screen',
        additional_env=environment,
    )


def check_values(values: Mapping[str, str]) -> None:
    """Refuse numbers that the player would refuse later."""
    for name, allowed in (('rate', 'above 0'), ('start_offset', '0 or more')):
        try:
            number = float(values[name])
        except ValueError:
            number = math.nan
        if not (0 < number < math.inf or (number == 0 and name == 'start_offset')):
            raise RuntimeError(f"{name} is '{values[name]}'; allowed: a number, {allowed}")
    if values.get('log_level', 'info') not in LEVELS:
        raise RuntimeError(
            f"log_level is '{values['log_level']}'; allowed: {', '.join(LEVELS)}, as the player "
            'waits for what the node logs'
        )


def has_ros2_bag(path: Path) -> bool:
    """Return whether `ros2 bag` and its storage plugin for this bag are installed."""
    from ament_index_python.packages import get_package_prefix

    files = list(path.iterdir()) if path.is_dir() else [path]
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        return False
    storage = 'sqlite3' if any('.db3' in file.name for file in files) else 'mcap'
    try:
        for package in ('ros2bag', f'rosbag2_storage_{storage}'):
            get_package_prefix(package)
    # The latter where AMENT_PREFIX_PATH is not set.
    except (LookupError, OSError):
        return False
    return True


def shut_down(event: ProcessExited, context: LaunchContext) -> EmitEvent | None:
    """End the launch, which fails with the first process that fails."""
    if context.is_shutdown:
        return None
    if event.returncode:
        # The exit code of ros2 launch tells only of exceptions.
        raise RuntimeError(f'{event.process_name} ended with exit code {event.returncode}')
    return EmitEvent(event=Shutdown(reason=f'{event.process_name} has ended'))


def generate_launch_description() -> LaunchDescription:
    """Describe the launch; it takes all arguments of segment.launch.py, too."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'bag', description='A rosbag2, a ROS 1 bag, a video or a folder of images.'
            ),
            DeclareLaunchArgument('rate', default_value='1.0', description='Playback speed.'),
            DeclareLaunchArgument(
                'loop',
                default_value='false',
                choices=['true', 'false', 'True', 'False'],
                description='Start again at the end.',
            ),
            DeclareLaunchArgument(
                'start_offset', default_value='0.0', description='Seconds to skip.'
            ),
            DeclareLaunchArgument(
                'image',
                default_value='',
                description='Image topic; empty takes the only one of the bag.',
            ),
            OpaqueFunction(function=prepare),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'segment.launch.py'))
            ),
        ]
    )
