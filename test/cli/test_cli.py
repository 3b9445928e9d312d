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

"""Tests of the `lednet` command."""

import json
from pathlib import Path
import re
import subprocess
import sys

from lednet_ros import __version__, checkpoint
from lednet_ros.cli.main import main
import pytest

# Must not be loaded for an import or for help: large, or available only with ROS.
HEAVY = ('torch', 'rclpy', 'cv2', 'numpy')


def python(code: str) -> str:
    """Run code in a new process; return its output."""
    return subprocess.run(
        [sys.executable, '-c', code], check=True, capture_output=True, text=True
    ).stdout


def failure(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must fail with one line on stderr; return that line."""
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f'lednet {arguments[0]}: ')
    return lines[0]


# --- The command itself ---------------------------------------------------------------------


def test_help_names_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'lednet_ros.cli', '--help'], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert not done.stderr
    for command in ('info', 'evaluate', 'check-data', 'train', 'demo'):
        assert re.search(rf'^    {command}\s', done.stdout, re.MULTILINE)


@pytest.mark.parametrize('command', ['info', 'evaluate', 'check-data', 'train', 'demo'])
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, '--help'])
    assert caught.value.code == 0
    assert f'lednet {command}' in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(['--version'])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == f'lednet_ros {__version__}'


@pytest.mark.parametrize(
    'arguments',
    [
        [], ['fly'], ['info', '--netwrok', 'lednet'], ['info', '--classes', 'many'],
        ['check-data', 'x', '--layout', 'x'], ['evaluate', 'x', '--layout', 'image_folder'],
        ['evaluate', 'x', '--annotations', 'gtMedium'],
    ],
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert 'usage: lednet' in capsys.readouterr().err


@pytest.mark.parametrize(
    'arguments',
    [['--help'], *([name, '--help'] for name in ('info', 'evaluate', 'check-data', 'train'))],
)
def test_help_loads_nothing_large(arguments: list[str]) -> None:
    loaded = python(
        'import sys\n'
        'from lednet_ros.cli.main import main\n'
        'try:\n'
        f'    main({arguments})\n'
        'except SystemExit:\n'
        '    pass\n'
        f'print([m for m in {HEAVY} if m in sys.modules])\n'
    )
    assert loaded.splitlines()[-1] == '[]'


def test_progress_in_a_log_is_rare() -> None:
    """A bar that can't redraw itself fills a log with copies."""
    interval = python(
        'from lednet_ros.cli.main import main\n'
        "main(['info', 'lednet'])\n"
        'from tqdm import tqdm\n'
        'print(tqdm(range(1)).mininterval)\n'
    )
    assert float(interval.splitlines()[-1]) == 10


def test_an_interrupt_exits_with_130(
    small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('lednet_ros.models.describe.describe_checkpoint', interrupt)
    assert main(['info', str(small_checkpoint)]) == 130


# --- info -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('network', 'classes', 'parameters'),
    [('lednet', 20, 925_663), ('lednet_heavy', 20, 2_288_140)],
)
def test_info_of_a_network(
    capsys: pytest.CaptureFixture[str], network: str, classes: int, parameters: int
) -> None:
    assert main(['info', '--network', network, '--classes', str(classes), '--json']) == 0
    description = json.loads(capsys.readouterr().out)
    assert description['network'] == network
    assert description['classes'] == classes
    assert description['parameters'] == parameters
    assert 20 < description['gflops'] < 30


def test_info_of_a_checkpoint(
    capsys: pytest.CaptureFixture[str], small_checkpoint: Path
) -> None:
    size = ['--input-size', '128', '192']
    assert main(['info', str(small_checkpoint), '--json', *size]) == 0
    description = json.loads(capsys.readouterr().out)
    assert description['network'] == 'lednet'
    assert description['classes'] == 11
    assert description['training'] == {'data': 'none: weights by rule'}
    assert main(['info', str(small_checkpoint), *size]) == 0
    text = capsys.readouterr().out
    assert f"{description['parameters']:,}" in text
    assert 'sky, building, pole' in text
    assert 'none: weights by rule' in text


def test_info_of_the_shipped_checkpoint_is_the_default(
    capsys: pytest.CaptureFixture[str], small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_checkpoint.rename(small_checkpoint.with_name('lednet.safetensors'))
    monkeypatch.setattr(checkpoint, 'WEIGHTS_DIRECTORY', small_checkpoint.parent)
    assert main(['info', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['label_map'] == 'camvid'


def test_errors_of_info_are_one_line(
    capsys: pytest.CaptureFixture[str], small_checkpoint: Path, tmp_path: Path
) -> None:
    text = tmp_path / 'text.safetensors'
    text.write_text('no weights')
    assert 'nothing.safetensors' in failure(capsys, 'info', tmp_path / 'nothing.safetensors')
    assert 'text.safetensors' in failure(capsys, 'info', text)
    assert "unknown network 'unet'" in failure(capsys, 'info', '--network', 'unet')
    assert 'num_classes is 0' in failure(capsys, 'info', '--network', 'lednet', '--classes', '0')
    assert '--classes goes with' in failure(capsys, 'info', small_checkpoint, '--classes', '3')
    assert 'not both' in failure(capsys, 'info', small_checkpoint, '--network', 'lednet')
    assert 'input is 8x8' in failure(
        capsys, 'info', '--network', 'lednet', '--input-size', '8', '8'
    )


# --- train ----------------------------------------------------------------------------------


def test_errors_of_train_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(recipe: str, *arguments: str | Path) -> str:
        return failure(capsys, 'train', recipe, '--output', tmp_path / 'out', *arguments)

    assert "no recipe 'none'" in fail('none')
    assert 'nowhere/val/images' in fail('camvid', '--data', tmp_path / 'nowhere')
    assert 'give --data' in fail('camvid')
    assert "no label map 'none'" in fail('camvid', '--set', 'label_map=none')
    assert "label map is 'cityscapes'" in fail('synthetic', '--set', 'label_map=cityscapes')
    assert "unknown network 'none'" in fail('synthetic', '--set', 'network=none')
    assert "there is no 'stages.7.epochs'" in fail('synthetic', '--set', 'stages.7.epochs=1')
    wrong = fail('synthetic', '--set', 'stages.0.epochs=many', '--set', 'typo=1')
    assert "stages.0.epochs is 'many'" in wrong
    assert 'typo is 1' in wrong
    assert not (tmp_path / 'out').exists()


def test_choices_match_the_code_behind_the_command() -> None:
    # Repeated in the command, because importing that code takes seconds.
    from lednet_ros.cli.segment import KINDS
    from lednet_ros.recordings import segment

    assert KINDS == segment.KINDS
