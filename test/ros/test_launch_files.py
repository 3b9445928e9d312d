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

"""Processes that the launch files start, with a stand-in where launch_ros is missing."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
import sys
from typing import Any

from launch_stand_in import (
    EmitEvent,
    ExecuteProcess,
    install,
    launch_file,
    LaunchContext,
    Node,
    OnProcessExit,
    OnProcessIO,
    ParameterValue,
    ProcessExited,
    ProcessIO,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
import yaml

pytestmark = pytest.mark.skipif(
    find_spec('launch_ros') is not None, reason='test_launch.py launches the files for real'
)

ROOT = Path(__file__).parents[2]
SEGMENT = ROOT / 'launch' / 'segment.launch.py'
REPLAY = ROOT / 'launch' / 'replay.launch.py'
PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
COMPRESSED = 'sensor_msgs/msg/CompressedImage'


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Import the stand-in as `launch`."""
    install(monkeypatch)
    for name in PROFILES:
        monkeypatch.delenv(name, raising=False)


def nodes(actions: list[Any]) -> list[Node]:
    return [action for action in actions if isinstance(action, Node)]


def segment(**arguments: str) -> list[Node]:
    return nodes(launch_file(SEGMENT, LaunchContext(arguments)))


def node_parameters(node: Node) -> dict[str, Any]:
    """Merge the parameters that the launch file sets, without those of the parameter file."""
    merged: dict[str, Any] = {}
    for part in node.parameters[1:]:
        assert isinstance(part, dict)
        merged |= part
    return merged


