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

"""`lednet view`: a recording or a running node in the web browser."""

import argparse
import contextlib
from pathlib import Path
import re
from typing import TYPE_CHECKING

from lednet_ros.cli.parsing import (
    add_segmenter_options,
    add_topic_option,
    add_truth_options,
    make_segmenter,
    Subparsers,
)
from lednet_ros.inference.options import OPTIONS

if TYPE_CHECKING:
    from lednet_ros.view.content import Source

NODE_NAME = re.compile(r'(/[A-Za-z_][A-Za-z0-9_]*)+')


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        'view', help='show a recording or the running node in the web browser'
    )
    parser.add_argument(
        'input', type=Path, nargs='?', metavar='INPUT',
        help='image, folder, video, camera or bag',
    )
    parser.add_argument(
        '--node', nargs='?', const='/segmentation_node', metavar='NAME',
        help='show a running node (default: /segmentation_node) in place of a recording',
    )
    add_topic_option(parser)
    add_truth_options(parser)
    parser.add_argument('--host', default='127.0.0.1', help='address to bind (default: 127.0.0.1)')
    parser.add_argument(
        '--port', type=int, default=8080, help='0 selects a free one (default: 8080)'
    )
    parser.add_argument(
        '--token', nargs='?', const='', metavar='TOKEN',
        help='what a browser must know to be let in, needed for a --host that others can reach; '
        'without a value, one is drawn',
    )
    add_segmenter_options(parser, 'results', 'drawing')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    import logging

    from lednet_ros.view.server import choose_token, make_app
    from werkzeug.serving import make_server

    if (options.input is None) == (options.node is None):
        raise ValueError('either INPUT, a recording, or --node is needed')
    token = choose_token(options.host, options.token)
    # Otherwise it logs a line for every image.
    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        start = _start_node if options.node else _start_player
        source, title = start(options, stack)
        app = make_app(source, title, options.host, token)
        server = make_server(options.host, options.port, app, threaded=True)
        stack.callback(server.server_close)
        query = f'?token={token}' if token else ''
        print(
            f'http://{options.host}:{server.server_port}/{query} (Ctrl-C ends)', flush=True
        )
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _start_player(
    options: argparse.Namespace, stack: contextlib.ExitStack
) -> 'tuple[Source, str]':
    from lednet_ros.evaluation.recording_reader import TruthSource
    from lednet_ros.view.player import Player
    from lednet_ros.view.recording import Recording

    segmenter = make_segmenter(options)
    truth = TruthSource(options.label_topic, options.labels, round(1e9 * options.slop))
    network = segmenter.label_map.network
    recording = Recording(options.input, options.image_topic, truth, network)
    # A recording that can't be read fails here rather than on the page.
    problems = []
    for played in recording.frames():
        if played.frame is not None:
            break
        problems.append(played.problem)
    else:
        raise ValueError('; '.join(problems) or f'{options.input} has no frames')
    player = Player(segmenter, recording)
    player.start()
    stack.callback(player.stop)
    return player, options.input.name


def _start_node(
    options: argparse.Namespace, stack: contextlib.ExitStack
) -> 'tuple[Source, str]':
    from lednet_ros.live.watch import NodeWatch
    from lednet_ros.view.node import NodePage

    unused = [name for name in vars(options) if name in OPTIONS]
    if unused:
        raise ValueError(f"{', '.join(unused)}: with --node, the node's parameters count")
    name = '/' + options.node.removeprefix('/')
    if not NODE_NAME.fullmatch(name):
        raise ValueError(f"--node is '{options.node}'; it must be like /front/segmentation_node")
    watch = NodeWatch(name)
    watch.start()
    stack.callback(watch.stop)
    return NodePage(watch), name
