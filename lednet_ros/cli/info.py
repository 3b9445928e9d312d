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

"""`lednet info`: description of a checkpoint or a network."""

import argparse
from collections.abc import Mapping

from lednet_ros.cli.parsing import add_json_option, claim_outputs, Subparsers, write_results


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser('info', help='describe a checkpoint or a network')
    parser.add_argument(
        'checkpoint', nargs='?', help='file or name of a shipped checkpoint (default: lednet)'
    )
    parser.add_argument('--network', help='describe this network without weights')
    parser.add_argument(
        '--classes', type=int, metavar='K', help='outputs of --network (default: 20)'
    )
    parser.add_argument(
        '--input-size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        default=(512, 1024),
        help='size of the input that the GFLOPs are for (default: 512 1024)',
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the description."""
    from lednet_ros.models.describe import describe_checkpoint, describe_network

    claim_outputs(options, options.json, inputs=[options.checkpoint])
    size = tuple(options.input_size)
    if options.network is None:
        if options.classes is not None:
            raise ValueError('--classes goes with --network')
        description = describe_checkpoint(options.checkpoint or 'lednet', size)
    elif options.checkpoint is not None:
        raise ValueError('name a checkpoint or --network, not both')
    else:
        classes = 20 if options.classes is None else options.classes
        description = describe_network(options.network, classes, size)
    write_results(options, description, lambda: _print(description))
    return 0


def _print(description: Mapping[str, object]) -> None:
    from lednet_ros.cli.tables import make_console, print_rows

    rows = [
        {'property': key, 'value': _readable(value).lstrip('\n')}
        for key, value in description.items()
    ]
    print_rows(make_console(), rows)


def _readable(value: object) -> str:
    if isinstance(value, list):
        return ', '.join(map(str, value))
    if isinstance(value, dict):
        return ''.join(
            f'\n{key}: {_readable(item)}'.replace('\n', '\n  ') for key, item in value.items()
        )
    if isinstance(value, float):
        return f'{value:.4g}'
    return f'{value:,}' if isinstance(value, int) else str(value)
