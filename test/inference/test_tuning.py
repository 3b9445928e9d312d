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

"""Tests of the choice of the fastest right backend: broken candidates, crashes and the cache."""

from collections.abc import Callable, Sequence
import contextlib
from dataclasses import replace
import json
import logging
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

from lednet_ros.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.cli.main import main
from lednet_ros.inference import tuning
from lednet_ros.inference.backends.base import Outputs, Style, Wanted
from lednet_ros.inference.backends.torch_eager import TorchBackend
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.inference.postprocess import draw_on_host
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.inference.tuning import rank, Reference, Row, tune, Verdict, WrongResultError
from lednet_ros.models import load_network, SegmentationNetwork
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import nn

SIZE = (96, 128)
FP32 = SegmenterOptions(
    device='cpu', backend='torch_eager', precision='fp32', input_size=SIZE
)
AUTO = SegmenterOptions(device='cpu', precision='fp32', input_size=SIZE)


@pytest.fixture(scope='module')
def content() -> Checkpoint:
    return replace(load_checkpoint('lednet'), input_size=SIZE)


@pytest.fixture(scope='module')
def reference(content: Checkpoint) -> Reference:
    return Reference.compute(Segmenter(content, FP32))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let 'auto' measure, with a cache of its own; returns the cache's folder."""
    monkeypatch.delenv(tuning.SWITCH)
    monkeypatch.setenv('LEDNET_ROS_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


class Candidate(TorchBackend):
    """A backend with a fault."""

    def __init__(
        self, network: SegmentationNetwork, checkpoint: Checkpoint, fault: str
    ) -> None:
        super().__init__(network, checkpoint, FP32)
        self.fault = fault
        # One that draws by itself can draw something wrong.
        self.draws = fault == 'overlay'

    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        stale = [output.array('labels').copy() for output in outputs]
        super().run(frames, outputs, wanted, style)
        for output, old in zip(outputs, stale, strict=True):
            if self.fault == 'labels':
                output.array('labels')[:, 2:] = output.array('labels')[:, :-2].copy()
            elif self.fault == 'stale':
                # What the last frame of this size left behind.
                output.array('labels')[::2] = old[::2]
        if self.draws:
            draw_on_host(frames, outputs, wanted, style)
            for output in outputs:
                output.array('overlay')[...] += 5
        if self.fault == 'batch' and len(frames) > 1:
            outputs[0].array('labels')[:] = outputs[0].array('labels')[::-1].copy()

    def last_logits(self) -> NDArray[np.float32]:
        logits = super().last_logits().copy()
        if self.fault == 'nan':
            logits[0, 0, 0, 0] = np.nan
        return logits


def find_conv(network: nn.Module, kernel: tuple[int, int], dilation: int) -> nn.Conv2d:
    return next(
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
        and module.kernel_size == kernel
        and max(module.dilation) == dilation
    )


def spoil_weights(network: SegmentationNetwork, fault: str) -> None:
    if fault == 'dilation':
        conv = find_conv(network, (1, 3), 9)
        conv.dilation, conv.padding = (1, 8), (0, 8)
    elif fault == 'tap':
        find_conv(network, (3, 1), 2).weight.data[:, :, 2] = 0
    elif fault == 'bias':
        bias = find_conv(network, (3, 1), 1).bias
        assert bias is not None
        bias.data.zero_()
    elif fault == 'edges':
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 1):
                module.padding_mode = 'replicate'
                module._reversed_padding_repeated_twice = [
                    side for side in reversed(module.padding) for _ in range(2)
                ]


def make(content: Checkpoint, fault: str) -> Segmenter:
    network = load_network(content, 'test')
    spoil_weights(network, fault)
    backend = Candidate(network, content, fault)
    return Segmenter(content, FP32, backend=lambda: backend)


@pytest.mark.parametrize(
    ('fault', 'message'),
    [
        ('nan', 'not finite'),
        ('dilation', 'logits differ by'),
        ('tap', 'logits differ by'),
        ('bias', 'logits differ by'),
        ('edges', 'logits differ by'),
        ('labels', 'of the clear pixels differ'),
        ('overlay', 'overlays differ by'),
        ('stale', 'differ'),
    ],
)
def test_a_wrong_candidate_is_refused(
    content: Checkpoint, reference: Reference, fault: str, message: str
) -> None:
    with pytest.raises(WrongResultError, match=message):
        reference.check_all(make(content, fault))


def test_a_right_candidate_passes(content: Checkpoint, reference: Reference) -> None:
    right = make(content, '')
    error, agreement = reference.check_all(right)
    assert error < 1e-5
    assert agreement == 1.0
    reference.check_batch(right)


