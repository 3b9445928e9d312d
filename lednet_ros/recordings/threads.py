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

"""Threads before and behind the network: reading and writing while it runs."""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import queue
import threading
from typing import TypeVar

Item = TypeVar('Item')

DEPTH = 4
# How often a thread with nobody to take its items looks whether it should end, in seconds.
PATIENCE = 0.2


class _End:
    """The last item from a thread: the error that ended it, if any."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def prefetch(items: Iterable[Item], depth: int = DEPTH) -> Iterator[Item]:
    """
    Take items in a thread, some ahead of their use.

    Parameters
    ----------
    items
        Taken one after the other.
    depth
        How many to hold at most.

    Yields
    ------
    Item
        In their order. An error of the items is raised here.

    """
    waiting: queue.Queue[Item | _End] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: Item | _End) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=PATIENCE)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:
            put(_End(error))
        else:
            put(_End())

    thread = threading.Thread(target=work, name='prefetch', daemon=True)
    thread.start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def background(
    work: Callable[[Item], None], depth: int = DEPTH
) -> Iterator[Callable[[Item], None]]:
    """
    Do work in a thread.

    Parameters
    ----------
    work
        Called with each item, in their order.
    depth
        How many items may wait.

    Yields
    ------
    callable
        Takes an item. An error of the work is raised by the next call, or when the block ends.

    """
    waiting: queue.Queue[Item | _End] = queue.Queue(depth)
    errors: list[BaseException] = []

    def run() -> None:
        while not isinstance(item := waiting.get(), _End):
            if not errors:
                try:
                    work(item)
                except BaseException as error:
                    errors.append(error)

    def put(item: Item) -> None:
        if errors:
            raise errors[0]
        waiting.put(item)

    thread = threading.Thread(target=run, name='background', daemon=True)
    thread.start()
    try:
        yield put
    finally:
        waiting.put(_End())
        thread.join()
    if errors:
        raise errors[0]
