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

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
import sys
from typing import Any

from bag_files import Entry, write_bag, write_recording
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
    Shutdown,
)
import numpy as np
import pytest
import yaml

pytestmark = pytest.mark.skipif(
    find_spec('launch_ros') is not None, reason='test_launch.py launches the files for real'
)

ROOT = Path(__file__).parents[2]
SEGMENT = ROOT / 'launch' / 'segment.launch.py'
REPLAY = ROOT / 'launch' / 'replay.launch.py'
PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


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


def image_bag(path: Path, encoding: str, *topics: str) -> Path:
    """Write a bag with an image in each topic."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    return write_bag(path, [Entry(topic, 0, 0, pixels, encoding) for topic in topics])


def shown_topics(rviz: Node) -> dict[str, str]:
    """Return the topics of rviz's displays by their names; remove the configuration."""
    path = Path(rviz.arguments[1])
    config = yaml.safe_load(path.read_text(encoding='utf-8'))
    path.unlink()
    assert not rviz.remappings
    displays = config['Visualization Manager']['Displays']
    assert {display['Class'] for display in displays} == {'rviz_default_plugins/Image'}
    return {display['Name']: display['Topic']['Value'] for display in displays}


# --- segment.launch.py ----------------------------------------------------------------------


@pytest.mark.parametrize('is_terminal', [False, True])
def test_log_is_colored_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: is_terminal)
    assert segment()[0].emulate_tty is is_terminal


def test_segment_leaves_everything_to_the_parameter_file() -> None:
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
        camera_info='/front/info',
        namespace='/robot/',
        name='eyes',
        autostart='false',
        checkpoint='5',
        device='cuda:1',
        backend='openvino',
        precision='int8',
        input_size='512x1024',
        output_size='[360, 640]',
        use_sim_time='True',
        rviz='true',
        respawn='true',
        log_level='debug',
    )
    assert node.namespace == rviz.namespace == 'robot'
    assert node.name == 'eyes'
    assert node.parameters[0] == str(parameters)
    texts = {
        'checkpoint': '5',
        'device': 'cuda:1',
        'backend': 'openvino',
        'precision': 'int8',
        'image_transport': 'compressed',
    }
    assert node_parameters(node) == {
        **{name: ParameterValue(text, value_type=str) for name, text in texts.items()},
        'input_size': [512, 1024],
        'output_size': [360, 640],
        'autostart': False,
        'use_sim_time': True,
    }
    assert node.remappings == [('image', '/front/camera'), ('camera_info', '/front/info')]
    assert node.arguments[-1] == 'robot.eyes:=debug'
    assert (node.respawn, node.respawn_delay) == (True, 2.0)
    assert (rviz.package, rviz.executable) == ('rviz2', 'rviz2')
    assert rviz.parameters == [{'use_sim_time': True}]
    assert shown_topics(rviz) == {
        # The display's topic says that it is compressed.
        'Input': '/front/camera/compressed',
        'Overlay': '/robot/eyes/overlay',
        'Labels': '/robot/eyes/color',
        'Label ids': '/robot/eyes/labels',
    }


def test_shipped_rviz_file_shows_the_topics_of_one_camera() -> None:
    rviz, _ = segment(rviz='true')
    shipped = yaml.safe_load((ROOT / 'config' / 'segment.rviz').read_text(encoding='utf-8'))
    displays = shipped['Visualization Manager']['Displays']
    assert shown_topics(rviz) == {d['Name']: d['Topic']['Value'] for d in displays}


@pytest.mark.parametrize('images', ['', '/front_cam/image_raw, left_cam/image'])
def test_segment_takes_several_cameras(images: str) -> None:
    infos = '/front_cam/info,/left_cam/info' if images else ''
    rviz, node = segment(
        cameras='front, left,', images=images, camera_infos=infos, namespace='robot', rviz='true'
    )
    assert node_parameters(node) == {'cameras': ['front', 'left']}
    assert node.remappings == ([
        ('front/image', '/front_cam/image_raw'),
        ('left/image', 'left_cam/image'),
        ('front/camera_info', '/front_cam/info'),
        ('left/camera_info', '/left_cam/info'),
    ] if images else [])
    topics = shown_topics(rviz)
    assert len(topics) == 8
    assert topics['front Input'] == ('/front_cam/image_raw' if images else '/robot/front/image')
    assert topics['left Input'] == ('/robot/left_cam/image' if images else '/robot/left/image')
    assert topics['left Overlay'] == '/robot/segmentation_node/left/overlay'


