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


"""`lednet view` of recordings: a real server on loopback."""

from collections.abc import Callable
from functools import partial
import operator
from pathlib import Path
from typing import Any

from bag_files import Entry, write_bag
import cv2
from lednet_ros.checkpoint import Checkpoint
from lednet_ros.cli.main import main
from lednet_ros.evaluation.recording_reader import TruthSource
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.synthetic import StreetScene
from lednet_ros.view.player import Player
from lednet_ros.view.recording import Recording
from lednet_ros.view.server import choose_token, is_loopback
import numpy as np
import pytest
from web_page import Browser, decode, Page

FRAMES = 10
STEP = 10**8
# As WebDriver spells them.
TAB, END, HOME, LEFT, RIGHT = '\ue004\ue010\ue011\ue012\ue014'

Serve = Callable[..., Page]


def frames() -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw a second of a street with its ground truth."""
    scene = StreetScene(192, 128, seed=2)
    return [scene.render(k / 10)[:2] for k in range(FRAMES)]


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Write a second of a street; the label of the fourth frame is missing."""
    entries = []
    for k, (pixels, labels) in enumerate(frames()):
        entries.append(Entry('/image', k * STEP, k * STEP, pixels, 'rgb8'))
        if k != 3:
            # Recorded later than its image, and with another stamp.
            entries.append(Entry('/truth', k * STEP + 5, k * STEP + 10, labels, 'mono8'))
    return write_bag(tmp_path / 'bag', entries)


@pytest.fixture
def play(small_content: Checkpoint, serve: Serve) -> Serve:
    """Serve a recording."""

    def start(
        source: Path,
        topic: str | None = None,
        truth: TruthSource = TruthSource(),  # noqa: B008
        token: str = '',
    ) -> Page:
        segmenter = Segmenter(small_content, device='cpu', backend='torch_eager')
        recording = Recording(source, topic, truth, segmenter.label_map.network)
        player = Player(segmenter, recording)
        player.start()
        return serve(player, token=token)

    return start


def is_at(position: int, image: bool = False) -> Callable[[dict[str, Any]], bool]:
    """Return the condition that a position is shown."""
    return lambda content: bool(
        content['timeline']['position'] == position and content['tiles'][0]['version'] >= image
    )


def go_to(page: Page, position: int) -> tuple[dict[str, Any], list[bytes]]:
    """Go to a position; return content and all images there."""
    page.set(position=position)
    page.look_until(is_at(position, image=True))
    return page.look()


def test_images_continue_and_settings_change_them(play: Serve, bag: Path) -> None:
    page = play(bag, '/image')
    content = page.look_until(lambda content: content['tiles'][0]['bytes'])
    assert sum(content['fractions']) == pytest.approx(1, abs=0.01)
    # It is played again after its end.
    page.look_until(is_at(FRAMES - 1))
    page.look_until(lambda content: content['timeline']['position'] < 3)
    page.set(playing=False)
    colored = go_to(page, 4)[1][0]
    assert decode(colored).shape == (128, 192, 3)
    for changes in ({'overlay_alpha': 0}, {'overlay_alpha': 0.5, 'min_confidence': 1.0}):
        # A paused frame is drawn again.
        is_newer = partial(operator.lt, page.look()[0]['version'])
        page.set(**changes)
        page.look_until(lambda content, newer=is_newer: newer(content['tiles'][0]['version']))
        assert not page.look()[0]['timeline']['playing']
        plain = decode(page.look()[1][0])
        assert np.abs(plain.astype(int) - decode(colored)).mean() > 5
        assert np.abs(plain[..., ::-1].astype(int) - frames()[4][0]).mean() < 5
    assert page.look()[0]['settings']['min_confidence'] == 1.0


@pytest.mark.parametrize('kind', ['bag', 'video', 'folder'])
def test_every_position_can_be_reached(
    play: Serve, bag: Path, tmp_path: Path, kind: str
) -> None:
    path, topic = bag, '/image'
    pixels = [pixels[..., ::-1] for pixels, _ in frames()]
    if kind == 'folder':
        path, topic = tmp_path / 'images', None
        path.mkdir()
        for k, image in enumerate(pixels):
            cv2.imwrite(str(path / f'{k}.png'), image)
    elif kind == 'video':
        path, topic = tmp_path / 'video.avi', None
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (192, 128))
        for image in pixels:
            writer.write(image)
        writer.release()
    page = play(path, topic)
    page.look_until(lambda content: content['timeline']['count'] == FRAMES)
    page.set(overlay_alpha=0, playing=False)
    for position in (7, 2, 0, FRAMES - 1):
        content, images = go_to(page, position)
        assert content['timeline']['seconds'] == pytest.approx(position / 10, abs=1e-3)
        assert np.abs(decode(images[0]).astype(int) - pixels[position]).mean() < 5
    for step, expected in ((-1, 8), (1, 9), (1, 9), (-20, 0), (1, 1), (1, 2)):
        page.set(step=step)
        content = page.look_until(is_at(expected))
        assert not content['timeline']['playing']
    assert np.abs(decode(page.look()[1][0]).astype(int) - pixels[2]).mean() < 5
    page.set(playing=True)
    page.look_until(is_at(5))


