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

"""The web server of `lednet view`."""

import ipaddress
from pathlib import Path
from typing import Any

from flask import abort, Flask, jsonify, render_template, request, Response
from lednet_ros.labels import LabelMap
from lednet_ros.view.player import Player
from werkzeug.exceptions import BadRequest

FRAME_TIMEOUT = 5.0
LOCAL_NAMES = ('localhost', '127.0.0.1', '[::1]')


def is_loopback(host: str) -> bool:
    """Return whether a host is reachable only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def make_app(player: Player, label_map: LabelMap, title: str, host: str) -> Flask:
    """
    Create the web application, which shows the player's images and changes its settings.

    If `host`, the address that the server listens on, is loopback, requests for other host names
    are rejected, which a page elsewhere could have made point here (DNS rebinding). Settings are
    accepted from this page only, whatever the address.
    """
    app = Flask(__name__, template_folder=str(Path(__file__).parent))

    @app.before_request
    def check_origin() -> None:
        name = request.host.rpartition(':')[0] if ':' in request.host else request.host
        if is_loopback(host) and name not in LOCAL_NAMES:
            abort(403, f"host is '{request.host}'; it must be one of {', '.join(LOCAL_NAMES)}")
        origin = request.headers.get('Origin')
        if request.method == 'POST' and origin != f'http://{request.host}':
            abort(403, f"origin is '{origin}'; it must be http://{request.host}")

    @app.get('/')
    def page() -> str:
        classes = [
            {'name': label.name, 'color': '#{:02x}{:02x}{:02x}'.format(*label.color)}
            for label in label_map.labels
        ]
        return render_template('page.html.j2', title=title, classes=classes)

    @app.get('/favicon.ico')
    def icon() -> Response:
        return Response(status=204)

    @app.get('/frame')
    def frame() -> Response:
        """Return an image newer than `after`; its statistics are in the headers."""
        image = player.wait(request.args.get('after', 0, int), FRAME_TIMEOUT)
        if not image.number:
            return Response(status=204)
        return Response(
            image.jpeg,
            mimetype='image/jpeg',
            headers={
                'Cache-Control': 'no-store',
                'X-Number': str(image.number),
                'X-Fps': f'{image.fps:.1f}',
                'X-Milliseconds': f'{image.milliseconds:.1f}',
                'X-Stamp': str(image.stamp),
                'X-Shares': ' '.join(f'{fraction:.4f}' for fraction in image.fractions),
                'X-Problem': image.problem.encode('ascii', 'replace').decode(),
            },
        )

    @app.post('/settings')
    def settings() -> Response:
        content: Any = request.get_json()
        if not isinstance(content, dict):
            raise BadRequest('settings must be an object')
        alpha, classes, paused = (content.get(k) for k in ('alpha', 'classes', 'paused'))
        if not (
            (alpha is None or isinstance(alpha, int | float))
            and (classes is None or isinstance(classes, list))
            and (paused is None or isinstance(paused, bool))
        ):
            raise BadRequest('alpha must be a number, classes a list of names, paused a boolean')
        try:
            player.change(alpha, classes, paused)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        return jsonify({})

    return app
