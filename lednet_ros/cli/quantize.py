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

"""`lednet quantize`: what int8 needs, measured once and kept in the checkpoint."""

import argparse
from pathlib import Path

from lednet_ros.cli.parsing import (
    add_output_option,
    add_overwrite_option,
    add_topic_option,
    claim_outputs,
    report_lost,
    Subparsers,
)


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        'quantize',
        help='prepare a checkpoint for int8',
        description='Measure the ranges of activations, which int8 needs, and write them into a '
        'copy of the checkpoint. Shipped checkpoints have them.',
    )
    parser.add_argument('checkpoint', help='file or name of a shipped checkpoint')
    add_output_option(parser, 'the checkpoint with the ranges', required=True, metavar='FILE')
    parser.add_argument(
        '--images',
        type=Path,
        metavar='PATH',
        help='bag, video or folder with frames of the camera (default: synthetic streets)',
    )
    add_overwrite_option(parser)
    add_topic_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the checkpoint."""
    from lednet_ros.checkpoint import load_checkpoint, save_checkpoint
    from lednet_ros.inference.backends.calibration import (
        CALIBRATION_FRAMES,
        draw_streets,
        quantize_checkpoint,
        sample_evenly,
    )
    from lednet_ros.recordings.sources import read_frames
    from tqdm import tqdm

    claim_outputs(options, options.output, inputs=[options.checkpoint, options.images])
    checkpoint = load_checkpoint(options.checkpoint)
    problems: list[str] = []
    if options.images is None:
        frames = list(draw_streets(checkpoint.input_size))
    else:
        recorded = read_frames(options.images, options.image_topic, problems)
        frames = sample_evenly(
            (one.frame for one in tqdm(recorded, 'frames', unit='frame')), CALIBRATION_FRAMES
        )
    quantized = quantize_checkpoint(checkpoint, frames)
    save_checkpoint(quantized, options.output)
    print(f'{options.output}: ranges of {len(quantized.activation_ranges)} convolutions')
    return report_lost(problems)
