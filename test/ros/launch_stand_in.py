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
A stand-in for `launch` and `launch_ros`, which only ROS 2 contains, and no package registry.

It has what `launch/segment.launch.py` and `launch/replay.launch.py` use, with the same names and
parameters, and starts no process: `launch_file` returns the actions that would be run.
`test_launch.py` launches the same files for real where ROS 2 is installed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
import os
from pathlib import Path
import runpy
import sys
from types import ModuleType
from typing import Any

import pytest


@dataclass
class LaunchContext:
    launch_configurations: dict[str, str] = field(default_factory=dict)
    is_shutdown: bool = False

    @property
    def environment(self) -> 'os._Environ[str]':
        return os.environ


class LaunchDescriptionEntity:
    pass


@dataclass
class LaunchDescription(LaunchDescriptionEntity):
    entities: Sequence[LaunchDescriptionEntity]


@dataclass
class DeclareLaunchArgument(LaunchDescriptionEntity):
    name: str
    default_value: str | None = field(default=None, kw_only=True)
    description: str = field(kw_only=True)
    choices: Sequence[str] | None = field(default=None, kw_only=True)


@dataclass
class LaunchConfiguration:
    name: str

    def perform(self, context: LaunchContext) -> str:
        return context.launch_configurations[self.name]


@dataclass(kw_only=True)
class OpaqueFunction(LaunchDescriptionEntity):
    function: Callable[[LaunchContext], list[LaunchDescriptionEntity]]


@dataclass(kw_only=True)
class ExecuteProcess(LaunchDescriptionEntity):
    cmd: Sequence[str] = ()
    output: str = 'log'
    additional_env: dict[str, str] | None = None


@dataclass
class PythonLaunchDescriptionSource:
    path: str


@dataclass
class IncludeLaunchDescription(LaunchDescriptionEntity):
    source: PythonLaunchDescriptionSource
    launch_arguments: Iterable[tuple[str, str]] = field(default=(), kw_only=True)


@dataclass
class Shutdown:
    reason: str = field(kw_only=True)


@dataclass(kw_only=True)
class EmitEvent(LaunchDescriptionEntity):
    event: Shutdown


@dataclass(kw_only=True)
class ProcessExited:
    process_name: str
    returncode: int


@dataclass(kw_only=True)
class ProcessIO:
    text: bytes


@dataclass(kw_only=True)
class OnProcessExit:
    on_exit: Callable[[ProcessExited, LaunchContext], EmitEvent | None]


@dataclass(kw_only=True)
class OnProcessIO:
    on_stdout: Callable[[ProcessIO], ExecuteProcess | None]
    on_stderr: Callable[[ProcessIO], ExecuteProcess | None]


@dataclass
class RegisterEventHandler(LaunchDescriptionEntity):
    event_handler: OnProcessExit | OnProcessIO


@dataclass
class ParameterValue:
    value: str
    value_type: type = field(kw_only=True)


@dataclass(kw_only=True)
class Node(ExecuteProcess):
    package: str
    executable: str
    name: str | None = None
    namespace: str | None = None
    parameters: Sequence[str | dict[str, Any]] = ()
    remappings: Sequence[tuple[str, str]] = ()
    arguments: Sequence[str] = ()
    emulate_tty: bool = False
    respawn: bool = False
    respawn_delay: float | None = None


def make_namespace_absolute(namespace: str) -> str:
    return namespace if namespace.startswith('/') else f'/{namespace}'


def prefix_namespace(base: str | None, namespace: str | None) -> str | None:
    if not base or (namespace or '').startswith('/'):
        return namespace
    return '/'.join([base.rstrip('/'), namespace]) if namespace else base


MODULES: dict[str, tuple[Any, ...]] = {
    'launch': (LaunchContext, LaunchDescription, LaunchDescriptionEntity),
    'launch.actions': (
        DeclareLaunchArgument,
        EmitEvent,
        ExecuteProcess,
        IncludeLaunchDescription,
        OpaqueFunction,
        RegisterEventHandler,
    ),
    'launch.event_handlers': (OnProcessExit, OnProcessIO),
    'launch.events': (Shutdown,),
    'launch.events.process': (ProcessExited, ProcessIO),
    'launch.launch_description_sources': (PythonLaunchDescriptionSource,),
    'launch.substitutions': (LaunchConfiguration,),
    'launch_ros': (),
    'launch_ros.actions': (Node,),
    'launch_ros.parameter_descriptions': (ParameterValue,),
    'launch_ros.utilities': (make_namespace_absolute, prefix_namespace),
}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test import the stand-in as `launch` and `launch_ros`."""
    for name, contents in MODULES.items():
        module = ModuleType(name)
        for content in contents:
            setattr(module, content.__name__, content)
        monkeypatch.setitem(sys.modules, name, module)


def launch_file(path: Path, context: LaunchContext) -> list[Any]:
    """
    Do what launching a file does, but start nothing.

    Parameters
    ----------
    path
        The launch file.
    context
        Holds the values of the arguments; those that are missing get their defaults.

    Returns
    -------
    list
        The actions that are left to do, in order.

    Raises
    ------
    RuntimeError
        An argument is missing or is none of its choices, or the file refuses it.

    """
    return _visit(runpy.run_path(str(path))['generate_launch_description']().entities, context)


def _visit(entities: Iterable[LaunchDescriptionEntity], context: LaunchContext) -> list[Any]:
    values = context.launch_configurations
    found: list[Any] = []
    for entity in entities:
        if isinstance(entity, DeclareLaunchArgument):
            if entity.default_value is not None:
                values.setdefault(entity.name, entity.default_value)
            if entity.name not in values:
                raise RuntimeError(f"launch argument '{entity.name}' is missing")
            if entity.choices is not None and values[entity.name] not in entity.choices:
                raise RuntimeError(
                    f"{entity.name} is '{values[entity.name]}'; allowed: {entity.choices}"
                )
        elif isinstance(entity, OpaqueFunction):
            found += _visit(entity.function(context), context)
        elif isinstance(entity, IncludeLaunchDescription):
            values.update(entity.launch_arguments)
            found += launch_file(Path(entity.source.path), context)
        else:
            found.append(entity)
    return found
