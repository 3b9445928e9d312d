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

"""What commands with outputs must never do: lose a file, or leave a part of one."""

import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

from bag_files import Entry, write_bag
from child_process import ChildProcess
import cv2
from lednet_ros.cli.main import main
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest

STREET = StreetScene(96, 64, seed=2)
EAGER = ('--device', 'cpu', '--backend', 'torch_eager')


def picture(index: int = 0) -> np.ndarray:
    return np.ascontiguousarray(STREET.render(index / 10)[0][..., ::-1])


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope='module')
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with inputs of each kind."""
    folder = tmp_path_factory.mktemp('inputs')
    images, labels = folder / 'data/val/images', folder / 'data/val/labels'
    images.mkdir(parents=True)
    labels.mkdir()
    for index in range(2):
        cv2.imwrite(str(images / f'{index}.png'), picture(index))
        cv2.imwrite(str(labels / f'{index}.png'), np.zeros((64, 96), np.uint8))
    entries = [Entry('/camera', 10**9 * (k + 1), k, picture(k), 'bgr8') for k in range(3)]
    write_bag(folder / 'bag', entries)
    video = cv2.VideoWriter(
        str(folder / 'drive.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 10, (96, 64)
    )
    for index in range(3):
        video.write(picture(index))
    video.release()
    return folder


@pytest.fixture
def work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: Path, small_checkpoint: Path
) -> Path:
    """Return a folder with copies of the inputs, in which the commands run."""
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    (tmp_path / 'small.safetensors').write_bytes(small_checkpoint.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


CHECKPOINT = ('--checkpoint', 'small.safetensors', *EAGER)
# Each command with each of its outputs, which is the last argument.
COMMANDS = (
    ('info', '--json', 'out.json'),
    ('check-data', 'data', '--json', 'out.json'),
    ('evaluate', 'data', *CHECKPOINT, '--json', 'out.json'),
    ('evaluate', 'bag', *CHECKPOINT, '--csv', 'out.csv'),
    ('evaluate', 'bag', *CHECKPOINT, '--report', 'out.html'),
    ('segment', 'data/val/images/0.png', *CHECKPOINT, '-o', 'out.png'),
    ('segment', 'bag', *CHECKPOINT, '-o', 'out.mp4'),
    ('export', 'small.safetensors', '-o', 'out.onnx'),
    ('quantize', 'small.safetensors', '--images', 'data/val/images', '-o', 'out.safetensors'),
    ('tune', *CHECKPOINT, '--json', 'out.json'),
    ('benchmark', 'pipeline', '--json', 'out.json'),
    ('benchmark', 'pipeline', '--plot', 'out.png'),
    ('torture', '--json', 'out.json'),
    ('doctor', '--json', 'out.json'),
)


@pytest.mark.parametrize('there', ['file', 'link', 'dangling', 'folder', 'pipe'])
@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: f'{command[0]}{command[-2]}')
def test_what_is_there_is_kept(
    work: Path, command: tuple[str, ...], there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(command[-1])
    (work / 'mine').write_text('years of work')
    if there == 'file':
        output.write_text('years of work')
    elif there == 'folder':
        output.mkdir()
    elif there == 'pipe':
        os.mkfifo(output)
    else:
        output.symlink_to('mine' if there == 'link' else 'nowhere')
    before = snapshot(work)
    if there == 'folder' and command[0] == 'segment' and output.suffix == '.png':
        pytest.skip('a folder takes images')
    assert main(command) == 1
    assert f"can't write {output}" in capsys.readouterr().err
    assert snapshot(work) == before
    assert output.is_symlink() == (there in ('link', 'dangling'))


@pytest.mark.parametrize('command', [
    command for command in COMMANDS if command[0] in ('info', 'check-data', 'evaluate', 'segment')
], ids=lambda command: f'{command[0]}{command[-2]}')
def test_overwrite_replaces_a_file_but_not_what_a_link_leads_to(
    work: Path, command: tuple[str, ...]
) -> None:
    (work / 'mine').write_text('years of work')
    Path(command[-1]).symlink_to('mine')
    assert main([*command, '--overwrite']) == 0
    assert (work / 'mine').read_text() == 'years of work'
    assert Path(command[-1]).stat().st_size > 13


@pytest.mark.parametrize('command', [
    ('check-data', 'data', '--json', 'data/val/labels/0.png'),
    ('evaluate', 'data', *CHECKPOINT, '--json', 'small.safetensors'),
    ('evaluate', 'bag', *CHECKPOINT, '--csv', 'bag/metadata.yaml'),
    ('evaluate', 'ba[g]', *CHECKPOINT, '--csv', 'bag/metadata.yaml'),
    ('quantize', 'small.safetensors', '-o', 'small.safetensors'),
    ('segment', 'data/val/images/0.png', *CHECKPOINT, '-o', 'data/val/images'),
    ('segment', 'data/val/images/0.png', *CHECKPOINT, '-o', 'data/val/images/0.png'),
    ('segment', 'data/val/images', *CHECKPOINT, '-o', 'data/val/images'),
    ('segment', 'data/val/images/0.png', 'bag', *CHECKPOINT, '-o', 'data/val/images'),
    ('segment', 'drive.avi', *CHECKPOINT, '-o', 'drive.avi'),
    ('segment', 'bag', *CHECKPOINT, '-o', 'bag'),
    ('segment', 'bag', *CHECKPOINT, '-o', '.'),
    ('segment', 'bag/bag.mcap', *CHECKPOINT, '-o', 'bag'),
    ('segment', 'bag/bag.mcap', *CHECKPOINT, '-o', 'data/../bag'),
    ('segment', 'bag', *CHECKPOINT, '-o', 'data'),
], ids=' '.join)
def test_no_option_allows_to_lose_an_input(
    work: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(work)
    assert main([*command, '--overwrite']) == 1
    assert "can't " in capsys.readouterr().err
    assert snapshot(work) == before


def test_only_a_bag_is_replaced_by_a_bag(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['segment', 'bag', *CHECKPOINT, '-o', 'out']
    assert main(command) == 0
    before = snapshot(work)
    assert main(command) == 1
    assert "can't write into out: it is not empty; " in capsys.readouterr().err
    assert snapshot(work) == before
    assert main([*command, '--overwrite']) == 0
    (work / 'out/calibration.yaml').write_text('years of work')
    before = snapshot(work)
    assert main([*command, '--overwrite']) == 1
    assert 'calibration.yaml is no part of a bag' in capsys.readouterr().err
    assert snapshot(work) == before


@pytest.mark.parametrize(('wrong', 'complaint'), [
    ('small.safetensors/out', "can't write into small.safetensors"),
    ('/proc/none/out', '/proc/none'),
    ('x' * 300, 'File name too long'),
])
@pytest.mark.parametrize('kind', ['labels', 'video', 'bag'])
def test_an_output_that_can_not_be_written_is_known_before_the_work(
    work: Path, wrong: str, complaint: str, kind: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('lednet_ros.cli.segment.make_segmenter', lambda _: pytest.fail('work'))
    assert main(['segment', 'bag', *CHECKPOINT, '--as', kind, '-o', wrong]) == 1
    assert complaint in capsys.readouterr().err


# The tests may run under nohup, whose children ignore signals.
SLOW = """
import signal
import sys
from lednet_ros.cli.main import main
from lednet_ros.recordings import outputs, segment

