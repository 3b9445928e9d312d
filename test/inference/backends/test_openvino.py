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

"""Tests of OpenVINO against eager PyTorch, and of its cache of compiled models."""

from dataclasses import replace
import os
from pathlib import Path
import subprocess
import sys

import cv2
from lednet_ros.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.files import cache_folder
from lednet_ros.inference.backends import calibration
from lednet_ros.inference.backends import openvino as openvino_backend
from lednet_ros.inference.backends.base import ConfigurationError
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.machine import int8_sums_saturate
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest
import torch

openvino = pytest.importorskip('openvino')


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a test a cache of its own, which doesn't exist yet."""
    folder = tmp_path / 'cache'
    monkeypatch.setenv('LEDNET_ROS_CACHE', str(folder))
    return folder


@pytest.fixture
def no_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every conversion fail."""
    monkeypatch.setattr(openvino, 'convert_model', _refuse)


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError('converted')


def make_frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def build(content: Checkpoint, backend: str = 'openvino', precision: str = 'fp32') -> Segmenter:
    return Segmenter(content, device='cpu', backend=backend, precision=precision)


def test_results_are_those_of_eager_pytorch(small_content: Checkpoint) -> None:
    frames = [
        make_frame(64, 96), make_frame(97, 65, 1), Frame(make_frame(128, 192, 2), 'bgr')
    ]
    eager = build(small_content, 'torch_eager').segment(frames, color=True)
    ours = build(small_content).segment(frames, color=True)
    assert ours.confidence is not None
    assert eager.confidence is not None
    for index in range(3):
        same = ours.labels[index] == eager.labels[index]
        assert same.mean() > 0.999
        difference = ours.confidence[index].astype(int) - eager.confidence[index]
        assert np.abs(difference[same]).max() <= 1
        assert len(np.unique(ours.labels[index])) > 5


def test_batches_of_any_size(small_content: Checkpoint) -> None:
    segmenter = build(small_content)
    frames = [make_frame(64, 96, seed) for seed in range(3)]
    alone = [segmenter.segment(frame).labels[0].copy() for frame in frames]
    for count in (3, 2, 1):
        together = segmenter.segment(frames[:count]).labels
        for one, other in zip(alone, together, strict=False):
            np.testing.assert_array_equal(one, other)


def test_outputs_past_the_last_class_never_win(small_content: Checkpoint) -> None:
    few = replace(small_content, label_map=replace_classes(small_content, 4))
    frame = make_frame(64, 96)
    labels = build(few).segment(frame).labels[0]
    assert labels.max() <= 3
    eager = build(few, 'torch_eager').segment(frame).labels[0]
    assert (labels == eager).mean() > 0.999


def replace_classes(content: Checkpoint, count: int) -> LabelMap:
    return replace(content.label_map, labels=content.label_map.labels[:count])


@pytest.mark.parametrize('network', ['lednet_heavy'])
def test_the_heavy_version(small_content: Checkpoint, make_weights, network: str) -> None:
    from lednet_ros.models import build_network

    content = replace(
        small_content,
        network=network,
        state_dict=make_weights(build_network(network, 11), 0, 6.0),
        input_size=(77, 131),
    )
    frame = make_frame(60, 80)
    labels = build(content).segment(frame).labels[0]
    assert (labels == build(content, 'torch_eager').segment(frame).labels[0]).mean() > 0.999


def test_compiled_models_come_from_the_cache(
    small_content: Checkpoint, cache: Path, merged: Path, request: pytest.FixtureRequest
) -> None:
    frame = make_frame(64, 96)
    labels = build(small_content).segment(frame).labels[0].copy()
    assert len(list(cache.iterdir())) == 1
    request.getfixturevalue('no_conversion')
    np.testing.assert_array_equal(build(small_content).segment(frame).labels[0], labels)
    # Other weights and another size are other models.
    state = dict(small_content.state_dict)
    name = 'encoder.layers.0.conv3x1_1_l.weight'
    state[name] = state[name] + 0.01
    for other in (
        replace(small_content, state_dict=state), replace(small_content, input_size=(64, 104))
    ):
        with pytest.raises(AssertionError, match='converted'):
            build(other).segment(frame)
    with pytest.raises(AssertionError, match='converted'):
        Segmenter(
            small_content, device='cpu', backend='openvino', precision='fp32', classes=str(merged)
        ).segment(frame)
    # Precisions and batch sizes share the conversion.
    for count, (precision, frames) in enumerate((('bf16', 1), ('bf16', 2)), 2):
        build(small_content, precision=precision).segment([frame] * frames)
        assert len(list(cache.iterdir())) == count


@pytest.mark.parametrize('damage', [b'', b'no model', None])
def test_a_damaged_cache_is_replaced(
    small_content: Checkpoint,
    cache: Path,
    damage: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = make_frame(64, 96)
    labels = build(small_content).segment(frame).labels[0].copy()
    (file,) = cache.iterdir()
    good = file.read_bytes()
    file.write_bytes(good[: len(good) // 2] if damage is None else damage)
    np.testing.assert_array_equal(build(small_content).segment(frame).labels[0], labels)
    # The new file is a whole one: nothing is converted again.
    monkeypatch.setattr(openvino, 'convert_model', _refuse)
    np.testing.assert_array_equal(build(small_content).segment(frame).labels[0], labels)


def test_unwritable_cache_is_skipped(
    small_content: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'file').touch()
    monkeypatch.setenv('LEDNET_ROS_CACHE', str(tmp_path / 'file'))
    assert build(small_content).segment(make_frame(64, 96)).labels[0].shape == (64, 96)


def test_signals_are_handled_after_backends_have_gone(small_checkpoint: Path) -> None:
    """Two cores of OpenVINO would leave the process without a stack for signal handlers."""
    script = f"""