def test_namespace_pushed_by_an_including_file_is_kept() -> None:
    (node,) = segment(ros_namespace='/fleet', namespace='robot')
    # launch_ros prepends the pushed one.
    assert node.namespace == 'robot'
    assert node.arguments[-1] == 'fleet.robot.segmentation_node:=info'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'params_file': '/nowhere.yaml'}, r"params_file '/nowhere\.yaml' is not a file"),
        ({'image': '/x', 'cameras': 'front'}, "image is '/x' and cameras is 'front'"),
        ({'camera_info': '/x', 'cameras': 'front'}, "camera_info is '/x' and cameras is 'front'"),
        (
            {'images': '/a,/b,/c', 'cameras': 'front,left'},
            r'images has 3 topics \(/a, /b, /c\) for 2 cameras \(front, left\); allowed: one',
        ),
        ({'camera_infos': '/a'}, r'camera_infos has 1 topics \(/a\) for 0 cameras \(none\)'),
        ({'cameras': 'front,front'}, "cameras is 'front,front'"),
        ({'images': '/a/compressed,/b', 'cameras': 'front,left'}, 'all raw, or all compressed'),
        ({'image': '/a/compressed', 'image_transport': 'raw'}, "image_transport is 'raw'"),
        ({'input_size': '512'}, "input_size is '512'; allowed: height and width"),
        ({'output_size': '-1x5'}, "output_size is '-1x5'"),
        ({'log_level': 'loud'}, 'loud'),
        ({'rviz': 'yes'}, 'yes'),
        ({'image_transport': 'theora'}, 'theora'),
        ({'use_sim_time': '1'}, 'use_sim_time'),
        ({'autostart': '0'}, 'autostart'),
        ({'respawn': '1'}, 'respawn'),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        segment(**arguments)


def test_shipped_dds_profile_is_for_the_node_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profile = str(ROOT / 'config' / 'fastdds.xml')
    rviz, node = segment(rviz='true')
    assert node.additional_env == dict.fromkeys(PROFILES, profile)
    assert rviz.additional_env is None
    # A user may have one.
    monkeypatch.setenv(PROFILES[0], 'mine.xml')
    (node,) = segment()
    assert node.additional_env == {PROFILES[1]: profile}


# --- replay.launch.py -----------------------------------------------------------------------


class Replay:
    """A launch of replay.launch.py: the processes that it starts and the events it handles."""

    def __init__(self, **arguments: str) -> None:
        self.context = LaunchContext(arguments)
        self.actions = launch_file(REPLAY, self.context)
        (self.node,) = nodes(self.actions)

    def handlers(self, kind: type) -> Iterator[Any]:
        """Find the handlers of one kind."""
        for action in self.actions:
            if isinstance(action, RegisterEventHandler) and isinstance(action.event_handler, kind):
                yield action.event_handler

    def log(self, text: bytes) -> list[ExecuteProcess]:
        """Let a process write to both outputs; return what this starts."""
        started = []
        for handler in self.handlers(OnProcessIO):
            for react in (handler.on_stdout, handler.on_stderr):
                action = react(ProcessIO(text=text))
                if action is not None:
                    assert isinstance(action, ExecuteProcess)
                    started.append(action)
        return started


