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


"""`lednet view --node`: a real node in a process of its own, over DDS."""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
import signal
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lednet_ros.live import watch as watching
from lednet_ros.live.client import NodeProcess
from lednet_ros.live.watch import NodeWatch
from lednet_ros.view.node import NodePage
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from web_page import Browser, decode, Page, TIMEOUT

pytestmark = pytest.mark.ros
NAME = '/robot/segmentation_node'


class WatchedNode(NodePage):
    """A page with its watch, to be served."""

    def __init__(self, name: str) -> None:
        self.watch = NodeWatch(name)
        super().__init__(self.watch)
        self.watch.start()

    def stop(self) -> None:
        self.watch.stop()


Start = Callable[..., NodeProcess]


@pytest.fixture
def start(small_checkpoint: Path) -> Iterator[Start]:
    """Start a node, after a camera for each name the first time."""
    with contextlib.ExitStack() as stack:
        started: set[str] = set()

        def begin(*cameras: str, **parameters: Any) -> NodeProcess:
            for camera in {*(cameras or ('',))} - started:
                started.add(camera)
                stack.enter_context(NodeProcess(
                    f'/robot/{camera}'.rstrip('/'), {'width': 160, 'height': 120, 'rate': 5.0},
                    ['lednet_ros.ros.synthetic_camera'],
                ))
            values = {'checkpoint': small_checkpoint, 'device': 'cpu', 'backend': 'torch_eager',
                      'cameras': cameras, 'diagnostics_period': 0.2, **parameters}
            return stack.enter_context(NodeProcess('/robot', values))

        yield begin


def has_images(content: dict[str, Any]) -> bool:
    """Return whether every camera has an overlay and diagnostics."""
    return bool(content['tiles']) and all(
        tile['version'] and tile['facts'] for tile in content['tiles']
    )


def test_the_running_node_is_shown_and_changed(
    start: Start, serve: Callable[..., Page]
) -> None:
    start('front', 'left')
    page = serve(WatchedNode(NAME))
    content = page.look_until(lambda c: has_images(c) and c['fractions'] and c['settings'])
    assert [tile['name'] for tile in content['tiles']] == ['front', 'left']
    assert content['level'] == 'ok'
    assert ['road', '#804080'] in content['classes']
    assert len(content['fractions']) >= 11
    assert sum(content['fractions']) == pytest.approx(1, abs=1e-3)
    content, images = page.look()
    for tile, image in zip(content['tiles'], images, strict=True):
        facts = dict(tile['facts'])
        assert facts.keys() >= {'in', 'out', 'latency', 'dropped', 'lost'}
        assert 0 <= tile['age'] < 60
        assert decode(image).shape == (120, 160, 3)

    # Refused by the node, with its reason, and all or nothing.
    for changes, reason in (
        ({'max_rate': 5000, 'overlay_alpha': 0.1}, 'max_rate'),
        ({'overlay_classes': ['roof'], 'overlay_alpha': 0.1}, 'roof'),
        ({'overlay_alpha': 'x'}, 'must be double'), ({'device': 'cpu'}, 'allowed: enabled'),
    ):
        answer = page.ask('/settings', changes)
        assert answer.status == 400
        assert reason in answer.text
    assert page.ask('/settings', {'enabled': False}, Origin='http://evil.example').status == 403

    assert page.look()[0]['settings']['overlay_alpha'] == 0.5
    page.set(overlay_alpha=1, overlay_classes=['sky'], max_rate=2, min_confidence=0.25)
    content = page.look_until(
        lambda c: dict(c['tiles'][0]['facts']).get('skipped') and c['settings']['max_rate'] == 2
    )
    assert content['settings'] == {
        'enabled': True, 'overlay_alpha': 1.0, 'min_confidence': 0.25,
        'overlay_classes': ['sky'], 'max_rate': 2.0,
    }
    page.set(enabled=False)
    page.look_until(lambda content: content['text'] == 'paused')
    page.set(enabled=True, max_rate=0, overlay_classes=[])
    # Unlabeled pixels show in the fractions, which come now and then.
    page.set(min_confidence=1)
    page.look_until(lambda content: sum(content['fractions']) < 0.5)


