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


"""Fixtures that serve pages and open them in a browser."""

from collections.abc import Callable, Iterator
import logging
from pathlib import Path
import shutil
import threading
from typing import Any

import pytest
from web_page import Browser, LOCAL, Page


@pytest.fixture
def serve() -> Iterator[Callable[..., Page]]:
    """Serve a source, which it starts and stops."""
    from lednet_ros.view.server import make_app
    from werkzeug.serving import make_server

    # A line for every image would bury what matters.
    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    running: list[tuple[Any, Any]] = []

    def start(source: Any, host: str = LOCAL, token: str = '') -> Page:
        server = make_server(LOCAL, 0, make_app(source, 'street', host, token), threaded=True)
        # `shutdown` waits for as long as the server polls.
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append((source, server))
        return Page(int(server.server_port))

    yield start
    for source, server in running:
        source.stop()
        server.shutdown()
        server.server_close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """Start Chromium where it is installed with its driver."""
    webdriver = pytest.importorskip('selenium.webdriver')
    paths = shutil.which('chromium'), shutil.which('chromedriver')
    if None in paths:
        pytest.skip('needs Chromium and its driver')
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in ('headless=new', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage',
                 'disable-background-networking', 'disable-component-update', 'no-first-run',
                 'disable-sync', f'user-data-dir={tmp_path}/chromium'):
        options.add_argument(f'--{flag}')
    driver = webdriver.Chrome(options, webdriver.ChromeService(paths[1]))
    yield Browser(driver)
    driver.quit()