@pytest.fixture
def ros2_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the ament index name `ros2 bag` and its plugin for MCAP, which no wheel contains."""
    index = tmp_path / 'prefix' / 'share' / 'ament_index' / 'resource_index' / 'packages'
    index.mkdir(parents=True)
    for package in ('ros2bag', 'rosbag2_storage_mcap'):
        (index / package).touch()
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'prefix'))


OPTIONS = ['--clock', '--delay', '1.0', '--rate', '1.0', '--start-offset', '0.0']


@pytest.mark.usefixtures('ros2_bag')
def test_replay_plays_the_bag_once_the_node_is_active(tmp_path: Path) -> None:
    bag = image_bag(tmp_path / 'bag', 'bgr8', '/camera')
    replay = Replay(bag=str(bag))
    assert replay.node.remappings == [('image', '/camera')]
    assert node_parameters(replay.node) == {
        'image_transport': ParameterValue('raw', value_type=str), 'use_sim_time': True,
    }
    assert replay.log(b'loading weights') == []
    (play,) = replay.log(b"segmenting '/camera'")
    assert play.cmd == ['ros2', 'bag', 'play', str(bag), *OPTIONS]
    assert play.additional_env == replay.node.additional_env != {}
    # When the node has been restarted, the bag continues.
    assert replay.log(b"segmenting '/camera'") == []


@pytest.mark.usefixtures('ros2_bag')
@pytest.mark.parametrize('kind', ['ros1', 'sqlite3', 'torn', 'no metadata', 'folder'])
def test_the_packages_player_plays_what_ros2_bag_cannot(kind: str, tmp_path: Path) -> None:
    # There is no plugin for SQLite.
    path = write_recording(kind, tmp_path / 'recording')
    replay = Replay(bag=str(path))
    assert replay.node.remappings == [('image', '/image' if kind == 'folder' else '/camera')]
    (play,) = replay.log(b'segmenting ')
    assert isinstance(play, Node)
    assert (play.package, play.executable) == ('lednet_ros', 'player')
    assert play.arguments == [str(path), *OPTIONS, '--subscribers', '1']
    assert play.additional_env == replay.node.additional_env != {}


def test_replay_passes_on_every_argument(tmp_path: Path) -> None:
    bag = image_bag(tmp_path / 'bag', 'jpeg', '/jpeg', '/other/compressed', '/third')
    parameters = tmp_path / 'my.yaml'
    parameters.touch()
    replay = Replay(
        bag=str(bag),
        rate='2.0',
        loop='true',
        start_offset='3',
        cameras='front,left',
        images='/jpeg, /other/compressed',
        params_file=str(parameters),
        backend='torch_eager',
    )
    assert replay.node.parameters[0] == str(parameters)
    assert node_parameters(replay.node) == {
        'backend': ParameterValue('torch_eager', value_type=str),
        'cameras': ['front', 'left'],
        'image_transport': ParameterValue('compressed', value_type=str),
        'use_sim_time': True,
    }
    assert replay.node.remappings == [('front/image', '/jpeg'), ('left/image', '/other')]
    (play,) = replay.log(b'segmenting ')
    assert isinstance(play, Node)
    assert play.arguments[play.arguments.index('--rate') :] == [
        '--rate', '2.0', '--start-offset', '3', '--loop', '--remap', '/jpeg:=/jpeg/compressed',
        '--subscribers', '1',
    ]


def test_replay_keeps_recorded_results_apart(tmp_path: Path) -> None:
    topics = ['/camera', '/robot/eyes/overlay', '/segmentation_node/color']
    bag = image_bag(tmp_path / 'bag', 'bgr8', *topics)
    replay = Replay(bag=str(bag), image='/camera', namespace='robot', name='eyes')
    (play,) = replay.log(b'segmenting ')
    assert isinstance(play, Node)
    assert play.arguments[play.arguments.index('--remap') + 1 :] == [
        '/robot/eyes/overlay:=/recorded/robot/eyes/overlay', '--subscribers', '1'
    ]


def test_replay_ends_with_the_first_process_that_ends(tmp_path: Path) -> None:
    replay = Replay(bag=str(image_bag(tmp_path / 'bag', 'bgr8', '/camera')))
    (handler,) = replay.handlers(OnProcessExit)
    ended, failed = (ProcessExited(process_name='player-2', returncode=code) for code in (0, 3))
    assert handler.on_exit(ended, replay.context) == EmitEvent(
        event=Shutdown(reason='player-2 has ended')
    )
    with pytest.raises(RuntimeError, match='player-2 ended with exit code 3'):
        handler.on_exit(failed, replay.context)
    replay.context.is_shutdown = True
    assert handler.on_exit(failed, replay.context) is None


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({}, r'(?s)single image topic.*/left.*/right'),
        ({'image': '/lidar'}, r"(?s)'/lidar'.*/left.*/right"),
        ({'bag': '/nowhere'}, '/nowhere does not exist'),
        ({'bag': __file__}, 'neither a bag'),
        ({'cameras': 'front'}, "cameras is 'front': images must"),
        ({'cameras': 'front', 'images': '/left,/right'}, 'images has 2 topics'),
        ({'cameras': 'front,left', 'images': '/left,/jpeg'}, 'all raw or all compressed, but'),
        ({'bag': str(ROOT / 'docs' / 'images'), 'cameras': 'front'}, "cameras is 'front'"),
        ({'image': '/left', 'loop': 'yes'}, "loop is 'yes'"),
        ({'rate': '0'}, "rate is '0'; allowed: a number, above 0"),
        ({'start_offset': 'soon'}, "start_offset is 'soon'"),
        ({'image': '/left', 'log_level': 'warn'}, "log_level is 'warn'; allowed: debug, info"),
    ],
)
def test_replay_refuses_what_cannot_work(
    arguments: dict[str, str], message: str, tmp_path: Path
) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    encodings = {'/left': 'bgr8', '/right': 'bgr8', '/jpeg': 'jpeg'}
    entries = [Entry(topic, 0, 0, pixels, encoding) for topic, encoding in encodings.items()]
    bag = write_bag(tmp_path / 'bag', entries)
    with pytest.raises(RuntimeError, match=message):
        Replay(**{'bag': str(bag)} | arguments)


def test_replay_says_which_python_lacks_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'lednet_ros.recordings.bags', None)
    with pytest.raises(RuntimeError, match='where another Python has it'):
        Replay(bag=str(tmp_path))
