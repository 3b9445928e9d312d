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

"""All networks side by side: size, cost, accuracy and time in every backend that runs here."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from lednet_ros.benchmark.measure import describe_machine, summarize, time_in_turns
from lednet_ros.benchmark.workload import draw_frames, FRAMES
from lednet_ros.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from lednet_ros.inference.backend import ConfigurationError
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.segmenter import BACKENDS, Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.models import build_network, NETWORKS
from lednet_ros.models.describe import describe_network
import torch
from tqdm import tqdm

# The sizes of the papers' tables.
COST_SIZES = ((512, 1024), (224, 224))
LABEL_MAP = 'camvid'
# What the other networks are compared with.
REFERENCE = 'lednet'


def run_models(input_size: tuple[int, int], rounds: int, threads: int) -> dict[str, Any]:
    """
    Measure all networks, in turns.

    Parameters
    ----------
    input_size
        Height and width of frames, labels and the networks' input.
    rounds
        How often each is timed.
    threads
        CPU threads; 0 takes one for each core that may be used.

    Returns
    -------
    dict
        `rows`, one for each network: parameters, GFLOPs, mIoU of the shipped weights on CamVid's
        val clip, and median milliseconds from a frame to its labels for each backend and
        precision; `ratios`, the same divided by those of `lednet`; `not_measured`.

    """
    if threads:
        torch.set_num_threads(threads)
    frames = [Frame(pixels, 'bgr') for pixels in draw_frames(input_size, FRAMES)]
    missing: dict[str, str] = {}
    functions: dict[tuple[str, str], Callable[[int], object]] = {}
    rows = []
    for name in tqdm(NETWORKS, 'build', leave=False):
        checkpoint = _checkpoint(name)
        rows.append(_describe(name, checkpoint))
        for backend, precisions in BACKENDS.items():
            for precision in precisions:
                way = f'{backend} {precision}'
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
    named = {f'{name}: {way}': function for (name, way), function in functions.items()}
    times = time_in_turns(named, rounds)
    for row in rows:
        for name, way in functions:
            if name == row['name']:
                row[f'{way} ms'] = summarize(times[f'{name}: {way}'])['median_ms']
    return {
        'benchmark': 'models',
        'input_size': list(input_size),
        'machine': describe_machine(),
        'rows': rows,
        'ratios': find_ratios(rows),
        'not_measured': missing,
    }


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


def _checkpoint(name: str) -> Checkpoint:
    """Load shipped weights; fresh ones where there are none, as time hardly depends on them."""
    try:
        return load_checkpoint(name)
    except CheckpointError:
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


def _describe(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    classes = checkpoint.label_map.num_classes
    row: dict[str, Any] = {'name': name}
    for size in COST_SIZES:
        found = describe_network(name, classes, size)
        row['parameters'] = found['parameters']
        row['GFLOPs {}x{}'.format(*size)] = round(found['gflops'], 3)
    figures = checkpoint.metrics.get('val', {})
    row['val mIoU'] = round(figures['miou'], 4) if 'miou' in figures else ''
    return row


def _segment(segmenter: Segmenter, frames: list[Frame], number: int) -> None:
    frame = frames[number % len(frames)]
    segmenter.segment([frame], confidence=False, overlay=False)
