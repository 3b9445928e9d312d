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

"""`lednet view`: a real server on loopback, and headless Chromium where it is installed."""

from collections.abc import Callable, Iterator
import http.client
import json
from pathlib import Path
import shutil
import threading
from typing import Any

from bag_files import Entry, write_bag
import cv2
from lednet_ros.checkpoint import Checkpoint
from lednet_ros.cli.main import main
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.synthetic import StreetScene
from lednet_ros.view.player import Player
from lednet_ros.view.server import is_loopback, make_app
import numpy as np
import pytest
from werkzeug.serving import make_server

LOCAL = '127.0.0.1'


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Write a second of a street."""
    scene = StreetScene(192, 128, seed=2)
    entries = [
        Entry('/image', k * 10**8, k, scene.render(k / 10)[0], 'rgb8') for k in range(10)
    ]
    return write_bag(tmp_path / 'bag', entries)


@pytest.fixture
def serve(small_content: Checkpoint) -> Iterator[Callable[[Path], int]]:
    """Serve a recording; return the port."""
    running: list[tuple[Player, Any]] = []

    def start(source: Path) -> int:
        segmenter = Segmenter(small_content, device='cpu', backend='torch_eager')
        player = Player(segmenter, source, None)
        app = make_app(player, segmenter.label_map, 'street', LOCAL)
        server = make_server(LOCAL, 0, app, threaded=True)
        # `shutdown` waits for as long as the server polls.
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        player.start()
        running.append((player, server))
        return int(server.server_port)

    yield start
    for player, server in running:
        player.stop()
        server.shutdown()
        server.server_close()


def ask(
    port: int, path: str, content: object = None, **headers: str
) -> tuple[int, 'http.client.HTTPMessage', bytes]:
    connection = http.client.HTTPConnection(LOCAL, port, timeout=30)
    if content is None:
        connection.request('GET', path, headers=headers)
    else:
        own = {'Content-Type': 'application/json', 'Origin': f'http://{LOCAL}:{port}'}
        connection.request('POST', path, json.dumps(content), own | headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def image_after(port: int, after: int = 0) -> tuple[int, np.ndarray, list[float]]:
    status, headers, body = ask(port, f'/frame?after={after}')
    assert status == 200
    shares = [float(share) for share in headers['X-Shares'].split()]
    pixels = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    return int(headers['X-Number']), np.asarray(pixels), shares


def test_images_continue_and_settings_change_them(serve: Callable[[Path], int], bag: Path) -> None:
    port = serve(bag)
    number, pixels, shares = image_after(port)
    assert pixels.shape == (128, 192, 3)
    assert sum(shares) == pytest.approx(1, abs=0.01)
    # More frames than the recording has: it is played again.
    for _ in range(12):
        later, _, _ = image_after(port, number)
        assert later > number
        number = later
    assert ask(port, '/settings', {'paused': True})[0] == 200
    number, colored, _ = image_after(port, number)
    assert ask(port, '/settings', {'alpha': 0, 'paused': False})[0] == 200
    plain = image_after(port, number + 1)[1]
    assert np.abs(plain.astype(int) - colored).mean() > 5


def test_the_page_names_the_classes(serve: Callable[[Path], int], bag: Path) -> None:
    status, _, body = ask(serve(bag), '/')
    assert status == 200
    for part in ('street', 'road', 'bicyclist', '#804080'):
        assert part in body.decode()
    # Nothing is loaded from elsewhere.
    assert b'http' not in body


def test_requests_from_other_origins_are_rejected(serve: Callable[[Path], int], bag: Path) -> None:
    port = serve(bag)
    assert ask(port, '/', Host='evil.example')[0] == 403
    assert ask(port, '/frame', Host=f'evil.example:{port}')[0] == 403
    assert ask(port, '/', Host=f'localhost:{port}')[0] == 200
    for origin in ('http://evil.example', 'null', f'https://{LOCAL}:{port}'):
        assert ask(port, '/settings', {'alpha': 0}, Origin=origin)[0] == 403


@pytest.mark.parametrize(
    'content',
    [[1], {'alpha': 'x'}, {'alpha': 2}, {'classes': 'road'}, {'classes': ['roof']},
     {'paused': 1}],
)
def test_invalid_settings_are_rejected(
    serve: Callable[[Path], int], bag: Path, content: object
) -> None:
    assert ask(serve(bag), '/settings', content)[0] == 400


def test_unplayable_recording_is_reported(
    serve: Callable[[Path], int], tmp_path: Path, small_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, headers, _ = ask(serve(tmp_path / 'gone'), '/frame')
    assert status == 200
    assert 'gone does not exist' in headers['X-Problem']
    command = ['view', str(tmp_path / 'gone'), '--checkpoint', str(small_checkpoint)]
    assert main(command) == 1
    assert 'gone does not exist' in capsys.readouterr().err


def test_loopback_addresses() -> None:
    for host in ('127.0.0.1', '127.1.2.3', '::1', 'localhost'):
        assert is_loopback(host)
    for host in ('0.0.0.0', '192.168.1.2', 'robot'):
        assert not is_loopback(host)


@pytest.mark.slow
def test_in_a_browser(serve: Callable[[Path], int], bag: Path, tmp_path: Path) -> None:
    selenium = pytest.importorskip('selenium.webdriver')
    if not shutil.which('chromedriver') or not shutil.which('chromium'):
        pytest.skip('needs Chromium and its driver')
    options = selenium.ChromeOptions()
    for flag in ('headless', 'no-sandbox', 'disable-gpu', 'disable-background-networking',
                 'disable-component-update', 'no-first-run', 'disable-sync',
                 f'user-data-dir={tmp_path}/chromium', 'window-size=1200,700'):
        options.add_argument(f'--{flag}')
    service = selenium.ChromeService(shutil.which('chromedriver'))
    browser = selenium.Chrome(options, service)
    try:
        from selenium.webdriver.support.wait import WebDriverWait

        wait = WebDriverWait(browser, 30)
        browser.get(f'http://{LOCAL}:{serve(bag)}/')

        def script(text: str) -> Any:
            return browser.execute_script(f'return {text}')

        wait.until(lambda _: script("document.getElementById('image').naturalWidth") == 192)
        wait.until(lambda _: 'frames/s' in script("document.getElementById('metrics').innerText"))
        shares = script("[...document.querySelectorAll('.share')].map(e => e.innerText)")
        assert sum(float(share.rstrip('%')) for share in shares) == pytest.approx(100, abs=1)
        # All classes off: the plain frame.
        browser.find_element('id', 'all').click()
        wait.until(
            lambda _: script("[...document.querySelectorAll('#classes input')]"
                             '.every(box => !box.checked)')
        )
        browser.find_element('id', 'pause').click()
        assert browser.find_element('id', 'pause').text == 'play'
        assert browser.get_screenshot_as_png()[:4] == b'\x89PNG'
        assert not [e for e in browser.get_log('browser') if e['level'] == 'SEVERE']
    finally:
        browser.quit()
