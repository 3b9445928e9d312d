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
Tests of the backend for CUDA devices.

Where there is none its steps run one by one in Triton's interpreter (a mock of the GPU), so what
is not tested there is the capture, the streams and the pinned memory.
"""

from dataclasses import replace
import logging
from typing import Any

from lednet_ros.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.inference.backends import cuda_graph, cuda_kernels
from lednet_ros.inference.backends.base import Outputs, Wanted
from lednet_ros.inference.backends.cuda_graph import choose_network, DeviceBackend
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.models import load_network
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest
import torch

DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
SIZE = (64, 96)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')


@pytest.fixture(autouse=True)
def quick_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return the interpreter, to which all blocks take the same time, large ones and no units."""
    if DEVICE.type == 'cpu':
        monkeypatch.setattr(cuda_kernels, 'BLOCK', 8192)
        # On the CPU they are never the faster choice; they have tests of their own.
        monkeypatch.setattr(cuda_graph, 'use_triton_units', lambda network: None)


@pytest.fixture(scope='module')
def content() -> Checkpoint:
    """Return the shipped network with a small input; random ones decide by rounding."""
    return replace(load_checkpoint('lednet'), input_size=SIZE)


def make_frame(height: int, width: int, order: str = 'rgb', seed: int = 0) -> Frame:
    scene = StreetScene(max(width, 64), max(height, 64), seed=seed + 1)
    street = scene.render(0.0)[0][:height, :width]
    return Frame(np.ascontiguousarray(street if order == 'rgb' else street[..., ::-1]), order)


def build(content: Checkpoint, **settings: Any) -> Segmenter:
    """Make a segmenter around the backend, in float32."""
    network = load_network(content, 'test').eval()
    backend = DeviceBackend(
        choose_network(network, SIZE, DEVICE, 'fp32'), content, DEVICE, torch.float32
    )
    return Segmenter(content, device=DEVICE.type, backend=lambda: backend, **settings)


def plain(content: Checkpoint, **settings: Any) -> Segmenter:
    return Segmenter(
        content, device='cpu', backend='torch_eager', precision='fp32', **settings
    )


def share_near(found: np.ndarray, expected: np.ndarray, levels: int) -> float:
    assert found.shape == expected.shape
    return float((np.abs(found.astype(int) - expected) <= levels).mean())


@pytest.mark.parametrize('output_size', [None, (50, 70)])
def test_results_are_those_of_eager(
    content: Checkpoint, output_size: tuple[int, int] | None
) -> None:
    ours, reference = (
        make(content, output_size=output_size) for make in (build, plain)
    )
    for segmenter in (ours, reference):
        segmenter.overlay_alpha = 0.3
        segmenter.min_confidence = 0.3
        segmenter.show_classes(['road', 'sky'])
    batch = [make_frame(64, 96), make_frame(97, 65, 'bgr'), make_frame(48, 40)]
    expected = reference.segment(batch, color=True)
    found = ours.segment(batch, color=True)
    for name in ('labels', 'confidence', 'overlay', 'color'):
        ours_of_all, theirs_of_all = getattr(found, name), getattr(expected, name)
        assert len(ours_of_all) == 3
        # The first frame is not resized. OpenCV rounds some bytes of the others another way.
        if output_size is None or name != 'overlay':
            assert share_near(ours_of_all[0], theirs_of_all[0], 1) > 0.999
        for one, other in zip(ours_of_all, theirs_of_all, strict=True):
            assert share_near(one, other, 16 if name == 'confidence' else 2) > 0.97


def test_the_style_changes_without_another_program(content: Checkpoint) -> None:
    segmenter = build(content)
    frame = make_frame(64, 96)
    first = segmenter.segment([frame], confidence=False)
    assert first.overlay is not None
    before = first.overlay[0].copy()
    segmenter.overlay_alpha = 0.0
    overlay = segmenter.segment([frame], confidence=False).overlay
    assert overlay is not None
    np.testing.assert_array_equal(overlay[0], frame.pixels)
    assert (before != overlay[0]).any()
    segmenter.min_confidence = 1.0
    labels = segmenter.segment([frame], confidence=False).labels[0]
    assert (labels == 255).mean() > 0.9
    assert len(segmenter._backend._programs) == 1  # type: ignore[attr-defined]


