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

"""Frames to labels and overlays in one process, against what one would use otherwise."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import cv2
from lednet_ros.benchmark.baselines import EagerModule, OnnxRuntime, Pipeline, Pixels, preprocess
from lednet_ros.benchmark.measure import describe_machine, summarize, time_in_turns
from lednet_ros.benchmark.workload import draw_frames, FRAMES, make_checkpoint
from lednet_ros.checkpoint import Checkpoint
from lednet_ros.inference.backends.base import ConfigurationError, Outputs, Wanted
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.postprocess import blend, classify_on_host
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.models import load_network
import numpy as np
from numpy.typing import NDArray
import torch
from torch.nn import functional
from tqdm import tqdm

BASELINE = 'eager fp32'
# A pixel is clear where its two best scores differ by more than this, in eager fp32.
MARGIN = {'fp32': 1e-2, 'fp16': 1e-2, 'bf16': 2e-1, 'int8': 5e-1}
# Fraction of clear pixels that must get eager's label for a configuration to be correct.
AGREEMENT = 0.999


@dataclass(frozen=True)
class Configuration:
    """
    One way to run the network.

    Attributes
    ----------
    name
        For the table.
    make
        Builds it; called once.
    precision
        Of its arithmetic.
    label_size
        Whether its labels are found at the size of the frame or of the network's input.

    """

    name: str
    make: Callable[[], Pipeline]
    precision: str = 'fp32'
    label_size: str = 'frame'


class SegmenterPipeline:
    """The package's own way."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter

    def __call__(self, frame: Pixels) -> tuple[Pixels, Pixels]:
        """Segment a frame; return labels and overlay."""
        result = self.segmenter.segment([Frame(frame, 'bgr')], confidence=False)
        assert result.overlay is not None
        return result.labels[0], result.overlay[0]


class EagerStep(EagerModule):
    """Eager fp32 with some of the package's techniques, to see what each gives."""

    def __init__(
        self, checkpoint: Checkpoint, *, folded: bool, channels_last: bool
    ) -> None:
        super().__init__(checkpoint, 'cpu')
        if folded:
            self.network.fold_batch_norm()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.visible = np.full(256, 255, np.uint8)

    @torch.inference_mode()
    def __call__(self, frame: Pixels) -> tuple[Pixels, Pixels]:
        """Segment a frame; return labels and overlay."""
        image = preprocess(frame, self.checkpoint).contiguous(memory_format=self.layout)
        scores = self.network.scores(image)[0].permute(1, 2, 0).contiguous().numpy()
        labels = np.empty(frame.shape[:2], np.uint8)
        overlay = np.empty_like(frame)
        classify_on_host(scores, 0.0, labels, None)
        blend(frame, labels, self.palette, 0.5, self.visible, overlay)
        return labels, overlay


