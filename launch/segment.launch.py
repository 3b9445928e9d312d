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

from collections.abc import Mapping, Sequence
import copy
from pathlib import Path
import re
import sys
import tempfile

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.utilities import make_namespace_absolute, prefix_namespace
import yaml

# The package is not imported: ros2 launch may run on another Python than the node.
CONFIG = Path(__file__).absolute().parents[1] / 'config'

RESPAWN_DELAY = 2.0
# Read by Fast DDS up to Jazzy, and from Kilted on.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
BOOLEANS = ('true', 'false', 'True', 'False')
SIZE = re.compile(r'\[?\s*(\d+)\s*[x,]\s*(\d+)\s*\]?')
# Arguments that set the parameter of the same name, unless they are empty.
TEXTS = ('checkpoint', 'device', 'backend', 'precision', 'image_transport')
SIZES = ('input_size', 'output_size')


def argument(
    name: str, description: str, default: str = '', choices: Sequence[str] | None = None
) -> DeclareLaunchArgument:
    """Declare a launch argument."""
    return DeclareLaunchArgument(
        name, default_value=default, choices=choices, description=description
    )


def parameter(
    name: str, description: str, choices: Sequence[str] | None = None
) -> DeclareLaunchArgument:
    """Declare a launch argument that sets a parameter, unless it is empty."""
    return argument(
        name,
        f"{description}; empty takes the parameter file's.",
        choices=None if choices is None else ('', *choices),
    )


ARGUMENTS = (
    argument('params_file', 'Parameter file of the node.', str(CONFIG / 'segment.yaml')),
    argument(
        'image', "Image topic; one that ends with '/compressed' is received compressed.", 'image'
    ),
    parameter('image_transport', 'Transport of the input', ('raw', 'compressed')),
    argument('camera_info', 'Topic of the camera_info; empty takes the one beside the image.'),
    argument(
        'cameras', 'Several cameras: their namespaces, separated by commas (front,left).'
    ),
    argument(
        'images',
        'Image topics of the cameras, in their order, separated by commas; empty takes '
        'front/image, left/image ...',
    ),
    argument(
        'camera_infos',
        'Topics of the camera_info of the cameras, like images; empty takes those beside the '
        'images.',
    ),
    argument('namespace', 'Namespace of the node.'),
    argument('name', 'Name of the node.', 'segmentation_node'),
    parameter('autostart', 'Configure and activate at start', BOOLEANS),
    parameter('checkpoint', 'Checkpoint file or name'),
    parameter('device', 'auto, cpu, cuda or cuda:N'),
    parameter('backend', 'What runs the network, like openvino'),
    parameter('precision', 'Arithmetic of the network, like bf16'),
    parameter('input_size', "Height and width of the network's input, like 512x1024"),
    parameter('output_size', 'Height and width of the outputs, like 360x640'),
    parameter('use_sim_time', 'Take the time from /clock', BOOLEANS),
    argument('rviz', 'Open rviz.', 'false', BOOLEANS),
    argument(
        'respawn', 'Restart the node 2 s after it has ended for any reason.', 'false', BOOLEANS
    ),
    argument(
        'log_level', 'Log level of the node.', 'info', ('debug', 'info', 'warn', 'error', 'fatal')
    ),
)


def split(text: str) -> list[str]:
    """Split at commas, without spaces and empty parts."""
    return [part.strip() for part in text.split(',') if part.strip()]


def is_true(text: str) -> bool:
    """Return the value of one of `BOOLEANS`."""
    return text.lower() == 'true'


def check_cameras(values: Mapping[str, str]) -> None:
    """Refuse arguments that contradict each other."""
    cameras = split(values['cameras'])
    for one, several in (('image', 'images'), ('camera_info', 'camera_infos')):
        topics = split(values[several])
        # Empty, or the default of image.
        if cameras and values[one] not in ('', 'image'):
            raise RuntimeError(
                f"{one} is '{values[one]}' and cameras is '{values['cameras']}', which exclude "
                f'each other; {several} has the topics of several cameras'
            )
        if topics and len(topics) != len(cameras):
            raise RuntimeError(
                f"{several} has {len(topics)} topics ({', '.join(topics)}) for {len(cameras)} "
                f"cameras ({', '.join(cameras) or 'none'}); allowed: one for each camera, or none"
            )
    if len(set(cameras)) != len(cameras):
        raise RuntimeError(f"cameras is '{values['cameras']}'; names must differ")


def choose_transport(images: Sequence[str], transport: str) -> str:
    """Return the image transport that the names of the topics, or else the argument, tell."""
    compressed = [image for image in images if image.endswith('/compressed')]
    if compressed and (len(compressed) < len(images) or transport == 'raw'):
        raise RuntimeError(
            f"images are {', '.join(images)} and image_transport is '{transport}'; allowed: all "
            'raw, or all compressed'
        )
    return 'compressed' if compressed else transport


