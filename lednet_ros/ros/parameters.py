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

"""
The parameters of `segmentation_node`, declared once.

`config/segment.yaml`, the table in `docs/node.md` and the output of `ros2 param describe` come
from this table; a test compares them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import difflib
from pathlib import Path
import re
from typing import Any

from lednet_ros.inference.options import Crop, Names, Option, OPTIONS, SegmenterOptions, Size
from lednet_ros.labels import LabelMap, LabelMapError
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

# An alias that type checkers accept although they don't see into rclpy.
ParameterType: Any = Parameter.Type

CAMERA_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*')
# Parameters that rclpy itself declares or reads.
FOREIGN_PREFIXES = ('use_sim_time', 'start_type_description_service', 'qos_overrides.')


class ParameterError(ValueError):
    """A parameter that can't be used; the message names it, its value and what is allowed."""


@dataclass(frozen=True)
class NodeParameter:
    """
    One parameter of the node.

    Attributes
    ----------
    name, default, description
        As in ROS.
    type
        ROS parameter type.
    run_time
        Whether it can change while the node is configured.
    minimum, maximum
        Allowed range of a number, or of each number of an array.
    choices
        Allowed values of a text; empty allows any.
    length
        Number of elements of an array; None allows any.
    read_only
        Whether it can be set only when the process starts.

    """

    name: str
    type: Any  # noqa: A003
    default: Any
    description: str
    run_time: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    length: int | None = None
    read_only: bool = False

    @property
    def allowed(self) -> str:
        """Describe the allowed values; empty if any value of the type is allowed."""
        if self.choices:
            return 'one of ' + ', '.join(self.choices)
        if self.minimum is None:
            return ''
        limits = f'{self.minimum:g} to {self.maximum:g}'
        return limits if self.length is None else f'{self.length} values, {limits}'

    def clean(self, value: Any) -> Any:
        """Return arrays as lists, without empty texts: `ros2 param set` can't send []."""
        if self.type is ParameterType.STRING_ARRAY:
            return [text for text in value if text]
        return value if isinstance(value, (str, bool, int, float)) else list(value)

    def check(self, value: Any) -> None:
        """Check a cleaned value of the right type; raise ParameterError if it isn't allowed."""
        if self.choices:
            good = value in self.choices
        elif self.minimum is not None and self.maximum is not None:
            numbers = [value] if self.length is None else value
            good = len(numbers) == (self.length or 1) and all(
                self.minimum <= number <= self.maximum for number in numbers
            )
        else:
            return
        if not good:
            raise ParameterError(
                f"parameter '{self.name}' is {value!r}; allowed: {self.allowed}"
            )

    def descriptor(self) -> ParameterDescriptor:
        """Return the descriptor that `ros2 param describe` shows."""
        when = 'at run time' if self.run_time else 'only while the node is unconfigured'
        when = 'only be set at startup' if self.read_only else f'change {when}'
        descriptor = ParameterDescriptor(
            name=self.name,
            type=self.type.value,
            description=self.description,
            additional_constraints='; '.join(filter(None, (self.allowed, f'can {when}'))),
            read_only=self.read_only,
        )
        if self.minimum is not None and self.maximum is not None:
            if self.type is ParameterType.DOUBLE:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=self.minimum, to_value=self.maximum)
                ]
            elif self.type is ParameterType.INTEGER:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum), step=1)
                ]
        return descriptor


# Parameters have no None: an empty text or array, or a size of zeros, stands for it.
ROS_TYPES: Mapping[Any, tuple[Any, Any, str]] = {
    str: (ParameterType.STRING, '', 'empty'),
    Path: (ParameterType.STRING, '', 'empty'),
    int: (ParameterType.INTEGER, 0, '0'),
    float: (ParameterType.DOUBLE, 0.0, '0'),
    Size: (ParameterType.INTEGER_ARRAY, [0, 0], '[0, 0]'),
    Crop: (ParameterType.DOUBLE_ARRAY, [0.0, 0.0, 0.0, 0.0], '[0, 0, 0, 0]'),
    Names: (ParameterType.STRING_ARRAY, [], 'empty'),
}