def run_pipeline(
    checkpoint: str,
    classes: int | None,
    input_size: tuple[int, int],
    frame_size: tuple[int, int],
    device: str,
    rounds: int,
    threads: int,
) -> dict[str, Any]:
    """
    Measure all ways that can run here, in turns.

    Parameters
    ----------
    checkpoint, classes, input_size
        See `make_checkpoint`.
    frame_size
        Height and width of frames and results.
    device
        'cpu', 'cuda' or 'auto'.
    rounds
        How often each is timed.
    threads
        CPU threads; 0 takes one for each core that may be used.

    Returns
    -------
    dict
        `rows`, the fastest correct configuration first, and what they were measured on. Each row
        has `name`, `median_ms`, `p5_ms`, `p95_ms`, `ratio_to_eager`, `precision`, `correct` and
        `agreement`, the fraction of the clear pixels that have the label of eager fp32. On a GPU
        also `device_rows`, see `time_on_device`.

    """
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if threads:
        torch.set_num_threads(threads)
    threads = torch.get_num_threads()
    content = make_checkpoint(checkpoint, classes, input_size)
    frames = draw_frames(frame_size, FRAMES)
    configurations = list_configurations(content, device, threads)
    pipelines: dict[str, Pipeline] = {}
    not_measured: dict[str, str] = {}
    for one in tqdm(configurations, 'prepare', leave=False, unit='configuration'):
        try:
            pipelines[one.name] = one.make()
        except (ImportError, ConfigurationError) as error:
            not_measured[one.name] = str(error)
    judge = _Judge(content, frames)
    quality = {}
    for one in configurations:
        if one.name not in pipelines:
            continue
        try:
            quality[one.name] = judge.agreement(pipelines[one.name], one)
        except Exception as error:
            if one.name == BASELINE:
                raise
            # What a driver or a compiler can't do is a result, too; the others continue.
            not_measured[one.name] = f'{type(error).__name__}: {error}'
            del pipelines[one.name]
    times = time_in_turns(
        {
            name: lambda number, pipeline=pipeline: pipeline(frames[number % FRAMES])
            for name, pipeline in pipelines.items()
        },
        rounds,
    )
    eager = float(np.median(times[BASELINE]))
    rows = [
        {
            'name': one.name,
            **summarize(times[one.name]),
            'ratio_to_eager': round(eager / float(np.median(times[one.name])), 2),
            'precision': one.precision,
            'correct': quality[one.name] >= AGREEMENT,
            'agreement': round(quality[one.name], 5),
        }
        for one in configurations
        if one.name in pipelines
    ]
    rows.sort(key=lambda row: (not row['correct'], row['median_ms']))
    results = {
        'benchmark': 'pipeline',
        'network': content.network,
        'classes': content.label_map.num_classes,
        'input_size': list(input_size),
        'frame_size': list(frame_size),
        'outputs': ['labels', 'overlay'],
        'device': device,
        'rounds': rounds,
        'machine': describe_machine(),
        'rows': rows,
        'not_measured': not_measured,
    }
    if device == 'cuda':
        results['device_rows'], missing = time_on_device(content, frames[0], rounds)
        not_measured.update(missing)
    return results


def list_configurations(
    checkpoint: Checkpoint, device: str, threads: int
) -> list[Configuration]:
    """
    List the ways to run a network on a device, the plain ones first.

    Parameters
    ----------
    checkpoint
        The network.
    device
        'cpu' or 'cuda'.
    threads
        CPU threads.

    """
    def ours(backend: str, precision: str) -> Callable[[], Pipeline]:
        return lambda: SegmenterPipeline(
            Segmenter(
                checkpoint,
                device=device,
                backend=backend,
                precision=precision,
                num_threads=threads,
            )
        )

    def step(folded: bool, channels_last: bool) -> Callable[[], Pipeline]:
        return lambda: EagerStep(checkpoint, folded=folded, channels_last=channels_last)

    found = [
        Configuration(BASELINE, lambda: EagerModule(checkpoint, device), label_size='input'),
        Configuration(
            'eager fp32, scores at frame size',
            lambda: EagerModule(checkpoint, device, at_frame_size=True),
        ),
        Configuration(
            'eager fp32, NumPy overlay',
            lambda: EagerModule(checkpoint, device, numpy_overlay=True),
            label_size='input',
        ),
    ]
    if device == 'cpu':
        found += [
            Configuration(
                'ONNX Runtime fp32', lambda: OnnxRuntime(checkpoint, threads), label_size='input'
            ),
            Configuration('eager + labels from 1/8 scores', step(False, False)),
            Configuration('... + BatchNorm folded', step(True, False)),
            Configuration('... + channels-last', step(True, True)),
            Configuration('torch_eager fp32', ours('torch_eager', 'fp32')),
            Configuration('torch_eager bf16', ours('torch_eager', 'bf16'), 'bf16'),
        ]
        if find_spec('openvino') is not None:
            found.append(Configuration('openvino fp32', ours('openvino', 'fp32')))
            found.append(Configuration('openvino bf16', ours('openvino', 'bf16'), 'bf16'))
            if find_spec('nncf') is not None:
                found.append(Configuration('openvino int8', ours('openvino', 'int8'), 'int8'))
    else:
        found.append(Configuration('torch_eager fp32', ours('torch_eager', 'fp32')))
        found.append(Configuration('torch_eager fp16', ours('torch_eager', 'fp16'), 'fp16'))
        found.append(Configuration('cuda_graph fp16', ours('cuda_graph', 'fp16'), 'fp16'))
        found.append(Configuration('tensorrt fp16', ours('tensorrt', 'fp16'), 'fp16'))
        found.append(Configuration('tensorrt int8', ours('tensorrt', 'int8'), 'int8'))
    return found