@pytest.mark.parametrize(
    'change',
    [
        {'output_size': (50, 60)}, {'min_confidence': 0.9}, {'palette': 'color_blind'},
        {'overlay_alpha': 0.9}, {'overlay_classes': ('car',)},
    ],
)
def test_what_is_not_the_backends_does_not_matter(
    content: Checkpoint, reference: Reference, change: dict[str, Any]
) -> None:
    segmenter = Segmenter(content, FP32, **change)
    reference.check_all(segmenter)
    # The results of others have it.
    assert all(getattr(segmenter.options, name) == value for name, value in change.items())
    assert segmenter.output_size == change.get('output_size')


def test_a_candidate_that_mixes_up_a_batch_is_refused(
    content: Checkpoint, reference: Reference
) -> None:
    with pytest.raises(WrongResultError, match='in a batch'):
        reference.check_batch(make(content, 'batch'))


def test_the_reference_comes_back(reference: Reference, tmp_path: Path) -> None:
    reference.save(tmp_path / 'reference.npz')
    again = Reference.load(tmp_path / 'reference.npz')
    for name, array in reference.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_candidates_are_measured_once_and_the_verdict_is_kept(
    content: Checkpoint, measured: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        first = Segmenter(content, AUTO)
    assert "backend 'auto': measuring" in caplog.text
    assert f"backend 'auto': {first.backend} {first.precision}" in caplog.text

    def fail(*_: object) -> None:
        raise AssertionError('measured again')

    monkeypatch.setattr(tuning, '_run_process', fail)
    again = Segmenter(content, AUTO)
    assert (again.backend, again.precision) == (first.backend, first.precision)
    verdict = tuning._Tuning(content, AUTO, AUTO.candidates()).load()
    assert verdict is not None
    assert {row.name for row in verdict.rows} == {
        f'{one.backend} {one.precision}' for one in AUTO.candidates()
    }
    for row in verdict.rows:
        assert not row.failure
        assert row.milliseconds
        assert row.error is not None
        assert row.error < tuning.TOLERANCE['fp32']


def crash_in_child(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the measuring process run code for OpenVINO: a mock of a driver that fails."""
    (folder / 'sitecustomize.py').write_text(
        'import os, signal, sys, time\n'
        'if "lednet_ros.inference.tuning" in sys.orig_argv:\n'
        '    from lednet_ros.inference.segmenter import Segmenter\n'
        '    original = Segmenter.__init__\n'
        '    def init(self, checkpoint, options=None, **others):\n'
        f'        if options.backend == "openvino": {code}\n'
        '        original(self, checkpoint, options, **others)\n'
        '    Segmenter.__init__ = init\n',
        encoding='utf-8',
    )
    monkeypatch.setattr(sys, 'path', [str(folder), *sys.path])


@pytest.mark.parametrize(
    ('code', 'failure'),
    [
        ('os.kill(os.getpid(), signal.SIGSEGV)', 'ended by SIGSEGV'),
        ('raise RuntimeError("Failed to find C compiler")', 'Failed to find C compiler'),
        pytest.param(
            'time.sleep(1000)', 'did not end within 25 s', marks=pytest.mark.slow
        ),
    ],
)
def test_a_candidate_that_fails_costs_itself_alone(
    content: Checkpoint, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, code: str, failure: str,
) -> None:
    pytest.importorskip('openvino')
    monkeypatch.setattr(tuning, 'CANDIDATE_SECONDS', 25.0 if 'sleep' in code else 120.0)
    crash_in_child(tmp_path, monkeypatch, code)
    segmenter = Segmenter(content, AUTO)
    assert segmenter.backend == 'torch_eager'
    assert 'openvino fp32 is left out' in caplog.text
    assert failure in caplog.text


def find_processes(text: str) -> list[str]:
    """Return the numbers of the processes whose command line contains a text."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        with contextlib.suppress(OSError):
            if text in path.read_text(encoding='utf-8', errors='replace'):
                found.append(path.parent.name)
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_measuring_process_ends_with_the_one_that_started_it(
    measured: Path, tmp_path: Path, small_checkpoint: Path
) -> None:
    code = (
        'import sys\n'
        'from lednet_ros import Segmenter\n'
        "Segmenter.from_checkpoint(sys.argv[1], device='cpu')\n"
    )
    folder = tmp_path / 'temporary'
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, '-c', code, str(small_checkpoint)],
        env={**os.environ, 'TMPDIR': str(folder)},
    )
    try:
        # It has set this up before the first thing that takes long.
        wait_until(lambda: bool(list(folder.glob('*/state.json'))))
        assert find_processes(str(folder))
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not find_processes(str(folder)))


def test_a_machine_that_cannot_measure_takes_the_last_resort(
    content: Checkpoint, measured: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, 'executable', '/bin/false')
    segmenter = Segmenter(content, AUTO)
    assert segmenter.backend == 'torch_eager'
    assert "backend 'auto' can't measure (reference): ended with exit code 1" in caplog.text