def write(self, frame, before=segment.{sink}.write):
    before(self, frame)
    print('written', flush=True)

segment.{sink}.write = write
signal.signal(signal.SIGINT, {handler})
signal.signal(signal.SIGHUP, {handler})
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(('kind', 'output', 'ending'), [
    ('labels', 'out', signal.SIGTERM),
    ('video', 'out.mp4', signal.SIGTERM),
    ('bag', 'out', signal.SIGTERM),
    ('video', 'out.mp4', signal.SIGINT),
    ('bag', 'out', signal.SIGHUP),
])
def test_a_signal_leaves_whole_results_and_no_parts(
    work: Path, kind: str, output: str, ending: signal.Signals
) -> None:
    source = 'many'
    pixels = picture()
    entries = [Entry('/camera', 10**8 * k, k, pixels, 'bgr8') for k in range(1000)]
    write_bag(work / source, entries)
    sink = {'labels': 'ImageSink', 'video': 'VideoSink', 'bag': 'BagSink'}[kind]
    script = SLOW.format(sink=sink, handler='signal.SIG_DFL')
    command = [sys.executable, '-c', script, 'segment', source, *CHECKPOINT, '--as', kind,
               '-o', output]
    with ChildProcess(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'written\n'
        process.send_signal(ending)
        # A second one doesn't disturb the clean-up.
        process.send_signal(ending)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + ending, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith('lednet segment: interrupted; complete: ')
    assert last.endswith(output)
    assert not [path for path in work.iterdir() if path.name.startswith('.part')]
    again = ['segment', output, *CHECKPOINT, '--as', 'labels', '-o', 'again']
    if kind == 'bag':
        again += ['--image-topic', '/camera']
    assert main(again) == 0


def test_signals_that_nohup_ignores_end_nothing(work: Path) -> None:
    entries = [Entry('/camera', 10**8 * k, k, picture(), 'bgr8') for k in range(20)]
    write_bag(work / 'few', entries)
    script = SLOW.format(sink='ImageSink', handler='signal.SIG_IGN')
    command = [sys.executable, '-c', script, 'segment', 'few', *CHECKPOINT, '--as', 'labels',
               '-o', 'out']
    with ChildProcess(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'written\n'
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(list((work / 'out').glob('*.png'))) == 20


def test_a_full_disk_leaves_nothing(work: Path) -> None:
    limit = 'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))\n'
    script = limit + SLOW.format(sink='BagSink', handler='signal.SIG_DFL')
    for kind, output in (('video', 'out.mp4'), ('bag', 'out')):
        entries = [
            Entry('/camera', 10**8 * k, k, np.random.default_rng(k).integers(
                0, 256, (64, 96, 3), np.uint8), 'bgr8')
            for k in range(40)
        ]
        write_bag(work / f'many_{kind}', entries)
        done = subprocess.run(
            [sys.executable, '-c', script, 'segment', f'many_{kind}', *CHECKPOINT, '--as', kind,
             '-o', output],
            capture_output=True, text=True, check=False,
        )
        assert done.returncode == 1
        assert 'Traceback' not in done.stderr
        assert 'File too large' in done.stderr
        assert not Path(output).exists()
    assert not [path for path in work.iterdir() if path.name.startswith('.part')]



@pytest.mark.parametrize(('command', 'lost'), [
    (('evaluate', 'data', *CHECKPOINT), ['images/0.png']),
    (('evaluate', 'missing.mcap', 'bag', *CHECKPOINT), ['missing.mcap']),
    (('evaluate', 'data', 'bag', *CHECKPOINT), ['data']),
    (('quantize', 'small.safetensors', '--images', 'data/val/images', '-o', 'out.safetensors'),
     ['images/0.png']),
    (('check-data', 'data'), ['images/0.png']),
], ids=lambda part: ' '.join(part))
def test_what_can_not_be_read_is_named_and_the_rest_is_read(
    work: Path, command: tuple[str, ...], lost: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (work / 'data/val/images/0.png').write_bytes(b'')
    (work / 'data/val/images/._1.png').write_bytes(b'\x00\x05\x16\x07')
    assert main(command) == 1
    printed = capsys.readouterr()
    said = printed.out + printed.err
    assert all(name in said for name in lost)
    assert '._1.png' not in said
    if command[0] == 'evaluate':
        assert 'frames/s' in printed.out
