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

"""`lednet tune`: the fastest right way on this machine, ahead of deployment."""

import argparse

from lednet_ros.cli.parsing import (
    add_json_option,
    add_segmenter_options,
    claim_outputs,
    read_segmenter_options,
    Subparsers,
    write_results,
)


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        'tune',
        help='measure what runs a network fastest here',
        description='Build, compare and time all ways to run a network on this machine, and keep '
        'the verdict for `backend: auto`, which would do the same at its first start.',
    )
    add_segmenter_options(parser)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the candidates, the fastest first."""
    from dataclasses import asdict

    from lednet_ros.checkpoint import load_checkpoint
    from lednet_ros.cli.tables import make_console, print_rows
    from lednet_ros.inference.tuning import tune

    claim_outputs(options, options.json, inputs=[options.checkpoint, options.label_map])
    checkpoint = load_checkpoint(options.checkpoint, options.label_map)
    segmenter_options = read_segmenter_options(options).for_input(checkpoint.input_size)
    size = segmenter_options.input_size
    assert size is not None
    verdict = tune(checkpoint, segmenter_options)
    rows = [
        {**asdict(row), 'default': row is verdict.rows[0] and not row.failure}
        for row in verdict.rows
    ]
    title = f'{checkpoint.network} {size[0]}x{size[1]} on {verdict.device}'
    caption = 'milliseconds of a frame of that size to labels and overlay'
    write_results(
        options,
        {'network': checkpoint.network, 'input_size': list(size), 'device': verdict.device,
         'rows': rows},
        lambda: print_rows(make_console(), rows, title, caption),
    )
    return 0 if any(row['default'] for row in rows) else 1