@pytest.mark.parametrize('kind', ['topic', 'stamps', 'names'])
def test_ground_truth_is_shown_beside_the_overlay(
    play: Serve, bag: Path, tmp_path: Path, kind: str
) -> None:
    labels = tmp_path / 'labels'
    labels.mkdir()
    path, topic = bag, '/image'
    truth = TruthSource('/truth', slop=5) if kind == 'topic' else TruthSource(folder=labels)
    for k, (pixels, ids) in enumerate(frames()):
        name = f'0.{k * STEP:09}' if kind == 'stamps' else f'{k}'
        if k == 5:
            ids[0, 0] = 77
        if k != 3:
            cv2.imwrite(str(labels / f'{name}.png'), ids)
        if kind == 'names':
            path, topic = tmp_path / 'images', None
            path.mkdir(exist_ok=True)
            cv2.imwrite(str(path / f'{k}.png'), pixels[..., ::-1])
    page = play(path, topic, truth)
    page.look_until(lambda content: content['timeline']['count'] == FRAMES)
    page.set(overlay_alpha=1, playing=False)
    palette = LabelMap.load('camvid').palette
    for position in (6, 2, 8):
        content, images = go_to(page, position)
        assert content['tiles'][1]['name'] == 'ground truth'
        assert [name for name, _ in content['tiles'][1]['facts']] == ['accuracy', 'mIoU']
        expected = palette[frames()[position][1]][..., ::-1]
        assert np.abs(decode(images[1]).astype(int) - expected).mean() < 8
    content, images = go_to(page, 3)
    assert images[1] == b''
    assert content['tiles'][1]['text'] == 'none for this frame'
    if kind != 'topic':
        content, images = go_to(page, 5)
        assert images[1] == b''
        assert '77' in content['tiles'][1]['text']


def test_the_page_names_the_classes_and_loads_nothing_from_elsewhere(
    play: Serve, bag: Path
) -> None:
    page = play(bag, '/image')
    assert ['road', '#804080'] in page.look()[0]['classes']
    for path in ('/', '/static/page.css', '/static/page.js'):
        answer = page.ask(path)
        assert answer.status == 200
        assert 'http:' not in answer.text
        assert 'https:' not in answer.text
        assert "frame-ancestors 'none'" in answer.headers['Content-Security-Policy']


def test_requests_from_elsewhere_are_rejected(play: Serve, bag: Path) -> None:
    page = play(bag, '/image')
    assert page.ask('/', Host='evil.example').status == 403
    assert page.ask('/frames', Host=f'evil.example:{page.port}').status == 403
    assert page.ask('/', Host=f'localhost:{page.port}').status == 200
    for origin in ('http://evil.example', 'null', f'https://127.0.0.1:{page.port}'):
        assert page.ask('/settings', {'overlay_alpha': 0}, Origin=origin).status == 403
        assert page.ask('/frames', Origin=origin).status == 403
    assert page.ask('/frames', Sec_Fetch_Site='cross-site').status == 403
    assert page.ask('/', Sec_Fetch_Site='cross-site').status == 200


TOKEN = 'correct horse'  # noqa: S105


def test_a_token_is_needed_where_there_is_one(play: Serve, bag: Path) -> None:
    page = play(bag, '/image', token=TOKEN)
    for path in ('/', '/?token=wrong', '/frames', '/static/page.js'):
        assert page.ask(path).status == 401
    assert page.ask('/settings', {'overlay_alpha': 0}).status == 401
    answer = page.ask('/?token=correct%20horse')
    assert answer.status == 200
    cookie = answer.headers['Set-Cookie']
    for part in ('HttpOnly', 'SameSite=Strict'):
        assert part in cookie
    cookie = cookie.partition(';')[0]
    assert page.ask('/frames', Cookie=cookie).status == 200
    assert page.ask('/settings', {'overlay_alpha': 0}, Cookie=cookie).status == 200