def write_bag(path: Path, kind: str, *topics: str) -> Path:
    """Write a bag that has topics and no messages."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic in topics:
            writer.add_connection(topic, kind, typestore=get_typestore(Stores.ROS2_JAZZY))
    return path


# --- segment.launch.py ----------------------------------------------------------------------


@pytest.mark.parametrize('is_terminal', [False, True])
def test_log_is_colored_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: is_terminal)
    assert segment()[0].emulate_tty is is_terminal


def test_segment_starts_one_node_with_the_shipped_parameters() -> None:
    (node,) = segment()
    assert (node.package, node.executable) == ('lednet_ros', 'segmentation_node')
    assert (node.name, node.namespace, node.respawn) == ('segmentation_node', '', False)
    assert node.parameters[0] == str(ROOT / 'config' / 'segment.yaml')
    assert yaml.safe_load(Path(node.parameters[0]).read_text(encoding='utf-8'))
    assert node_parameters(node) == {}
    assert node.remappings == [('image', 'image')]
    assert node.arguments == ['--ros-args', '--log-level', 'segmentation_node:=info']


def test_segment_passes_on_every_argument(tmp_path: Path) -> None:
    parameters = tmp_path / 'my.yaml'
    parameters.touch()
    rviz, node = segment(
        params_file=str(parameters),
        image='/front/camera/compressed',
        namespace='/robot/',
        checkpoint='5',
        device='cuda:1',
        use_sim_time='True',
        rviz='true',
        respawn='true',
        log_level='debug',
    )
    assert node.namespace == rviz.namespace == 'robot'
    assert node.parameters[0] == str(parameters)
    assert node_parameters(node) == {
        'checkpoint': ParameterValue('5', value_type=str),
        'device': ParameterValue('cuda:1', value_type=str),
        'image_transport': ParameterValue('compressed', value_type=str),
        'use_sim_time': True,
    }
    assert node.remappings == [('image', '/front/camera')]
    assert node.arguments[-1] == 'robot.segmentation_node:=debug'
    assert (node.respawn, node.respawn_delay) == (True, 2.0)
    assert (rviz.package, rviz.executable) == ('rviz2', 'rviz2')
    assert rviz.parameters == [{'use_sim_time': True}]
    remapped = dict(rviz.remappings)
    assert remapped['/image/compressed'] == '/front/camera/compressed'
    assert remapped['/segmentation_node/overlay'] == '/robot/segmentation_node/overlay'
    config = Path(rviz.arguments[1])
    try:
        # The display's topic says that it is compressed.
        assert 'Value: /image/compressed\n' in config.read_text(encoding='utf-8')
    finally:
        config.unlink()


def test_shipped_rviz_file_shows_the_uncompressed_topics() -> None:
    rviz, _ = segment(rviz='true', image='/camera')
    assert rviz.arguments == ['-d', str(ROOT / 'config' / 'segment.rviz')]
    displayed = Path(rviz.arguments[1]).read_text(encoding='utf-8')
    for topic, _ in rviz.remappings:
        assert topic == '/image/compressed' or f'Value: {topic}\n' in displayed, topic


def test_segment_takes_several_cameras() -> None:
    rviz, node = segment(cameras='front, left,', rviz='true')
    assert node_parameters(node) == {'cameras': ['front', 'left']}
    assert node.remappings == []
    # Rviz shows the first one.
    remapped = dict(rviz.remappings)
    assert remapped['/image'] == 'front/image'
    assert remapped['/segmentation_node/labels'] == '/segmentation_node/front/labels'


def test_namespace_pushed_by_an_including_file_is_kept() -> None:
    (node,) = segment(ros_namespace='/fleet', namespace='robot')
    # launch_ros prepends the pushed one.
    assert node.namespace == 'robot'
    assert node.arguments[-1] == 'fleet.robot.segmentation_node:=info'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'params_file': '/nowhere.yaml'}, r"params_file '/nowhere\.yaml' is not a file"),
        ({'image': '/x', 'cameras': 'front'}, 'image and cameras exclude each other'),
        ({'log_level': 'loud'}, 'loud'),
        ({'rviz': 'yes'}, 'yes'),
        ({'image_transport': 'theora'}, 'theora'),
        ({'use_sim_time': '1'}, 'use_sim_time'),
        ({'respawn': '1'}, 'respawn'),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        segment(**arguments)


def test_shipped_dds_profile_is_set_unless_the_user_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def set_variables() -> dict[str, str]:
        actions = launch_file(SEGMENT, LaunchContext())
        # They come before the node, which reads them.
        assert isinstance(actions[-1], Node)
        return {a.name: a.value for a in actions if isinstance(a, SetEnvironmentVariable)}

    profile = str(ROOT / 'config' / 'fastdds.xml')
    assert set_variables() == dict.fromkeys(PROFILES, profile)
    monkeypatch.setenv(PROFILES[0], 'mine.xml')
    assert set_variables() == {PROFILES[1]: profile}


# --- replay.launch.py -----------------------------------------------------------------------


class Replay:
    """A launch of replay.launch.py: the processes that it starts and the events it handles."""

    def __init__(self, **arguments: str) -> None:
        self.context = LaunchContext(arguments)
        self.actions = launch_file(REPLAY, self.context)
        (self.node,) = [node for node in nodes(self.actions) if node.package == 'lednet_ros']

    def handlers(self, kind: type) -> Iterator[Any]:
        """Find the handlers of one kind."""
        for action in self.actions:
            if isinstance(action, RegisterEventHandler) and isinstance(action.event_handler, kind):
                yield action.event_handler

    def log(self, text: bytes) -> list[Sequence[str]]:
        """Let a process write to both outputs; return the commands that this starts."""
        started = []
        for handler in self.handlers(OnProcessIO):
            for react in (handler.on_stdout, handler.on_stderr):
                action = react(ProcessIO(text=text))
                if action is not None:
                    assert isinstance(action, ExecuteProcess)
                    started.append(action.cmd)
        return started


def test_replay_plays_the_bag_once_the_node_is_active(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 'sensor_msgs/msg/Image', '/camera')
    replay = Replay(bag=str(bag), rviz='false')
    assert nodes(replay.actions) == [replay.node]
    assert replay.node.remappings == [('image', '/camera')]
    assert node_parameters(replay.node) == {
        'image_transport': ParameterValue('raw', value_type=str), 'use_sim_time': True,
    }
    assert not [action for action in replay.actions if isinstance(action, ExecuteProcess)]
    assert replay.log(b'loading weights') == []
    play = ['ros2', 'bag', 'play', str(bag), '--clock', '--delay', '1', '--rate', '1.0']
    assert replay.log(b"segmenting '/camera'") == [play]
    # When the node has been restarted, the bag continues.
    assert replay.log(b"segmenting '/camera'") == []


def test_replay_passes_on_every_argument(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', COMPRESSED, '/jpeg', '/other')
    parameters = tmp_path / 'my.yaml'
    parameters.touch()
    replay = Replay(
        bag=str(bag),
        rate='2.0',
        loop='true',
        image='/jpeg',
        rviz='false',
        params_file=str(parameters),
        checkpoint='mine.safetensors',
        device='cpu',
    )
    assert replay.node.parameters[0] == str(parameters)
    assert node_parameters(replay.node) == {
        'checkpoint': ParameterValue('mine.safetensors', value_type=str),
        'device': ParameterValue('cpu', value_type=str),
        'image_transport': ParameterValue('compressed', value_type=str),
        'use_sim_time': True,
    }
    (play,) = replay.log(b'segmenting ')
    assert play[play.index('--rate') :] == [
        '--rate', '2.0', '--loop', '--remap', '/jpeg:=/jpeg/compressed'
    ]


def test_replay_opens_rviz_by_default(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 'sensor_msgs/msg/Image', '/camera')
    assert [node.package for node in nodes(Replay(bag=str(bag)).actions)] == [
        'rviz2', 'lednet_ros'
    ]


def test_replay_ends_with_the_first_process_that_ends(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', 'sensor_msgs/msg/Image', '/camera')
    replay = Replay(bag=str(bag), rviz='false')
    (handler,) = replay.handlers(OnProcessExit)
    event = ProcessExited(process_name='ros2-2')
    assert handler.on_exit(event, replay.context) == EmitEvent(
        event=Shutdown(reason='ros2-2 has ended')
    )
    replay.context.is_shutdown = True
    assert handler.on_exit(event, replay.context) is None


def test_replay_needs_a_bag_with_one_image_topic(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="'bag' is missing"):
        Replay()
    bag = write_bag(tmp_path / 'bag', 'sensor_msgs/msg/Image', '/left', '/right')
    with pytest.raises(RuntimeError, match=r'(?s)/left.*/right'):
        Replay(bag=str(bag))
    with pytest.raises(RuntimeError, match=r"loop is 'yes'"):
        Replay(bag=str(bag), loop='yes')


def test_replay_says_which_python_lacks_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'lednet_ros.recordings.bags', None)
    with pytest.raises(RuntimeError, match='where another Python has it'):
        Replay(bag=str(tmp_path))
