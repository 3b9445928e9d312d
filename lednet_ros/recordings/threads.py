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

"""Threads before and after the network: reading and writing while it runs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
import contextlib
import time
from typing import Any, TypeVar

Item = TypeVar('Item')

DEPTH = 4
# Seconds; a frame takes milliseconds.
POLL_PERIOD = 0.0005


def prefetch(items: Iterable[Item]) -> Iterator[Item]:
    """Take items in a thread, up to `DEPTH` ahead of their use; their errors are raised here."""
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, 'prefetch')
    waiting: deque[Future[Any]] = deque()
    try:
        while True:
            while len(waiting) < DEPTH:
                waiting.append(pool.submit(next, iterator, end))
            if (item := _result(waiting.popleft())) is end:
                return
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def background(work: Callable[[Item], None]) -> Iterator[Callable[[Item], None]]:
    """
    Do work in a thread.

    Parameters
    ----------
    work
        Called with each item, in order.

    Yields
    ------
    callable
        Takes an item, of which up to `DEPTH` wait. After an error of the work, which is raised by
        the next call or at the end of the block, waiting items are dropped.

    """
    errors: list[BaseException] = []
    waiting: deque[Future[None]] = deque()

    def attempt(item: Item) -> None:
        if not errors:
            try:
                work(item)
            except BaseException as error:
                errors.append(error)

    with ThreadPoolExecutor(1, 'background') as pool:
        def put(item: Item) -> None:
            if errors:
                raise errors[0]
            if len(waiting) == DEPTH:
                _result(waiting.popleft())
            waiting.append(pool.submit(attempt, item))

        yield put
    if errors:
        raise errors[0]


def _result(future: Future[Item]) -> Item:
    # Waiting on a condition, where two signals arrive at once, can lose what the handler of the
    # first one raises to end the process.
    while not future.done():
        time.sleep(POLL_PERIOD)
    return future.result()