import gc, signal
from lednet_ros.inference.backends.openvino import cpu_has_bf16
from lednet_ros.inference.segmenter import Segmenter

seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
cpu_has_bf16()
segmenters = [Segmenter.from_checkpoint({str(small_checkpoint)!r}, device='cpu',
                                        backend='openvino') for _ in range(3)]
while segmenters:
    segmenters.pop(0)
    gc.collect()
    signal.raise_signal(signal.SIGUSR1)
print(len(seen))
"""
    result = subprocess.run(
        [sys.executable, '-X', 'faulthandler', '-c', script], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, '3\n'), result.stderr


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('LEDNET_ROS_CACHE', str(tmp_path / 'own'))
    assert cache_folder() == tmp_path / 'own'
    monkeypatch.delenv('LEDNET_ROS_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert cache_folder() == tmp_path / 'xdg' / 'lednet_ros'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert cache_folder() == tmp_path / 'home' / '.cache' / 'lednet_ros'


def test_openvino_is_chosen_on_x86_where_it_is_installed(
    small_content: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('platform.machine', lambda: 'x86_64')
    segmenter = Segmenter(small_content, device='cpu')
    assert segmenter.backend == 'openvino'
    assert segmenter.precision == ('bf16' if openvino_backend.cpu_has_bf16() else 'fp32')
    monkeypatch.setattr('platform.machine', lambda: 'aarch64')
    assert Segmenter(small_content, device='cpu').backend == 'torch_eager'
    monkeypatch.setattr('platform.machine', lambda: 'x86_64')
    monkeypatch.setattr('lednet_ros.inference.options.find_spec', lambda name: None)
    assert Segmenter(small_content, device='cpu').backend == 'torch_eager'
    with pytest.raises(ConfigurationError, match='which needs openvino'):
        build(small_content)


def test_unsupported_export_is_named(
    small_content: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="precision is 'fp16'; allowed with backend 'op"):
        build(small_content, precision='fp16')
    with pytest.raises(ConfigurationError, match="backend is 'tvm'; allowed: auto, openvino, "):
        build(small_content, 'tvm')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    with pytest.raises(ConfigurationError, match="'openvino' and device 'cuda:0'; with it the d"):
        Segmenter(small_content, device='cuda', backend='openvino')


# --- int8 -----------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def int8_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a cache of what these tests quantize, which takes long."""
    return tmp_path_factory.mktemp('int8')


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, int8_cache: Path) -> Checkpoint:
    """Load the shipped network with a small input: random weights can't be quantized well."""
    monkeypatch.setenv('LEDNET_ROS_CACHE', str(int8_cache))
    monkeypatch.setattr(calibration, 'CALIBRATION_FRAMES', 4)
    return replace(load_checkpoint('lednet'), input_size=(96, 128))


def streets(count: int) -> list[np.ndarray]:
    return [StreetScene(128, 96, seed=900).render(index)[0] for index in range(count)]


def test_int8_labels_are_close_to_fp32(shipped: Checkpoint) -> None:
    exact, quantized = (build(shipped, precision=name) for name in ('fp32', 'int8'))
    assert quantized.precision == 'int8'
    for frame in streets(4):
        labels = exact.segment(frame).labels[0].copy()
        assert len(np.unique(labels)) > 4
        assert (quantized.segment(frame).labels[0] == labels).mean() > 0.97


