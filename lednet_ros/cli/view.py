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

"""`lednet view`: a local web page with the live overlay."""

import argparse
from pathlib import Path

from lednet_ros.cli.parsing import (
    add_segmenter_options,
    add_topic_option,
    make_segmenter,
    Subparsers,
)


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser('view', help='show a recording in the web browser')
    parser.add_argument(
        'input', type=Path, metavar='INPUT', help='image, folder, video, camera or bag'
    )
    add_topic_option(parser)
    parser.add_argument('--host', default='127.0.0.1', help='address to bind (default: 127.0.0.1)')
    parser.add_argument(
        '--port', type=int, default=8080, help='0 selects a free one (default: 8080)'
    )
    add_segmenter_options(parser, 'results', 'drawing')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    import logging

    from lednet_ros.recordings.sources import read_frames
    from lednet_ros.view.player import Player
    from lednet_ros.view.server import make_app
    from werkzeug.serving import make_server

    # A recording that can't be read fails here rather than on the page.
    problems: list[str] = []
    if next(read_frames(options.input, options.image_topic, problems), None) is None:
        raise ValueError('; '.join(problems) or f'{options.input} has no frames')
    segmenter = make_segmenter(options)
    # Otherwise it logs a line for every image.
    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    player = Player(segmenter, options.input, options.image_topic)
    app = make_app(player, segmenter.label_map, options.input.name, options.host)
    server = make_server(options.host, options.port, app, threaded=True)
    player.start()
    print(f'http://{options.host}:{server.server_port}/ (Ctrl-C ends)', flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        player.stop()
        server.server_close()
    return 0