def test_parts_are_timed(content: Checkpoint) -> None:
    backend = build(content)._backend
    assert isinstance(backend, DeviceBackend)
    outputs = [Outputs(SIZE, pinned=DEVICE.type == 'cuda')]
    wanted = Wanted(confidence=False, overlay=True, color=False)
    times = backend.time_on_device([make_frame(*SIZE)], outputs, wanted, 2)
    assert set(times) == {'graph without copies', 'network'}
    assert [len(values) for values in times.values()] == [2, 2]


def test_programs_do_not_pile_up(
    content: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graph, 'MAX_PROGRAMS', 2)
    segmenter = build(content)
    for height in (50, 51, 52, 50):
        labels = segmenter.segment([make_frame(height, 40)], confidence=False, overlay=False)
        assert labels.labels[0].shape == (height, 40)
    assert len(segmenter._backend._programs) == 2  # type: ignore[attr-defined]


def test_padded_rows_are_taken_as_they_are(content: Checkpoint) -> None:
    segmenter = build(content)
    wide = make_frame(40, 64)
    frame = Frame(wide.pixels[:, :48], 'rgb')
    found = segmenter.segment([frame]).labels[0].copy()
    copied = Frame(np.ascontiguousarray(frame.pixels), 'rgb')
    np.testing.assert_array_equal(found, segmenter.segment([copied]).labels[0])


def test_units_that_give_other_scores_are_left_out(
    content: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(network: Any) -> None:
        next(network.decoder.parameters()).data += 100

    def fail(network: Any) -> None:
        raise RuntimeError('no compiler')

    network = load_network(content, 'test')
    monkeypatch.setattr(cuda_graph, 'use_triton_units', spoil)
    with caplog.at_level(logging.WARNING):
        chosen = choose_network(network, SIZE, DEVICE, 'fp32')
    assert chosen.__self__ is network  # type: ignore[attr-defined]
    assert 'differ by' in caplog.text
    network = load_network(content, 'test')
    monkeypatch.setattr(cuda_graph, 'use_triton_units', fail)
    with caplog.at_level(logging.WARNING):
        chosen = choose_network(network, SIZE, DEVICE, 'fp32')
    assert chosen.__self__ is network  # type: ignore[attr-defined]
    assert 'no compiler' in caplog.text


# --- CUDA -----------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'bf16'])
def test_labels_of_clear_pixels_are_those_of_eager(
    content: Checkpoint, precision: str
) -> None:
    segmenter = Segmenter(
        content, device='cuda', backend='cuda_graph', precision=precision
    )
    reference = plain(content)
    for frame in (make_frame(64, 96), make_frame(97, 65, 'bgr'), make_frame(1023, 2047)):
        expected = reference.segment([frame])
        assert expected.confidence is not None
        labels = segmenter.segment([frame]).labels[0]
        # Where the winner has most of the probability, rounding decides nothing.
        clear = expected.confidence[0] > 160
        assert (labels == expected.labels[0])[clear].mean() > 0.999


@pytest.mark.gpu
@needs_cuda
def test_nothing_is_allocated_and_nothing_synchronizes_by_itself(
    content: Checkpoint
) -> None:
    segmenter = Segmenter(content, device='cuda', backend='cuda_graph')
    frames = [make_frame(97, 65, seed=seed) for seed in range(4)]
    segmenter.warm_up((97, 65))
    segmenter.segment([frames[0]])
    before = torch.cuda.memory_stats()
    torch.cuda.set_sync_debug_mode('error')
    try:
        for number in range(1000):
            segmenter.segment([frames[number % 4]])
    finally:
        torch.cuda.set_sync_debug_mode('default')
    after = torch.cuda.memory_stats()
    for name in ('allocation.all.allocated', 'segment.all.allocated'):
        assert after[name] == before[name]
