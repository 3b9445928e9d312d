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

from dataclasses import asdict
import hmac
import ipaddress
import json
from pathlib import Path
import secrets
from typing import Any

from flask import abort, Flask, jsonify, render_template, request, Response
from lednet_ros.view.content import Content, Source
from werkzeug.exceptions import BadRequest, HTTPException

FRAME_TIMEOUT = 1.0
LOCAL_NAMES = ('localhost', '127.0.0.1', '[::1]')
SHORTEST_TOKEN = 8
HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Security-Policy': (
        "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'"
    ),
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
}


def is_loopback(host: str) -> bool:
    """Return whether a host is reachable only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def choose_token(host: str, token: str | None) -> str:
    """
    Return the token that requests need; empty if they need none.

    Parameters
    ----------
    host
        Address that the server listens on.
    token
        The user's choice; empty draws one, None wants none.

    Raises
    ------
    ValueError
        The address needs a token, or it is too short.

    """
    if token == '':
        return secrets.token_urlsafe(16)
    if token is None and not is_loopback(host):
        raise ValueError(
            f'--host is {host}, which others can reach: it needs --token; '
            'without a value, one is drawn'
        )
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise ValueError(
            f'--token has {len(token)} characters; at least {SHORTEST_TOKEN} are needed'
        )
    return token or ''


def make_app(source: Source, title: str, host: str, token: str = '') -> Flask:
    """
    Create the web application, which shows the source's content and changes its settings.

    If `host`, the address that the server listens on, is loopback, requests for other host names
    are rejected, which a page elsewhere could have made point here (DNS rebinding). Frames and
    settings are for this page only, whatever the address. With a token, everything needs it: in
    the address of the page once, afterwards in the cookie that this sets.
    """
    app = Flask(__name__, template_folder=str(Path(__file__).parent), static_folder='static')

    @app.before_request
    def check_origin() -> None:
        name = request.host.rpartition(':')[0] if ':' in request.host else request.host
        if is_loopback(host) and name not in LOCAL_NAMES:
            abort(403, f"host is '{request.host}'; it must be one of {', '.join(LOCAL_NAMES)}")
        origin = request.headers.get('Origin')
        if origin != f'http://{request.host}' and (origin or request.method == 'POST'):
            abort(403, f"origin is '{origin}'; it must be http://{request.host}")
        # Browsers say so even of images, which have no origin; links to the page may be anywhere.
        if request.path != '/' and request.headers.get('Sec-Fetch-Site') == 'cross-site':
            abort(403, f'{request.path} is for the page of http://{request.host} only')
        given = request.args.get('token') or request.cookies.get(cookie_name(), '')
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            abort(401, 'the token is missing or wrong; it is in the address that was printed')

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> tuple[str, int, dict[str, str]]:
        return str(error.description), error.code or 500, {'Content-Type': 'text/plain'}

    @app.get('/')
    def page() -> Response:
        response = Response(render_template('page.html.j2', title=title))
        if token:
            response.set_cookie(cookie_name(), token, httponly=True, samesite='Strict')
        return response

    @app.get('/favicon.ico')
    def icon() -> Response:
        return Response(status=204)

    @app.get('/frames')
    def frames() -> Response:
        """Return a line of JSON, and after it the images that are newer than `after`."""
        after = request.args.get('after', -1, int)
        content = source.wait(after, FRAME_TIMEOUT)
        images = [tile.jpeg if tile.version > after else b'' for tile in content.tiles]
        line = json.dumps(describe(content, images), separators=(',', ':'))
        return Response(
            b'\n'.join((line.encode(), b''.join(images))), mimetype='application/octet-stream'
        )

    @app.post('/settings')
    def settings() -> Response:
        changes: Any = request.get_json()
        if not isinstance(changes, dict) or not changes:
            raise BadRequest('settings must be an object with at least one member')
        try:
            source.change(changes)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        return jsonify({})

    return app


def cookie_name() -> str:
    """Return the name of the token's cookie; cookies don't know ports by themselves."""
    return f"lednet_view_{request.host.rpartition(':')[2]}"


def describe(content: Content, images: list[bytes]) -> dict[str, Any]:
    """Return what the page is told: the content, and for each tile the length of its image."""
    told = asdict(content)
    for tile, image in zip(told['tiles'], images, strict=True):
        del tile['jpeg']
        tile['bytes'] = len(image)
    return told