def make_parameters(values: Mapping[str, str]) -> dict[str, object]:
    """Make the parameters of the arguments that are given; others stay as in the file."""
    parameters: dict[str, object] = {}
    for name in TEXTS:
        if values[name]:
            # Without the type, a name like '5' would become a number.
            parameters[name] = ParameterValue(values[name], value_type=str)
    for name in SIZES:
        if values[name]:
            size = SIZE.fullmatch(values[name].strip())
            if size is None:
                raise RuntimeError(
                    f"{name} is '{values[name]}'; allowed: height and width, like 512x1024"
                )
            parameters[name] = [int(side) for side in size.groups()]
    for name in ('autostart', 'use_sim_time'):
        if values[name]:
            parameters[name] = is_true(values[name])
    return parameters


def make_nodes(context: LaunchContext) -> list[Node]:
    """Make the nodes from the values of the launch arguments."""
    values = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in ARGUMENTS
    }
    params_file = Path(values['params_file']).expanduser()
    if not params_file.is_file():
        # launch_ros would continue without it.
        raise RuntimeError(f"params_file '{params_file}' is not a file")
    check_cameras(values)
    cameras = split(values['cameras'])
    images, infos = (
        split(values[several]) if cameras else [values[one]] if values[one] else []
        for one, several in (('image', 'images'), ('camera_info', 'camera_infos'))
    )
    values['image_transport'] = choose_transport(images, values['image_transport'])
    images = [image.removesuffix('/compressed') for image in images]
    remappings = [
        (f'{camera}/{topic}'.lstrip('/'), name)
        for topic, names in (('image', images), ('camera_info', infos))
        # None, or as many as cameras.
        for camera, name in zip(cameras or [''], names, strict=False)
    ]
    parameters = make_parameters(values)
    if cameras:
        parameters['cameras'] = cameras

    name, namespace = values['name'], values['namespace'].strip('/')
    # The file that includes this one may have pushed a namespace.
    whole_namespace = make_namespace_absolute(
        prefix_namespace(context.launch_configurations.get('ros_namespace'), namespace) or ''
    ).rstrip('/')
    logger = f'{whole_namespace}/{name}'.strip('/').replace('/', '.')
    nodes = []
    if is_true(values['rviz']):
        names = cameras or ['']
        shown = images or [f'{camera}/image'.lstrip('/') for camera in names]
        config = write_rviz_config(
            dict(zip(names, shown, strict=True)),
            whole_namespace,
            name,
            values['image_transport'] == 'compressed',
        )
        # Comes first: if rviz is missing, the launch ends before it starts the node.
        nodes.append(
            Node(
                package='rviz2',
                executable='rviz2',
                namespace=namespace,
                arguments=['-d', config],
                parameters=[{k: v for k, v in parameters.items() if k == 'use_sim_time'}],
            )
        )
    nodes.append(
        Node(
            package='lednet_ros',
            executable='segmentation_node',
            name=name,
            namespace=namespace,
            parameters=[str(params_file), parameters],
            remappings=remappings,
            arguments=['--ros-args', '--log-level', f"{logger}:={values['log_level']}"],
            additional_env={
                variable: str(CONFIG / 'fastdds.xml')
                for variable in PROFILE_VARIABLES
                if variable not in context.environment
            },
            output='screen',
            # With it, the node colors its log: not for a pipe or a file.
            emulate_tty=sys.stdout.isatty(),
            respawn=is_true(values['respawn']),
            respawn_delay=RESPAWN_DELAY,
        )
    )
    return nodes


def write_rviz_config(
    images: Mapping[str, str], namespace: str, node: str, is_compressed: bool
) -> str:
    """
    Write the shipped configuration with the topics of the cameras; return its path.

    Parameters
    ----------
    images
        Image topics by the names of the cameras; '' for a single unnamed camera.
    namespace, node
        Namespace and name of the node.
    is_compressed
        Whether the input is compressed; rviz knows it by the topic's name alone.

    """
    config = yaml.safe_load((CONFIG / 'segment.rviz').read_text(encoding='utf-8'))
    manager = config['Visualization Manager']
    shipped, manager['Displays'] = manager['Displays'], []
    for camera, image in images.items():
        image = image if image.startswith('/') else f'{namespace}/{image}'
        outputs = f'{namespace}/{node}/{camera}'.rstrip('/')
        for display in copy.deepcopy(shipped):
            display['Name'] = f"{camera} {display['Name']}".strip()
            topic = display['Topic']
            if topic['Value'] == '/image':
                topic['Value'] = f'{image}/compressed' if is_compressed else image
            else:
                topic['Value'] = topic['Value'].replace('/segmentation_node', outputs, 1)
            manager['Displays'].append(display)
    with tempfile.NamedTemporaryFile(
        'w', prefix='segment_', suffix='.rviz', encoding='utf-8', delete=False
    ) as file:
        yaml.safe_dump(config, file, sort_keys=False)
    return file.name


def generate_launch_description() -> LaunchDescription:
    """Describe the launch."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=make_nodes)])