def test_a_cache_that_cannot_be_written_is_named(
    content: Checkpoint, measured: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    measured.write_text('a file', encoding='utf-8')
    with caplog.at_level(logging.WARNING):
        tune(content, AUTO)
    assert 'nothing is kept for the next start' in caplog.text
    assert f"can't write into {measured}: a file is where a folder is needed" in caplog.text


def rows(*names: str) -> Callable[..., Verdict]:
    return lambda _: Verdict(
        'cpu', tuple(Row(*name.split(), milliseconds=k + 1.0) for k, name in enumerate(names))
    )


def test_a_winner_that_cannot_be_built_any_more_is_replaced(
    content: Checkpoint, measured: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = pytest.importorskip('lednet_ros.inference.backends.openvino')

    def fail(*_: object) -> None:
        raise RuntimeError('no such driver')

    forgotten = []
    monkeypatch.setattr(module.OpenVINOBackend, '__init__', fail)
    monkeypatch.setattr(tuning._Tuning, 'load', rows('openvino fp32', 'torch_eager fp32'))
    monkeypatch.setattr(tuning._Tuning, 'forget', lambda self: forgotten.append(True))
    assert Segmenter(content, AUTO).backend == 'torch_eager'
    assert 'openvino fp32 is left out: no such driver' in caplog.text
    assert forgotten


def test_a_winner_that_is_wrong_now_is_replaced(
    content: Checkpoint, reference: Reference, measured: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    arrays = dict(reference.arrays)
    arrays['logits_0'] = arrays['logits_0'] + 0.1 * np.ptp(arrays['logits_0'])
    monkeypatch.setattr(tuning._Tuning, 'load', rows('torch_eager bf16', 'torch_eager fp32'))
    monkeypatch.setattr(tuning._Tuning, 'load_reference', lambda self: Reference(arrays))
    options = replace(AUTO, precision='auto')
    assert Segmenter(content, options).precision == 'fp32'
    assert 'torch_eager bf16 is left out: logits differ by' in caplog.text


def test_what_is_set_by_hand_is_not_measured(
    content: Checkpoint, measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, '_Tuning', None)
    assert next(rank(content, FP32)) == (FP32, None)
    monkeypatch.setenv(tuning.SWITCH, 'off')
    assert next(rank(content, AUTO)) == (AUTO.candidates()[0], None)


def test_the_last_resort_of_a_gpu_is_the_cpu(
    content: Checkpoint, measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing here has a GPU: only the order of what would be tried is tested.
    monkeypatch.setattr('lednet_ros.inference.options._cuda_works', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(tuning, '_describe_device', str)
    names = 'triton fp16', 'cuda_graph fp16', 'torch_eager fp16'
    monkeypatch.setattr(tuning._Tuning, 'load', rows(*names))
    monkeypatch.setattr(tuning._Tuning, 'load_reference', lambda self: None)
    ways = [options for options, _ in rank(content, SegmenterOptions(input_size=SIZE))]
    assert [(one.device, one.backend, one.precision) for one in ways] == [
        *(('cuda:0', *name.split()) for name in names),
        ('cuda:0', 'torch_eager', 'fp16'),
        ('cpu', 'torch_eager', 'fp32'),
    ]


def test_the_command_prints_the_candidates(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    small_checkpoint: Path,
) -> None:
    arguments = ['tune', '--checkpoint', str(small_checkpoint), '--device', 'cpu']
    assert main([*arguments, '--precision', 'fp32', '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row['default'] for row in found['rows']].count(True) == 1
    assert found['rows'][0]['default']
    assert found['device'] == 'cpu'


def test_a_checkpoint_is_quantized_with_frames_of_a_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_checkpoint: Path
) -> None:
    import cv2

    rng = np.random.default_rng(0)
    for number in range(3):
        image = rng.integers(0, 256, (40, 50, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / f'{number}.png'), image)
    output = tmp_path / 'out' / 'int8.safetensors'
    arguments = ['quantize', str(small_checkpoint), '-o', str(output), '--images', str(tmp_path)]
    assert main(arguments) == 0
    before, after = load_checkpoint(small_checkpoint), load_checkpoint(output)
    assert not before.activation_ranges
    assert len(after.activation_ranges) > 100
    assert all(low <= 0 <= high for low, high in after.activation_ranges.values())
    for name, tensor in before.state_dict.items():
        assert torch.equal(tensor, after.state_dict[name])


def test_shipped_checkpoints_have_their_ranges() -> None:
    from lednet_ros.inference.backends.calibration import find_convolutions, fuse_checkpoint

    for name in ('lednet', 'shufflenet_v2_deeplab', 'shufflenet_v2_dpc'):
        shipped = load_checkpoint(name)
        fused = fuse_checkpoint(load_network(shipped, name), shipped)
        assert find_convolutions(fused).keys() <= shipped.activation_ranges.keys()
        # In fp16, numbers end at 65504.
        assert max(map(abs, sum(shipped.activation_ranges.values(), ()))) < 1e4
