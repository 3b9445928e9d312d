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
is not tested there is the capture, the streams and the pinned memory. cuDNN's fused operations are
mocked by PyTorch's plain ones.
"""

from collections.abc import Callable, Iterator
import contextlib
from dataclasses import replace
from typing import Any

from lednet_ros.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.inference.backends import cuda_graph
from lednet_ros.inference.backends.cuda_graph import DeviceBackend, TorchEnds, TritonEnds
from lednet_ros.inference.backends.cuda_networks import make_device_backend, use_cudnn
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import ConfigurationError, SegmenterOptions
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.models import load_network
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
pytestmark = [
    pytest.mark.usefixtures('kernel_device'), *([pytest.mark.gpu] if DEVICE.type == 'cuda' else [])
]
SIZE = (64, 96)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')


@pytest.fixture(scope='module')
def content() -> Checkpoint:
    """Return the shipped network with a small input; random ones decide by rounding."""
    return replace(load_checkpoint('lednet'), input_size=SIZE)


def make_frame(height: int, width: int, order: str = 'rgb', seed: int = 0) -> Frame:
    scene = StreetScene(max(width, 64), max(height, 64), seed=seed + 1)
    street = scene.render(0.0)[0][:height, :width]
    return Frame(np.ascontiguousarray(street if order == 'rgb' else street[..., ::-1]), order)


def build(content: Checkpoint, triton: bool = True, **settings: Any) -> Segmenter:
    """Make a segmenter around the backend, in float32."""
    network = load_network(content, 'test').eval()
    network.fold_batch_norm()
    network.to(DEVICE)
    options = SegmenterOptions(
        device=str(DEVICE), backend='torch_eager', precision='fp32', input_size=SIZE
    )
    ends = TritonEnds(content, DEVICE) if triton else TorchEnds(content)
    backend = DeviceBackend(network.scores, content, options, ends)
    return Segmenter(content, device=DEVICE.type, backend=lambda: backend, **settings)


def backend_of(segmenter: Segmenter) -> DeviceBackend:
    backend = segmenter._backend
    assert isinstance(backend, DeviceBackend)
    return backend


def plain(content: Checkpoint, **settings: Any) -> Segmenter:
    return Segmenter(
        content, device='cpu', backend='torch_eager', precision='fp32', **settings
    )


def fraction_near(found: np.ndarray, expected: np.ndarray, levels: int) -> float:
    assert found.shape == expected.shape
    return float((np.abs(found.astype(int) - expected) <= levels).mean())


@pytest.mark.parametrize('triton', [True, False])
@pytest.mark.parametrize(
    'sizes',
    [
        {}, {'output_size': (50, 70)},
        {'crop': (0.25, 0.25, 0.0, 0.25), 'input_size': SIZE, 'output_size': (50, 70)},
    ],
)
def test_results_are_those_of_eager(
    content: Checkpoint, sizes: dict[str, Any], triton: bool
) -> None:
    ours = build(content, triton, **sizes)
    reference = plain(content, **sizes)
    for segmenter in (ours, reference):
        segmenter.overlay_alpha = 0.3
        segmenter.min_confidence = 0.3
        segmenter.show_classes(['road', 'sky'])
    first = make_frame(128, 128) if 'crop' in sizes else make_frame(64, 96)
    batch = [first, make_frame(97, 65, 'bgr'), make_frame(48, 40)]
    expected = reference.segment(batch, color=True)
    found = ours.segment(batch, color=True)
    for name in ('labels', 'confidence', 'overlay', 'color'):
        ours_of_all, theirs_of_all = getattr(found, name), getattr(expected, name)
        assert len(ours_of_all) == 3
        # What is seen of the first frame is not resized. OpenCV rounds some bytes of the others
        # another way.
        if 'output_size' not in sizes or name != 'overlay':
            assert fraction_near(ours_of_all[0], theirs_of_all[0], 1) > 0.999
        for one, other in zip(ours_of_all, theirs_of_all, strict=True):
            assert fraction_near(one, other, 16 if name == 'confidence' else 2) > 0.97
    difference = np.abs(ours.last_logits()[0] - reference.last_logits()[0])
    assert difference.max() < 1e-3 * np.ptp(reference.last_logits()[0])


def test_the_style_changes_between_batches(content: Checkpoint) -> None:
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


def test_parts_are_timed(content: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, 'REPLAYS', 2)
    times = build(content).time_on_device([make_frame(*SIZE)], 2)
    assert set(times) == {'frame without copies', 'network'}
    assert [len(values) for values in times.values()] == [2, 2]


def test_there_is_one_graph_for_each_batch_size(
    content: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Counted(cuda_graph._Batch):

        def __init__(self, network: Any, images: Tensor, stream: Any) -> None:
            made.append(len(images))
            super().__init__(network, images, stream)

    monkeypatch.setattr(cuda_graph, '_Batch', Counted)
    segmenter = build(content)
    front, rear = make_frame(48, 64), make_frame(50, 40, 'bgr')
    for batch in ([front], [rear], [front, rear], [rear, front], [rear], [front]) * 2:
        labels = segmenter.segment(batch, confidence=False, overlay=False).labels
        assert [one.shape for one in labels] == [frame.pixels.shape[:2] for frame in batch]
    assert made == [1, 2]


def test_memory_is_kept_for_cameras_of_two_sizes(content: Checkpoint) -> None:
    segmenter = build(content)
    frames = [make_frame(48, 64), make_frame(50, 40)]

    def addresses() -> list[int]:
        found = []
        for frame in frames:
            labels = segmenter.segment([frame], confidence=False, overlay=False).labels[0]
            place = backend_of(segmenter)._places[0]
            found += [labels.ctypes.data, place.frame.data_ptr()]
        return found

    first = addresses()
    assert len(set(first)) == 4
    assert addresses() == first


def test_padded_rows_are_taken_as_they_are(content: Checkpoint) -> None:
    segmenter = build(content)
    wide = make_frame(40, 64)
    frame = Frame(wide.pixels[:, :48], 'rgb')
    found = segmenter.segment([frame]).labels[0].copy()
    copied = Frame(np.ascontiguousarray(frame.pixels), 'rgb')
    np.testing.assert_array_equal(found, segmenter.segment([copied]).labels[0])


def test_every_step_runs_on_the_device_and_the_stream(
    content: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A flag stands for the current device.
    segmenter = build(content)
    backend = backend_of(segmenter)
    inside = []

    @contextlib.contextmanager
    def on_device() -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    def checked(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            assert inside
            return step(*arguments)
        return run

    monkeypatch.setattr(backend, '_on_device', on_device)
    for owner, name in (
        (backend, '_network'), (backend._ends, 'prepare'), (backend._ends, 'finish'),
        (backend._style, 'upload'), (cuda_graph._Place, 'upload'),
    ):
        monkeypatch.setattr(owner, name, checked(getattr(owner, name)))
    for batch in ([make_frame(*SIZE)], [make_frame(*SIZE)] * 2):
        segmenter.segment(batch)
    segmenter.time_on_device([make_frame(*SIZE)], 1)


class NoWaiting(TorchDispatchMode):
    """Refuses what would wait for a device, and counts the operations that become kernels."""

    VIEWS = {'view', 'slice', 'select', 'permute', 'split', 'unsqueeze', 'detach', 'expand', 't',
             '_unsafe_view', 'alias', 'transpose', 'as_strided', 'unbind', '_reshape_alias',
             'empty', 'empty_like', 'empty_strided'}

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ('_local_scalar_dense', 'nonzero', 'item', '_to_copy'), name
        if name not in self.VIEWS:
            self.kernels.append(name)
        return func(*args, **(kwargs or {}))


def cudnn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Mock cuDNN's fused operations, which the CPU lacks; returns what they were called with."""
    seen = []

    @torch.library.custom_op('lednet_test::conv_relu', mutates_args=())
    def conv_relu(
        x: Tensor, weight: Tensor, added: Tensor | None, bias: Tensor | None, stride: list[int],
        padding: list[int], dilation: list[int], groups: int,
    ) -> Tensor:
        out = functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
        return functional.relu(out if added is None else out + added)

    def fused(
        x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
    ) -> Tensor:
        seen.append(x)
        return conv_relu(
            x, weight, None, bias, list(stride), list(padding), list(dilation), groups
        )

    def fused_add(
        x: Tensor, weight: Tensor, added: Tensor, alpha: float, bias: Any, stride: Any,
        padding: Any, dilation: Any, groups: int,
    ) -> Tensor:
        assert alpha == 1.0
        seen.extend((x, added))
        return conv_relu(
            x, weight, added, bias, list(stride), list(padding), list(dilation), groups
        )

    monkeypatch.setattr(torch, 'cudnn_convolution_relu', fused)
    monkeypatch.setattr(torch, 'cudnn_convolution_add_relu', fused_add)
    return seen


