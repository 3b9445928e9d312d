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

"""Start segmentation_node, optionally with rviz: ros2 launch lednet_ros segment.launch.py."""

import os
from pathlib import Path
import sys
import tempfile

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

# The package is not imported: ros2 launch may run on another Python than the node.
CONFIG = Path(__file__).absolute().parents[1] / 'config'

RESPAWN_DELAY = 2.0
# Read by Fast DDS up to Jazzy, and from Kilted on.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')

ARGUMENTS = (
    DeclareLaunchArgument(
        'params_file',
        default_value=str(CONFIG / 'segment.yaml'),
        description='Parameter file of the node.',
    ),
    DeclareLaunchArgument(
        'image',
        default_value='image',
        description="Image topic; one that ends with '/compressed' is received compressed.",
    ),
    DeclareLaunchArgument(
        'image_transport',
        default_value='',
        choices=['', 'raw', 'compressed'],
        description="Transport of the input; empty takes the parameter file's.",
    ),
    DeclareLaunchArgument(
        'cameras',
        default_value='',
        description='Several cameras: their namespaces, separated by commas (front,left).',
    ),
    DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node.'),
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
    DeclareLaunchArgument(
        'use_sim_time',
        default_value='',
        choices=['', 'true', 'false', 'True', 'False'],
        description="Take the time from /clock; empty takes the parameter file's.",
    ),
    DeclareLaunchArgument(
        'rviz',
        default_value='false',
        choices=['true', 'false', 'True', 'False'],
        description='Open rviz.',
    ),
    DeclareLaunchArgument(
        'respawn',
        default_value='false',
        choices=['true', 'false', 'True', 'False'],
        description='Restart the node 2 s after it has ended for any reason.',
    ),
    DeclareLaunchArgument(
        'log_level',
        default_value='info',
        choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Log level of the node.',
    ),
)


def make_nodes(context: LaunchContext) -> list[Node]:
    """Make the nodes from the values of the launch arguments."""
    values = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in ARGUMENTS
    }
    cameras = [name.strip() for name in values['cameras'].split(',') if name.strip()]
    if cameras and values['image'] != 'image':
        raise RuntimeError('image and cameras exclude each other: camera X is received on X/image')
    params_file = Path(values['params_file']).expanduser()
    if not params_file.is_file():
        # launch_ros would continue without it.
        raise RuntimeError(f"params_file '{params_file}' is not a file")
    if values['image'].endswith('/compressed'):
        values['image'] = values['image'].removesuffix('/compressed')
        values['image_transport'] = 'compressed'
    image = f'{cameras[0]}/image' if cameras else values['image']

    parameters: dict[str, object] = {'cameras': cameras} if cameras else {}
    for name in ('checkpoint', 'device', 'image_transport'):
        if values[name]:
            # Without the type, a name like '5' would become a number.
            parameters[name] = ParameterValue(values[name], value_type=str)
    simulated = {}
    if values['use_sim_time']:
        simulated['use_sim_time'] = values['use_sim_time'].lower() == 'true'

    namespace = values['namespace'].strip('/')
    # The file that includes this one may have pushed a namespace.
    whole_namespace = make_namespace_absolute(
        prefix_namespace(context.launch_configurations.get('ros_namespace'), namespace) or ''
    ).rstrip('/')
    outputs = '/'.join([whole_namespace, 'segmentation_node', *cameras[:1]])
    logger = f'{whole_namespace}/segmentation_node'.strip('/').replace('/', '.')
    nodes = []
    if values['rviz'].lower() == 'true':
        # Comes first: if rviz is missing, the launch ends before it starts the node.
        config = make_rviz_config(values['image_transport'] == 'compressed')
        nodes.append(
            Node(
                package='rviz2',
                executable='rviz2',
                namespace=namespace,
                arguments=['-d', config],
                parameters=[simulated],
                # The displays use the topics of a node without namespace and with one camera.
                remappings=[
                    ('/image', image),
                    ('/image/compressed', f'{image}/compressed'),
                    ('/segmentation_node/overlay', f'{outputs}/overlay'),
                    ('/segmentation_node/labels', f'{outputs}/labels'),
                    ('/segmentation_node/color', f'{outputs}/color'),
                ],
            )
        )
    nodes.append(
        Node(
            package='lednet_ros',
            executable='segmentation_node',
            name='segmentation_node',
            namespace=namespace,
            parameters=[str(params_file), parameters, simulated],
            remappings=[] if cameras else [('image', image)],
            arguments=['--ros-args', '--log-level', f"{logger}:={values['log_level']}"],
            output='screen',
            # With it, the node colors its log: not for a pipe or a file.
            emulate_tty=sys.stdout.isatty(),
            respawn=values['respawn'].lower() == 'true',
            respawn_delay=RESPAWN_DELAY,
        )
    )
    return nodes


def make_rviz_config(compressed: bool) -> str:
    """Return the path of the configuration; rviz knows the transport only by the topic's name."""
    path = CONFIG / 'segment.rviz'
    if not compressed:
        return str(path)
    text = path.read_text(encoding='utf-8')
    with tempfile.NamedTemporaryFile(
        'w', prefix='segment_', suffix='.rviz', encoding='utf-8', delete=False
    ) as file:
        file.write(text.replace('Value: /image\n', 'Value: /image/compressed\n'))
    return file.name


def generate_launch_description() -> LaunchDescription:
    """Describe the launch."""
    profile = str(CONFIG / 'fastdds.xml')
    environment = [
        SetEnvironmentVariable(name, profile)
        for name in PROFILE_VARIABLES
        if name not in os.environ
    ]
    return LaunchDescription([*ARGUMENTS, *environment, OpaqueFunction(function=make_nodes)])