def _parameter_of(option: Option) -> NodeParameter:
    """Return the node parameter of a segmenter's option."""
    kind, nothing, name = ROS_TYPES[option.type]
    ending = f'; {name} takes {option.without}.' if option.without else '.'
    return NodeParameter(
        option.name,
        kind,
        option.default if option.default else nothing,
        option.description + ending,
        run_time=option.run_time,
        minimum=0 if option.default is None and option.minimum else option.minimum,
        maximum=option.maximum,
        choices=option.choices,
        length=len(nothing) or None if isinstance(nothing, list) else None,
    )


def to_options(values: Mapping[str, Any]) -> SegmenterOptions:
    """
    Return the segmenter's options among the node's parameters, by name.

    Raises
    ------
    ConfigurationError
        A size is too small or too large.

    """
    chosen: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        _, nothing, _ = ROS_TYPES[option.type]
        unset = option.default is None and values[name] == nothing
        chosen[name] = None if unset else values[name]
    return SegmenterOptions(**chosen)


def to_parameters(options: SegmenterOptions) -> dict[str, Any]:
    """Return the node's parameters, by name, for the options that are not at their defaults."""
    parameters: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        value = getattr(options, name)
        if isinstance(value, Path):
            value = str(value)
        if value != option.default:
            parameters[name] = list(value) if isinstance(value, tuple) else value
    return parameters


PARAMETERS: tuple[NodeParameter, ...] = (
    NodeParameter(
        'checkpoint',
        ParameterType.STRING,
        'lednet',
        'Checkpoint file, or the name of one that ships with the package.',
    ),
    NodeParameter(
        'label_map',
        ParameterType.STRING,
        '',
        "Label map file or name; empty takes the checkpoint's.",
    ),
    *map(_parameter_of, OPTIONS.values()),
    NodeParameter(
        'cameras',
        ParameterType.STRING_ARRAY,
        [],
        "Names of several cameras, each a namespace: 'front/image' in, '~/front/labels' out. "
        "Empty means one camera on 'image'.",
    ),
    NodeParameter(
        'masks',
        ParameterType.STRING_ARRAY,
        [],
        "Classes that have a topic of their own, '~/mask/NAME': 255 where the class is, 0 "
        'elsewhere.',
    ),
    NodeParameter(
        'image_transport',
        ParameterType.STRING,
        'raw',
        "Transport of the input: 'compressed' subscribes to IMAGE_TOPIC/compressed.",
        choices=('raw', 'compressed'),
    ),
    NodeParameter(
        'autostart',
        ParameterType.BOOL,
        True,
        'Configure and activate at start; false waits for a lifecycle manager.',
    ),
    NodeParameter(
        'bond_heartbeat_period',
        ParameterType.DOUBLE,
        0.1,
        "Seconds between the heartbeats by which a lifecycle manager (Nav2's) sees that the node "
        'lives; 0 means none. Only without `autostart`, and where the package `bond` is '
        'installed.',
        minimum=0.0,
        maximum=10.0,
    ),
    NodeParameter(
        'queue_size',
        ParameterType.INTEGER,
        1,
        'Frames of each camera that may wait for the network. 1 means the newest frame alone; '
        'more let every frame be processed, as the evaluation of a recording needs.',
        minimum=1,
        maximum=1000,
    ),
    NodeParameter(
        'enabled',
        ParameterType.BOOL,
        True,
        "Process frames; false pauses without unloading, as '~/enable' does.",
        run_time=True,
    ),
    NodeParameter(
        'max_rate',
        ParameterType.DOUBLE,
        0.0,
        'Maximum rate of frames to process per camera, in Hz; 0 means all.',
        run_time=True,
        minimum=0.0,
        maximum=1000.0,
    ),
    NodeParameter(
        'jpeg_quality',
        ParameterType.INTEGER,
        85,
        'Quality of the compressed overlay.',
        run_time=True,
        minimum=1,
        maximum=100,
    ),
    NodeParameter(
        'stage_timeout',
        ParameterType.DOUBLE,
        5.0,
        'Seconds that a stage of a batch may take before the diagnostics report an error; a '
        'deactivation waits as long for it.',
        run_time=True,
        minimum=0.1,
        maximum=3600.0,
    ),
    NodeParameter(
        'diagnostics_period',
        ParameterType.DOUBLE,
        1.0,
        'Seconds between diagnostics messages.',
        run_time=True,
        minimum=0.1,
        maximum=60.0,
    ),
)

