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

"""Tests of reading ahead and of writing in the background."""

from collections.abc import Iterator
import threading

from lednet_ros.recordings.threads import background, DEPTH, prefetch
import pytest


def test_prefetch_keeps_the_order_and_raises_errors_of_the_items() -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise ValueError('item 20 is damaged')

    taken = []
    with pytest.raises(ValueError, match='item 20 is damaged'):
        for item in prefetch(items()):
            taken.append(item)
    assert taken == list(range(20))
    assert list(prefetch([])) == []


def test_prefetch_stops_reading_when_it_is_closed() -> None:
    produced = []

    def items() -> Iterator[int]:
        for index in range(1000):
            produced.append(index)
            yield index

    before = {*threading.enumerate()}
    frames = prefetch(items())
    assert next(frames) == 0
    frames.close()
    assert len(produced) <= DEPTH + 1
    assert {*threading.enumerate()} <= before


def test_background_completes_its_work_in_order() -> None:
    done: list[int] = []
    with background(done.append) as put:
        for index in range(20):
            put(index)
    assert done == list(range(20))


def test_error_of_background_work_is_raised_and_stops_it() -> None:
    done = []

    def work(index: int) -> None:
        if index == 3:
            raise OSError('no space left')
        done.append(index)

    with pytest.raises(OSError, match='no space left'), background(work) as put:
        for index in range(1000):
            put(index)
    assert done == [0, 1, 2]