def test_a_node_that_goes_and_returns(start: Start, serve: Callable[..., Page]) -> None:
    page = serve(WatchedNode(NAME))
    page.look_until(lambda content: 'is not running' in content['text'])
    assert 'not running' in page.ask('/settings', {'enabled': False}).text
    process = start()
    content = page.look_until(has_images)
    assert [tile['name'] for tile in content['tiles']] == ['camera']
    process.signal(signal.SIGKILL)
    content = page.look_until(lambda content: 'no diagnostics' in content['text'])
    assert content['level'] == 'error'
    assert not content['settings']
    age = content['tiles'][0]['age']
    page.look_until(lambda content: content['tiles'][0]['age'] > age)
    start('front', 'left')
    content = page.look_until(lambda c: len(c['tiles']) == 2 and has_images(c))
    assert [tile['name'] for tile in content['tiles']] == ['front', 'left']
    page.look_until(lambda content: content['level'] != 'error')


def test_nothing_is_computed_while_nobody_looks(
    start: Start, serve: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, 'LOOK_SECONDS', 1.0)
    start()
    node = WatchedNode(NAME)
    page = serve(node)

    page.look_until(has_images)
    # In the context of the page, which has no node that goes on listening.
    observer, executor = rclpy.create_node('observer'), SingleThreadedExecutor()
    executor.add_node(observer)
    counts = [0]

    def listen(message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for pair in message.status[-1].values}
        counts.append(int(values.get('unwanted', '0')))

    observer.create_subscription(DiagnosticArray, '/diagnostics', listen, 10)
    end = time.monotonic() + TIMEOUT
    # Several, as the frames under way when the last look ends are not counted as such.
    while len(set(counts)) < 4:
        assert time.monotonic() < end
        executor.spin_once(timeout_sec=0.1)
    assert not node.watch.is_looking
    executor.shutdown()
    observer.destroy_node()


def test_a_wrong_name_is_answered_with_those_that_are_there(
    start: Start, serve: Callable[..., Page]
) -> None:
    start()
    page = serve(WatchedNode('/segmentation_node'))
    page.look_until(lambda content: NAME in content['text'])


@pytest.mark.slow
def test_in_a_browser(start: Start, serve: Callable[..., Page], browser: Browser) -> None:
    from selenium.webdriver import Keys

    start('front', 'left', 'right')
    page = serve(WatchedNode(NAME))
    for width, height in ((1280, 800), (390, 844)):
        browser.open(page.address, width, height)
        browser.wait(
            "document.querySelectorAll('.tile img').length === 3"
            " && [...document.querySelectorAll('.tile img')].every(e => e.naturalWidth === 160)"
        )
        browser.wait("document.querySelectorAll('#classes li').length === 11")
        browser.check_layout(width, height)
    assert not browser.script("document.getElementById('player').offsetParent")

    def control(name: str) -> Any:
        return browser.driver.find_element('css selector', f'[data-setting={name}] input')

    # By keyboard alone.
    browser.press('3')
    browser.wait("document.querySelectorAll('.tile.solo').length === 1")
    browser.press('3', '[')
    page.look_until(lambda content: content['settings']['overlay_alpha'] == 0.4)
    control('enabled').send_keys(' ')
    page.look_until(lambda content: content['text'] == 'paused')
    browser.wait("document.getElementById('health').textContent === 'paused'")
    control('enabled').send_keys(' ')
    page.look_until(lambda content: content['settings']['enabled'])
    control('min_confidence').send_keys(Keys.RIGHT)
    page.look_until(lambda content: content['settings']['min_confidence'] == 0.05)
    control('max_rate').send_keys(Keys.DELETE, '4', Keys.ENTER)
    page.look_until(lambda content: content['settings']['max_rate'] == 4)
    # Refused by the node: the page says why.
    control('max_rate').send_keys(Keys.BACKSPACE, '5000', Keys.ENTER)
    browser.wait("document.getElementById('refusal').textContent.includes('max_rate')")
    assert page.look()[0]['settings']['max_rate'] == 4
    browser.driver.find_element('css selector', '#classes input[value=sky]').send_keys(' ')
    page.look_until(lambda content: len(content['settings']['overlay_classes']) == 10)
    browser.driver.find_element('id', 'all').send_keys(' ')
    page.look_until(lambda content: content['settings']['overlay_classes'] == [])
