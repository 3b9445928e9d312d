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

"""Frames to labels and overlays in one process, compared with the alternatives."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lednet_ros.benchmark.baselines import (
    EagerModule,
    OnnxRuntime,
    Pipeline,
    Pixels,
    preprocess,
    resize_nearest,
)
from lednet_ros.benchmark.measure import compare, make_report, time_interleaved
from lednet_ros.benchmark.workload import draw_frames, EMULATED, FRAMES, make_checkpoint
from lednet_ros.checkpoint import Checkpoint
from lednet_ros.inference.backends.base import ConfigurationError, Style
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import is_emulated
from lednet_ros.inference.postprocess import blend, classify_on_host
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.machine import usable_cores
from lednet_ros.models import load_network
import numpy as np
from numpy.typing import NDArray
import torch
from torch.nn import functional
from tqdm import tqdm

BASELINE = 'eager fp32'
# A pixel is clear where its two highest logits differ by more than this, in eager fp32.
MARGIN = {'fp32': 1e-2, 'fp16': 1e-2, 'bf16': 2e-1, 'int8': 5e-1}
# Fraction of clear pixels that must get eager's label for a configuration to be correct.
AGREEMENT = 0.999
# Backends and precisions of the package that are measured, by device.
VARIANTS = {
    'cpu': (
        ('torch_eager', 'fp32'), ('torch_eager', 'bf16'), ('openvino', 'fp32'),
        ('openvino', 'bf16'), ('openvino', 'int8'),
    ),
    'cuda': (
        ('torch_eager', 'fp32'), ('torch_eager', 'fp16'), ('cuda_graph', 'fp16'),
        ('triton', 'fp16'), ('tensorrt', 'fp16'), ('tensorrt', 'int8'),
    ),
}


@dataclass(frozen=True)
class Configuration:
    """
    A way to run the network.

    Attributes
    ----------
    name
        For the table.
    make
        Builds it; called once.
    precision
        Precision of its arithmetic.
    label_size
        Size at which its labels are found: 'frame' or 'input' (of the network).
    is_emulated
        Whether this machine doesn't have that precision, which is then not measured.

    """

    name: str
    make: Callable[[], Pipeline]
    precision: str = 'fp32'
    label_size: str = 'frame'
    is_emulated: bool = False


class EagerStep(EagerModule):
    """Eager fp32 with some of the package's techniques, to see what each contributes."""

    def __init__(self, checkpoint: Checkpoint, *, folded: bool, channels_last: bool) -> None:
        super().__init__(checkpoint, 'cpu')
        if folded:
            self.network.fold_batch_norm()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network.to(memory_format=self.layout)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, frame: Pixels) -> tuple[Pixels, Pixels]:
        """Segment a frame; return labels and overlay."""
        image = preprocess(frame, self.checkpoint).contiguous(memory_format=self.layout)
        logits = self.network.scores(image)[0].permute(1, 2, 0).contiguous().numpy()
        labels = np.empty(frame.shape[:2], np.uint8)
        overlay = np.empty_like(frame)
        classify_on_host(logits, Style(), labels, None)
        blend(frame, labels, self.palette, 0.5, np.full(256, 255, np.uint8), overlay)
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
    Measure all configurations that can run here, interleaved.

    Parameters
    ----------
    checkpoint, classes, input_size
        See `make_checkpoint`.
    frame_size
        Height and width of frames and results.
    device
        'cpu', 'cuda' or 'auto'.
    rounds
        Timed frames of each.
    threads
        CPU threads; 0 takes one for each core that may be used.

    Returns
    -------
    dict
        `rows`, the fastest correct configuration first, and what they were measured on. Each row
        has `name`, `median_ms`, `p5_ms`, `p95_ms`, `ratio_to_eager`, `precision`, `correct`,
        `agreement`, the fraction of the clear pixels that have the label of eager fp32, and
        `default`, true for what `backend: auto` takes. On a GPU also `device_rows`, see
        `time_on_device`.

    """
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    threads = threads or min(torch.get_num_threads(), usable_cores())
    torch.set_num_threads(threads)
    content = make_checkpoint(checkpoint, classes, input_size)
    frames = draw_frames(frame_size, FRAMES)
    configurations = list_configurations(content, device, threads)
    pipelines: dict[str, Pipeline] = {}
    quality: dict[str, dict[str, Any]] = {}
    not_measured: dict[str, str] = {}
    judge = _Judge(content, frames)
    for one in tqdm(configurations, 'prepare', leave=False, unit='configuration'):
        if one.is_emulated:
            not_measured[one.name] = EMULATED
            continue
        try:
            pipeline = one.make()
            agreement = judge.agreement(pipeline, one)
        except (ImportError, ConfigurationError) as error:
            not_measured[one.name] = str(error)
        except Exception as error:
            if one.name == BASELINE:
                raise
            # A failure of a driver or a compiler is a result, too; the others continue.
            not_measured[one.name] = f'{type(error).__name__}: {error}'
        else:
            pipelines[one.name] = pipeline
            quality[one.name] = {
                'precision': one.precision,
                'correct': agreement >= AGREEMENT,
                'agreement': round(agreement, 5),
            }
    times = time_interleaved(
        {
            name: lambda number, pipeline=pipeline: pipeline(frames[number % FRAMES])
            for name, pipeline in pipelines.items()
        },
        rounds,
    )
    chosen = Segmenter(content, device=device, num_threads=threads)
    default = f'{chosen.backend} {chosen.precision}'
    rows = [
        row | quality[row['name']] | {'default': row['name'] == default}
        for row in compare(times, BASELINE, 'ratio_to_eager')
    ]
    device_rows = {}
    if device == 'cuda':
        device_rows['device_rows'], missing = time_on_device(content, frames[0], rounds)
        not_measured |= missing
    setup = {
        'network': content.network,
        'classes': content.label_map.num_classes,
        'input_size': list(input_size),
        'frame_size': list(frame_size),
        'outputs': ['labels', 'overlay'],
        'device': device,
        'rounds': rounds,
    }
    rows.sort(key=lambda row: not row['correct'])
    return make_report('pipeline', rows, **setup, not_measured=not_measured, **device_rows)


def list_configurations(checkpoint: Checkpoint, device: str, threads: int) -> list[Configuration]:
    """
    List the configurations for a device, the plain ones first.

    Parameters
    ----------
    checkpoint
        The network.
    device
        'cpu' or 'cuda'.
    threads
        CPU threads.

    """
    def package(backend: str, precision: str) -> Configuration:
        options = {'backend': backend, 'precision': precision, 'num_threads': threads}

        def make() -> Pipeline:
            return partial(_segment, Segmenter(checkpoint, device=device, **options))

        emulated = is_emulated(backend, precision, device)
        return Configuration(f'{backend} {precision}', make, precision, is_emulated=emulated)

    eager = partial(EagerModule, checkpoint, device)
    found = [
        Configuration(BASELINE, eager, label_size='input'),
        Configuration('eager fp32, scores at frame size', partial(eager, at_frame_size=True)),
        Configuration(
            'eager fp32, NumPy overlay', partial(eager, numpy_overlay=True), label_size='input'
        ),
    ]
    if device == 'cpu':
        onnx = partial(OnnxRuntime, checkpoint, threads)
        found.append(Configuration('ONNX Runtime fp32', onnx, label_size='input'))
        for name, folded, channels_last in (
            ('eager + labels from 1/8 scores', False, False),
            ('... + BatchNorm folded', True, False),
            ('... + channels-last', True, True),
        ):
            step = partial(EagerStep, checkpoint, folded=folded, channels_last=channels_last)
            found.append(Configuration(name, step))
    return found + [package(*variant) for variant in VARIANTS[device]]


def _segment(segmenter: Segmenter, frame: Pixels) -> tuple[Pixels, Pixels]:
    result = segmenter.segment([Frame(frame, 'bgr')], confidence=False)
    assert result.overlay is not None
    return result.labels[0], result.overlay[0]


def time_on_device(
    checkpoint: Checkpoint, frame: Pixels, rounds: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """
    Time the GPU's work for a frame with CUDA events, without copies to and from it.

    Parameters
    ----------
    checkpoint
        The network.
    frame
        (height, width, 3) uint8 BGR.
    rounds
        Timed runs of each part.

    Returns
    -------
    rows : list of dict
        See `compare`: eager fp32 with argmax, and the graph and its network by CUDA graph and
        TensorRT.
    not_measured : dict
        What can't run here, with the reason.

    """
    times = {BASELINE: EagerModule(checkpoint, 'cuda').time_on_device(rounds)}
    not_measured = {}
    for name in ('cuda_graph', 'triton', 'tensorrt'):
        try:
            segmenter = Segmenter(checkpoint, device='cuda', backend=name, precision='fp16')
            parts = segmenter.time_on_device([Frame(frame, 'bgr')], rounds)
        except Exception as error:
            not_measured[f'{name} fp16 on the device'] = f'{type(error).__name__}: {error}'
            continue
        times |= {f'{name} fp16, {part}': values for part, values in parts.items()}
    return compare(times, BASELINE, 'ratio_to_eager'), not_measured


class _Judge:
    """Compares labels with those of eager fp32."""

    def __init__(self, checkpoint: Checkpoint, frames: list[Pixels]) -> None:
        self.frames = frames
        # Labels and margins of each frame, by `Configuration.label_size`.
        self.expected: dict[str, list[tuple[Pixels, NDArray[np.float32]]]] = {
            'frame': [], 'input': []
        }
        network = load_network(checkpoint, 'benchmark').eval()
        for frame in frames:
            with torch.inference_mode():
                logits = network.scores(preprocess(frame, checkpoint))
            size = frame.shape[:2]
            self.expected['frame'].append(_best(logits, size))
            labels, margins = _best(logits, checkpoint.input_size)
            resized = resize_nearest(labels, size), resize_nearest(margins, size)
            self.expected['input'].append(resized)

    def agreement(self, pipeline: Pipeline, configuration: Configuration) -> float:
        """Compute the fraction of clear pixels with the correct label."""
        right = clear = 0
        expected = self.expected[configuration.label_size]
        for frame, (labels, margins) in zip(self.frames, expected, strict=True):
            is_clear = margins > MARGIN[configuration.precision]
            right += int(np.count_nonzero((pipeline(frame)[0] == labels) & is_clear))
            clear += int(np.count_nonzero(is_clear))
        return right / clear


def _best(logits: torch.Tensor, size: tuple[int, ...]) -> tuple[Pixels, NDArray[np.float32]]:
    """Upsample logits; return the best class and its margin over the second."""
    full = functional.interpolate(logits, size, mode='bilinear', align_corners=True)[0]
    best = full.topk(2, dim=0)
    return best.indices[0].byte().numpy(), (best.values[0] - best.values[1]).numpy()
