# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Start segmentation_node, and rviz if asked for: ros2 launch lednet_ros segment.launch.py."""

import os

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from lednet_ros.files import share_directory

from launch import LaunchContext, LaunchDescription

CONFIG = share_directory() / 'config'

# Read by Fast DDS up to Jazzy, and from Kilted on.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')

ARGUMENTS = (
    DeclareLaunchArgument(
        'params_file',
        default_value=str(CONFIG / 'segment.yaml'),
        description='Parameter file of the node.',
    ),
    DeclareLaunchArgument('image', default_value='image', description='Image topic.'),
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
        default_value='false',
        choices=['true', 'false'],
        description='Take the time from /clock.',
    ),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'], description='Open rviz.'
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
    namespace = values['namespace'].strip('/')
    cameras = [name.strip() for name in values['cameras'].split(',') if name.strip()]
    parameters: dict[str, object] = {'use_sim_time': values['use_sim_time'] == 'true'}
    if cameras:
        parameters['cameras'] = cameras
    for name in ('checkpoint', 'device', 'image_transport'):
        if values[name]:
            # Without the type, a name like '5' would become a number.
            parameters[name] = ParameterValue(values[name], value_type=str)
    outputs = '/'.join(['', *filter(None, [namespace, 'segmentation_node', *cameras[:1]])])
    image = f'{cameras[0]}/image' if cameras else values['image']
    return [
        Node(
            package='lednet_ros',
            executable='segmentation_node',
            name='segmentation_node',
            namespace=namespace,
            parameters=[values['params_file'], parameters],
            remappings=[] if cameras else [('image', values['image'])],
            arguments=['--ros-args', '--log-level', f"segmentation_node:={values['log_level']}"],
            output='screen',
            emulate_tty=True,
        ),
        Node(
            package='rviz2',
            executable='rviz2',
            namespace=namespace,
            arguments=['-d', str(CONFIG / 'segment.rviz')],
            parameters=[{'use_sim_time': values['use_sim_time'] == 'true'}],
            # The displays name the topics of a node without namespace and of one camera.
            remappings=[
                ('/image', image),
                ('/segmentation_node/overlay', f'{outputs}/overlay'),
                ('/segmentation_node/labels', f'{outputs}/labels'),
                ('/segmentation_node/color', f'{outputs}/color'),
            ],
            condition=IfCondition(values['rviz']),
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe the launch."""
    profile = str(CONFIG / 'fastdds.xml')
    environment = [
        SetEnvironmentVariable(name, profile)
        for name in PROFILE_VARIABLES
        if name not in os.environ
    ]
    return LaunchDescription([*ARGUMENTS, *environment, OpaqueFunction(function=make_nodes)])