BY_NAME: Mapping[str, NodeParameter] = {parameter.name: parameter for parameter in PARAMETERS}


def declare_parameters(node: Node) -> None:
    """
    Declare all parameters with their types, ranges and descriptions.

    Raises
    ------
    ParameterError
        A value set at startup has another type or is out of range.

    """
    for parameter in PARAMETERS:
        declare_parameter(node, parameter)


def declare_parameter(node: Node, parameter: NodeParameter) -> None:
    """Declare one parameter; see `declare_parameters`."""
    # A default of [] would declare a byte array; only the type names the elements.
    default = parameter.default if parameter.default != [] else parameter.type
    try:
        node.declare_parameter(parameter.name, default, parameter.descriptor())
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        kind = parameter.type.name.lower().replace('_', ' ')
        raise ParameterError(
            f"parameter '{parameter.name}' must be {kind}"
            f"{', ' + parameter.allowed if parameter.allowed else ''}: {error}"
        ) from error
    if parameter.default == [] and node.get_parameter_or(parameter.name).value is None:
        # With an unset parameter, `ros2 param dump` shows nothing at all.
        node.set_parameters([Parameter(parameter.name, parameter.type, [])])


def read_parameters(node: Node) -> dict[str, Any]:
    """
    Read and check all parameters.

    Returns
    -------
    dict
        Values by name; arrays are lists.

    Raises
    ------
    ParameterError
        A value is not allowed.

    """
    values = {}
    for parameter in PARAMETERS:
        value = parameter.clean(node.get_parameter(parameter.name).value)
        parameter.check(value)
        values[parameter.name] = value
    return values


def check_camera_names(names: Sequence[str]) -> None:
    """Check the names of the cameras; raise ParameterError if one isn't a name or stands twice."""
    for name in names:
        if not CAMERA_NAME.fullmatch(name):
            raise ParameterError(
                f"parameter 'cameras' has {name!r}; allowed: ROS names like 'front' or 'left/rear'"
            )
        if names.count(name) > 1:
            raise ParameterError(f"parameter 'cameras' has {name!r} twice; names must differ")


def mask_topics(names: Sequence[str], label_map: LabelMap) -> dict[str, int]:
    """
    Return the ids of the classes that have masks by topic, like 'mask/traffic_light'.

    Raises
    ------
    ParameterError
        There is no such class, or two have the same topic.

    """
    topics: dict[str, int] = {}
    for name in names:
        # What a topic's name can't have becomes an underscore.
        topic = f"mask/{re.sub('[^A-Za-z0-9]+', '_', name).strip('_')}"
        try:
            number = label_map.id_of(name)
        except LabelMapError as error:
            raise ParameterError(f"parameter 'masks': {error}") from error
        if topic in topics:
            raise ParameterError(f"parameter 'masks' has two classes on '{topic}'")
        topics[topic] = number
    return topics


def check_change(parameter: Parameter, configured: bool) -> dict[str, Any]:
    """
    Check a change of one parameter.

    Parameters
    ----------
    parameter
        Name and new value.
    configured
        Whether the node is configured, when only run-time parameters may change.

    Returns
    -------
    dict
        The value by its name, arrays as lists; empty for parameters of rclpy.

    Raises
    ------
    ParameterError
        The change is not allowed.

    """
    known = BY_NAME.get(parameter.name)
    if known is None:
        return {}
    if configured and not known.run_time:
        raise ParameterError(
            f"parameter '{known.name}' can't change while the node is configured; "
            'clean it up first (ros2 lifecycle set NODE deactivate, then cleanup)'
        )
    value = known.clean(parameter.value)
    known.check(value)
    return {known.name: value}


def unknown_parameters(names: Sequence[str]) -> list[str]:
    """Return a sentence for each name that no parameter has, with the one probably meant."""
    sentences = []
    for name in names:
        if name in BY_NAME or name.startswith(FOREIGN_PREFIXES):
            continue
        close = difflib.get_close_matches(name, BY_NAME, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ''
        sentences.append(f"unknown parameter '{name}' is ignored{hint}")
    return sentences