def test_addresses_that_others_can_reach_need_a_token() -> None:
    for host in ('127.0.0.1', '127.1.2.3', '::1', 'localhost'):
        assert is_loopback(host)
        assert choose_token(host, None) == ''
    for host in ('0.0.0.0', '192.168.1.2', 'robot', '::'):
        with pytest.raises(ValueError, match='needs --token'):
            choose_token(host, None)
        assert len(choose_token(host, '')) > 16
        assert choose_token(host, TOKEN) == TOKEN
    with pytest.raises(ValueError, match='at least 8'):
        choose_token('robot', 'short')


@pytest.mark.parametrize(
    'content',
    [[1], {}, {'overlay_alpha': 'x'}, {'overlay_alpha': 2}, {'overlay_classes': ['roof']},
     {'playing': 1}, {'position': 0.5}, {'device': 'cpu'}],
)
def test_invalid_settings_are_rejected(play: Serve, bag: Path, content: object) -> None:
    answer = play(bag, '/image').ask('/settings', content)
    assert answer.status == 400
    assert 'must be' in answer.text or 'allowed' in answer.text or 'label map' in answer.text


def test_what_cannot_be_played_is_said(
    play: Serve, tmp_path: Path, small_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = play(tmp_path / 'gone')
    content = page.look_until(lambda content: content['level'] == 'error')
    assert 'gone does not exist' in content['text']
    for arguments, problem in (
        (['gone'], 'gone does not exist'), ([], 'INPUT'), (['gone', '--node'], 'INPUT'),
        (['gone', '--host', 'robot'], '--token'), (['--node', 'a b'], "'a b'"),
        (['--node', '--alpha', '0.2'], 'overlay_alpha'),
    ):
        inputs = [str(tmp_path / each) if each == 'gone' else each for each in arguments]
        command = ['view', *inputs]
        if '--alpha' not in arguments:
            command += ['--checkpoint', str(small_checkpoint)]
        assert main(command) == 1
        assert problem in capsys.readouterr().err


def test_a_damaged_frame_does_not_end_the_recording(play: Serve, tmp_path: Path) -> None:
    entries = [
        Entry('/image', k * STEP, k * STEP, pixels, 'rgb8', length=5000 if k == 4 else None)
        for k, (pixels, _) in enumerate(frames())
    ]
    page = play(write_bag(tmp_path / 'bag', entries))
    page.look_until(is_at(FRAMES - 1))
    content, _ = go_to(page, 4)
    assert content['level'] == 'warn'
    assert '/image' in content['text']


@pytest.mark.slow
@pytest.mark.parametrize(('width', 'height'), [(1280, 800), (390, 844)])
def test_in_a_browser(
    play: Serve, bag: Path, browser: Browser, width: int, height: int
) -> None:
    page = play(bag, '/image', TruthSource('/truth', slop=5))
    browser.open(page.address, width, height)
    browser.wait(
        "document.querySelectorAll('.tile img').length === 2"
        " && [...document.querySelectorAll('.tile img')].every(e => e.naturalWidth === 192)"
    )
    browser.wait("document.getElementById('position').offsetParent")
    browser.check_layout(width, height)
    fractions = "[...document.querySelectorAll('#classes output')].map(e => parseFloat(e.value))"
    assert sum(browser.script(fractions)) == pytest.approx(100, abs=1)
    # By keyboard alone: space, a step, the ends, the slider, and classes by the tabulator.
    browser.press(' ')
    page.look_until(lambda content: not content['timeline']['playing'])
    for key, expected in ((HOME, 0), (RIGHT, 1), (END, FRAMES - 1), (LEFT, FRAMES - 2)):
        browser.press(key)
        page.look_until(is_at(expected))
        browser.wait(f"document.getElementById('place').value.startsWith('{expected + 1} /')")
    slider = browser.driver.find_element('id', 'position')
    slider.send_keys(LEFT)
    page.look_until(is_at(FRAMES - 3))
    browser.press('[')
    assert page.look()[0]['settings']['overlay_alpha'] == 0.5
    seen = set()
    for _ in range(30):
        browser.press(TAB)
        focused = 'document.activeElement'
        seen.add(browser.script(f'{focused}.ariaLabel || {focused}.value'))
        assert browser.script(
            f"{focused} === document.body || getComputedStyle({focused}).outlineStyle !== 'none'"
        )
    assert seen >= {'first frame', 'one frame back', 'sky', 'bicyclist'}
    names = browser.driver.execute_cdp_cmd('Accessibility.getFullAXTree', {})['nodes']
    for node in names:
        if node['role']['value'] in ('button', 'slider', 'checkbox', 'switch', 'spinbutton'):
            assert node['name']['value'], node
    browser.check_log()