def multiply(weight_bits: int) -> float:
    """Return the relative error of a convolution of the largest int8 values."""
    network = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3, bias=False)).eval()
    torch.nn.init.ones_(network[0].weight)
    ones = torch.ones(1, 64, 32, 32)
    exact = network(ones).detach().numpy()
    model = openvino.convert_model(network, example_input=ones, input=[tuple(ones.shape)])
    openvino_backend.quantize(model, {'0': (0.0, 1.0)}, weight_bits)
    result = openvino.compile_model(model, 'CPU')(ones.numpy())[0]
    return float(np.abs(result - exact).max() / exact.max())


def test_int8_products_do_not_saturate() -> None:
    assert multiply(7) < 0.03
    if int8_sums_saturate():
        assert multiply(8) > 0.3
    else:
        assert multiply(8) < 0.03


@pytest.mark.parametrize(('saturate', 'bits'), [(False, 8), (True, 7)])
def test_weights_have_seven_bits_where_products_would_saturate(
    saturate: bool, bits: int, shipped: Checkpoint, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, 'int8_sums_saturate', lambda: saturate)
    used = []

    def quantize(model: object, ranges: object, weight_bits: int) -> None:
        used.append(weight_bits)

    monkeypatch.setattr(openvino_backend, 'quantize', quantize)
    build(shipped, precision='int8').segment(streets(1)[0])
    assert used == [bits]


@pytest.mark.slow
def test_int8_is_calibrated_with_images_of_a_folder(
    shipped: Checkpoint, tmp_path: Path, int8_cache: Path
) -> None:
    folder = tmp_path / 'images'
    folder.mkdir()
    for index, frame in enumerate(streets(3)):
        assert cv2.imwrite(str(folder / f'{index}.png'), frame[..., ::-1])
    settings = {'device': 'cpu', 'backend': 'openvino', 'precision': 'int8'}
    frame = streets(1)[0]
    Segmenter(shipped, **settings).segment(frame)
    others = set(int8_cache.iterdir())
    own = Segmenter(shipped, calibration=folder, **settings).segment(frame).labels[0]
    assert len(np.unique(own)) > 4
    # Other images make another model.
    assert len(set(int8_cache.iterdir()) - others) == 1


def test_calibration_images_that_cannot_be_used_are_named(
    shipped: Checkpoint, tmp_path: Path
) -> None:
    settings = {'device': 'cpu', 'backend': 'openvino', 'precision': 'int8'}
    with pytest.raises(ConfigurationError, match=r"calibration is '.*', which holds no image"):
        Segmenter(shipped, calibration=tmp_path, **settings)
    with pytest.raises(ConfigurationError, match='nowhere'):
        Segmenter(shipped, calibration=tmp_path / 'nowhere', **settings)
    (tmp_path / 'broken.png').write_bytes(b'no image')
    segmenter = Segmenter(shipped, calibration=tmp_path, **settings)
    with pytest.raises(ConfigurationError, match=r'no calibration image of .* can be read'):
        segmenter.segment(streets(1)[0])


def test_int8_of_the_checkpoint_needs_no_frames(
    shipped: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError('calibrated at the start')

    monkeypatch.setattr(calibration, 'draw_streets', fail)
    frame = streets(1)[0]
    expected = build(shipped, precision='fp32').segment(frame).labels[0].copy()
    assert (build(shipped, precision='int8').segment(frame).labels[0] == expected).mean() > 0.97


def test_a_checkpoint_without_ranges_is_calibrated_with_streets(shipped: Checkpoint) -> None:
    bare = replace(shipped, activation_ranges={})
    frame = streets(1)[0]
    expected = build(bare, precision='fp32').segment(frame).labels[0].copy()
    assert (build(bare, precision='int8').segment(frame).labels[0] == expected).mean() > 0.97


def test_nothing_is_reported_to_a_server(small_checkpoint: Path, tmp_path: Path) -> None:
    code = (
        'import multiprocessing, sys\n'
        'from lednet_ros.inference.segmenter import Segmenter\n'
        "segmenter = Segmenter.from_checkpoint(sys.argv[1], device='cpu', backend='openvino')\n"
        'segmenter.warm_up((64, 96))\n'
        "assert 'openvino.tools.ovc.convert_impl' in sys.modules\n"
        'assert not multiprocessing.active_children()\n'
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]\n"
    )
    environment = {**os.environ, 'HOME': str(tmp_path), 'LEDNET_ROS_CACHE': str(tmp_path / 'c')}
    # In CI OpenVINO holds back by itself.
    environment.pop('CI', None)
    command = [sys.executable, '-c', code, str(small_checkpoint)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    # Where it keeps the number by which it tells its users apart.
    assert not (tmp_path / 'intel').exists()
