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

"""`lednet demo`: the node on the synthetic street or on recorded frames."""

import argparse
from pathlib import Path

from lednet_ros.cli.parsing import (
    add_output_option,
    add_overwrite_option,
    add_topic_option,
    Renamed,
    Subparsers,
)


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        'demo', help='run the node on the synthetic street or on a recording (needs rclpy)'
    )
    parser.add_argument(
        'input', nargs='?', type=Path, help='rosbag2, video or folder of images; default: street'
    )
    parser.add_argument('--seconds', type=float, default=20.0, help='duration (default: 20)')
    add_output_option(
        parser,
        'folder of the results (default: demo_out)',
        default=Path('demo_out'),
        metavar='DIR',
    )
    parser.add_argument(
        '--checkpoint',
        default='lednet',
        help='file or name of a shipped checkpoint (default: lednet)',
    )
    add_overwrite_option(parser)
    add_topic_option(parser)
    parser.add_argument('--topic', action=Renamed, dest='image_topic', help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo."""
    from lednet_ros.live.demo import run_demo

    return run_demo(
        options.input, options.seconds, options.output, options.checkpoint, options.image_topic,
        options.overwrite,
    )
