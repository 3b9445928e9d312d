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


"""A served page, as programs and browsers see it."""

from collections.abc import Callable
from dataclasses import dataclass
import http.client
import json
import time
from typing import Any

import cv2
import numpy as np

LOCAL = '127.0.0.1'
TIMEOUT = 90.0


@dataclass(frozen=True)
class Answer:
    """Status, headers and content of a response."""

    status: int
    headers: 'http.client.HTTPMessage'
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()


@dataclass(frozen=True)
class Page:
    """A page on a port of this machine."""

    port: int

    @property
    def address(self) -> str:
        return f'http://{LOCAL}:{self.port}/'

    def ask(self, path: str, content: object = None, **headers: str) -> Answer:
        """Get a path or, with content, post it as JSON."""
        connection = http.client.HTTPConnection(LOCAL, self.port, timeout=TIMEOUT)
        given = {name.replace('_', '-'): value for name, value in headers.items()}
        if content is None:
            connection.request('GET', path, headers=given)
        else:
            usual = {'Content-Type': 'application/json', 'Origin': self.address[:-1]}
            connection.request('POST', path, json.dumps(content), usual | given)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def set(self, **changes: object) -> None:
        """Change settings."""
        answer = self.ask('/settings', changes)
        assert answer.status == 200, answer.text

    def look(self, after: int = -1) -> tuple[dict[str, Any], list[bytes]]:
        """Return content and images."""
        answer = self.ask(f'/frames?after={after}')
        assert answer.status == 200, answer.text
        line, _, rest = answer.content.partition(b'\n')
        content = json.loads(line)
        images = []
        for tile in content['tiles']:
            images.append(rest[: tile['bytes']])
            rest = rest[tile['bytes']:]
        assert not rest
        return content, images

    def look_until(self, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Look until the content fulfills a condition; return that content."""
        after, end = -1, time.monotonic() + TIMEOUT
        while True:
            content, _ = self.look(after)
            if condition(content):
                return content
            assert time.monotonic() < end, content
            after = content['version']


def decode(jpeg: bytes) -> np.ndarray:
    """Decode an image, BGR."""
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))


class Browser:
    """Headless Chromium with one page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str, width: int, height: int) -> None:
        """Open a page in a window, or on the screen of a phone, of a size."""
        self.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
            'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 800,
        })
        self.driver.get(address)

    def script(self, text: str) -> Any:
        """Return the value of an expression."""
        return self.driver.execute_script(f'return {text}')

    def wait(self, text: str) -> Any:
        """Wait until an expression is true."""
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, TIMEOUT, 0.1).until(
            lambda _: self.script(text), f'{text}; page: {self.script("document.body.innerText")}'
        )

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def check_layout(self, width: int, height: int) -> None:
        """Nothing is wider than the window, and images use the place that they have."""
        wide = self.script(
            "[...document.querySelectorAll('body *')].filter("
            f'e => e.getBoundingClientRect().right > {width} + 1).map(e => e.outerHTML)'
        )
        assert not wide
        assert self.script('document.documentElement.scrollWidth') <= width
        if width >= 800:
            assert self.script('document.documentElement.scrollHeight') <= height
        widths = self.script(
            "[...document.querySelectorAll('.tile img')].map(e => e.clientWidth)"
        )
        assert sum(widths) > 0.55 * width or max(widths) >= 0.95 * width

    def check_log(self) -> None:
        """Nothing was refused or failed."""
        assert not [e for e in self.driver.get_log('browser') if e['level'] == 'SEVERE']
