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

"""`lednet export`: networks for other runtimes."""

import argparse

from lednet_ros.cli.parsing import (
    add_output_option,
    add_overwrite_option,
    claim_outputs,
    Subparsers,
)


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    text = 'write a network as a file for another runtime'
    parser = subparsers.add_parser('export', help=text, description=text)
    parser.add_argument(
        'checkpoint', nargs='?', default='lednet', help='file or shipped name (default: lednet)'
    )
    add_output_option(parser, 'the file', required=True, metavar='FILE')
    add_overwrite_option(parser)
    parser.add_argument(
        '--format',
        choices=('onnx', 'openvino', 'litert'),
        default='onnx',
        help='.onnx, .xml with .bin, or .tflite (default: onnx)',
    )
    parser.add_argument(
        '--result',
        choices=('labels', 'scores'),
        default='labels',
        help="class ids at the input's size, or the network's logits (default: labels)",
    )
    parser.add_argument(
        '--input-size', type=int, nargs=2, metavar=('H', 'W'), help="default: the checkpoint's"
    )
    parser.add_argument('--batch-size', type=int, default=1, help='default: 1')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the file."""
    from lednet_ros.checkpoint import load_checkpoint
    from lednet_ros.inference.export import export_network

    # OpenVINO's weights are beside the graph.
    files = [options.output]
    if options.format == 'openvino':
        files.append(options.output.with_suffix('.bin'))
    claim_outputs(options, *files, inputs=[options.checkpoint])
    export_network(
        load_checkpoint(options.checkpoint),
        options.checkpoint,
        options.output,
        options.format,
        input_size=tuple(options.input_size) if options.input_size else None,
        output=options.result,
        batch_size=options.batch_size,
    )
    print(f'{options.output}: {sum(file.stat().st_size for file in files) / 1e6:.1f} MB')
    return 0