@torch.inference_mode()
@pytest.mark.parametrize(
    'name', ['lednet', 'shufflenet_v2_deeplab', 'shufflenet_v2_dpc']
)
def test_networks_of_fused_operations_are_the_same_and_stay_channels_last(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = cudnn(monkeypatch)
    shipped = load_checkpoint(name)
    image = torch.randn((1, 3, *SIZE), generator=torch.Generator().manual_seed(0))
    image = image.contiguous(memory_format=torch.channels_last)
    expected = load_network(shipped, 'test').eval().scores(image)
    network = load_network(shipped, 'test').eval()
    network.fold_batch_norm()
    fused = use_cudnn(network)
    fused.to(memory_format=torch.channels_last)
    with NoWaiting() as mode:
        found = fused.scores(image)
    assert (found - expected).abs().max() < 1e-4 * (expected.max() - expected.min())
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    if name == 'lednet':
        # 414 operations in plain PyTorch.
        assert len(mode.kernels) <= 200, mode.kernels


@pytest.mark.parametrize(
    ('backend', 'precision', 'message'),
    [('triton', 'fp32', "precision is 'fp32'; allowed with backend 'triton'")],
)
def test_what_the_kernels_cannot_do_is_refused(
    backend: str, precision: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    options = SegmenterOptions(device='cuda:0', backend=backend, precision=precision)
    with pytest.raises(ConfigurationError, match=message):
        options.resolve()


def test_networks_without_kernels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = load_checkpoint('shufflenet_v2_dpc')
    options = SegmenterOptions(
        device='cpu', backend='triton', precision='fp16', input_size=SIZE
    )
    with pytest.raises(ConfigurationError, match='no kernels for ShuffleNetV2'):
        make_device_backend(load_network(shipped, 'test'), shipped, options)


# --- CUDA -----------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize('backend', ['torch_eager', 'cuda_graph', 'triton'])
@pytest.mark.parametrize('precision', ['fp16', 'bf16'])
def test_labels_of_clear_pixels_are_those_of_fp32(
    content: Checkpoint, backend: str, precision: str
) -> None:
    segmenter = Segmenter(content, device='cuda', backend=backend, precision=precision)
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
@pytest.mark.parametrize('backend', ['cuda_graph', 'triton'])
def test_nothing_is_allocated_and_nothing_synchronizes_by_itself(
    content: Checkpoint, backend: str
) -> None:
    segmenter = Segmenter(content, device='cuda', backend=backend, precision='fp16')
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
