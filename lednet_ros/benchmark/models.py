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

"""All networks side by side: size, cost, accuracy and time with every backend that runs here."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lednet_ros.benchmark.measure import make_report, summarize, time_interleaved
from lednet_ros.benchmark.workload import draw_frames, EMULATED, FRAMES
from lednet_ros.checkpoint import Checkpoint, load_checkpoint, shipped_checkpoints
from lednet_ros.datasets import open_labeled
from lednet_ros.evaluation.dataset import evaluate
from lednet_ros.inference.backends.base import ConfigurationError
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import BACKENDS, is_emulated
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.models import build_network, NETWORKS
from lednet_ros.models.describe import describe_network
import torch
from tqdm import tqdm

# The sizes of the papers' tables.
COST_SIZES = ((512, 1024), (224, 224))
LABEL_MAP = 'camvid'
ACCURACY = 'val mIoU'
# The network that the others are compared with.
REFERENCE = 'lednet'


def run_models(
    input_size: tuple[int, int],
    frame_size: tuple[int, int],
    rounds: int,
    threads: int,
    data: Path | None,
    backends: Sequence[str] = tuple(BACKENDS),
) -> dict[str, Any]:
    """
    Measure all networks; their timing is interleaved.

    Parameters
    ----------
    input_size, frame_size
        Height and width of the networks' input, and of frames and labels.
    rounds
        Timed frames of each network and backend.
    threads
        CPU threads; 0 takes one for each core that may be used.
    data
        Folder of labeled frames, on whose split `val` the accuracy of shipped weights is measured
        at the size of their training; None leaves it out.
    backends
        Backends to time.

    Returns
    -------
    dict
        `rows`, one for each network: parameters, GFLOPs, mIoU in percent, and median milliseconds
        from a frame to its labels for each backend and precision; `ratios`, the same divided by
        those of `lednet`; `not_measured`.

    Raises
    ------
    ConfigurationError
        A backend is unknown.
    DatasetError
        The data can't be used.

    """
    unknown = [backend for backend in backends if backend not in BACKENDS]
    if unknown:
        raise ConfigurationError(
            f"backends are {', '.join(unknown)}; allowed: {', '.join(BACKENDS)}"
        )
    if threads:
        torch.set_num_threads(threads)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    frames = [Frame(pixels, 'bgr') for pixels in draw_frames(frame_size, FRAMES)]
    missing: dict[str, str] = {}
    if data is None:
        missing[ACCURACY] = 'no data given'
    functions: dict[tuple[str, str], Callable[[int], object]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in tqdm(NETWORKS, 'build', leave=False):
        checkpoint = load_checkpoint(name) if name in shipped_checkpoints() else _untrained(name)
        row = rows[name] = {'name': name}
        for size in COST_SIZES:
            found = describe_network(name, checkpoint.label_map.num_classes, size)
            row['parameters'] = found['parameters']
            row['GFLOPs {}x{}'.format(*size)] = round(found['gflops'], 3)
        if data is not None and name in shipped_checkpoints():
            labeled = open_labeled('folder', data, 'val', checkpoint.label_map)
            result = evaluate(Segmenter(checkpoint, num_threads=threads), labeled)
            row[ACCURACY] = round(100 * result.confusion.miou(), 2)
            if result.problems:
                missing[f'frames of {name}'] = '; '.join(result.problems)
        elif data is not None:
            missing[f'{ACCURACY} of {name}'] = 'no weights are shipped'
        for backend in backends:
            for precision in BACKENDS[backend].precisions:
                way = f'{backend} {precision}'
                if is_emulated(backend, precision, device):
                    missing[way] = EMULATED
                    continue
                try:
                    segmenter = Segmenter(
                        replace(checkpoint, input_size=input_size),
                        backend=backend,
                        device='auto',
                        precision=precision,
                        num_threads=threads,
                    )
                except ConfigurationError as error:
                    missing[way] = str(error)
                    continue
                functions[name, way] = partial(_segment, segmenter, frames)
    for (name, way), milliseconds in time_interleaved(functions, rounds).items():
        rows[name][f'{way} ms'] = summarize(milliseconds)['median_ms']
    table = list(rows.values())
    return make_report(
        'models',
        table,
        frame_size=list(frame_size),
        input_size=list(input_size),
        ratios=find_ratios(table),
        not_measured=missing,
    )


def find_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Divide the numbers of each network by those of the reference."""
    reference = next(row for row in rows if row['name'] == REFERENCE)
    return [
        {
            'name': row['name'],
            **{
                key: round(row[key] / value, 3)
                for key, value in reference.items()
                if isinstance(value, (int, float)) and isinstance(row.get(key), (int, float))
            },
        }
        for row in rows
    ]


def _untrained(name: str) -> Checkpoint:
    """Return a checkpoint of random weights, on which the times hardly depend."""
    label_map = LabelMap.load(LABEL_MAP)
    torch.manual_seed(0)
    network = build_network(name, label_map.num_classes)
    return Checkpoint(
        network=name,
        label_map=label_map,
        input_size=COST_SIZES[0],
        mean=network.MEAN,
        std=network.STD,
        state_dict=network.state_dict(),
        training={},
    )


def _segment(segmenter: Segmenter, frames: list[Frame], number: int) -> None:
    frame = frames[number % len(frames)]
    segmenter.segment([frame], confidence=False, overlay=False)