def time_on_device(
    checkpoint: Checkpoint, frame: Pixels, rounds: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """
    Time what the GPU does for a frame, by its own clock, without copies to and from it.

    Parameters
    ----------
    checkpoint
        The network.
    frame
        (height, width, 3) uint8 BGR.
    rounds
        How often each part is timed.

    Returns
    -------
    rows : list of dict
        For eager fp32 with argmax, and for the graph and its network by CUDA graph and TensorRT:
        `name`, the figures of `summarize`, and `ratio_to_eager`.
    not_measured : dict
        What can't run here, with the reason.

    """
    from lednet_ros.inference.backends.cuda_graph import DeviceBackend, make_device_network

    device = torch.device('cuda')
    times = {BASELINE: EagerModule(checkpoint, 'cuda').time_on_device(rounds)}
    not_measured = {}
    for name in ('cuda_graph', 'tensorrt'):
        try:
            network, dtype = make_device_network(
                name, load_network(checkpoint, 'benchmark'), checkpoint, device, 'fp16', None
            )
        except ImportError as error:
            not_measured[f'{name} fp16 on the device'] = str(error)
            continue
        backend = DeviceBackend(network, checkpoint, device, dtype)
        parts = backend.time_on_device(
            [Frame(frame, 'bgr')],
            [Outputs(frame.shape[:2], pinned=True)],
            Wanted(confidence=False, overlay=True, color=False),
            rounds,
        )
        times |= {f'{name} fp16, {part}': values for part, values in parts.items()}
    eager = float(np.median(times[BASELINE]))
    rows = [
        {
            'name': name,
            **summarize(values),
            'ratio_to_eager': round(eager / float(np.median(values)), 2),
        }
        for name, values in times.items()
    ]
    return sorted(rows, key=lambda row: float(row['median_ms'])), not_measured


class _Judge:
    """Compares labels with those of eager fp32."""

    def __init__(self, checkpoint: Checkpoint, frames: list[Pixels]) -> None:
        self.frames = frames
        network = load_network(checkpoint, 'benchmark').eval()
        with torch.inference_mode():
            self.scores = [network.scores(preprocess(frame, checkpoint)) for frame in frames]
        self.input_size = checkpoint.input_size
        self._expected: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.float32]]]] = {}

    def agreement(self, pipeline: Pipeline, configuration: Configuration) -> float:
        """Compute the fraction of clear pixels with the correct label."""
        right = clear = 0
        expected = self._expect(configuration.label_size)
        for frame, (labels, margins) in zip(self.frames, expected, strict=True):
            is_clear = margins > MARGIN[configuration.precision]
            right += int(np.count_nonzero((pipeline(frame)[0] == labels) & is_clear))
            clear += int(np.count_nonzero(is_clear))
        return right / clear

    def _expect(
        self, label_size: str
    ) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Return the labels and margins of eager PyTorch at a size; computed once."""
        if label_size not in self._expected:
            self._expected[label_size] = [
                self._find(frame.shape[:2], scores, label_size)
                for frame, scores in zip(self.frames, self.scores, strict=True)
            ]
        return self._expected[label_size]

    def _find(
        self, size: tuple[int, ...], scores: torch.Tensor, label_size: str
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        height, width = size
        if label_size == 'frame':
            return _best(scores, (height, width))
        labels, margins = (
            cv2.resize(x, (width, height), interpolation=cv2.INTER_NEAREST)
            for x in _best(scores, self.input_size)
        )
        return np.asarray(labels, np.uint8), np.asarray(margins, np.float32)


def _best(
    scores: torch.Tensor, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Upsample scores; give the best class and its lead over the second."""
    full = functional.interpolate(scores, size, mode='bilinear', align_corners=True)[0]
    best = full.topk(2, dim=0)
    labels = best.indices[0].byte().numpy()
    return labels, (best.values[0] - best.values[1]).numpy()
