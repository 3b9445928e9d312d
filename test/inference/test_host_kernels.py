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

"""Tests of the compiled loops that `test_postprocess` can't reach."""

import itertools
import threading

from lednet_ros.inference import host_kernels
from lednet_ros.inference.host_kernels import choose_classes, run_rows
import numpy as np
import pytest

IDS = np.arange(256, dtype=np.uint8)


def make_logits(h: int, w: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (h, w, classes)).astype(np.float32)


@pytest.mark.parametrize('size', [(64, 96), (61, 33), (9, 7), (1, 1)])
def test_rows_can_be_computed_in_parts(size: tuple[int, int]) -> None:
    logits = make_logits(9, 12, 7)
    whole, parts = np.full(size, 77, np.uint8), np.full(size, 77, np.uint8)
    choose_classes(0, size[0], logits, IDS, whole)
    bounds = sorted({0, 1, size[0] // 3, size[0] // 2, size[0]})
    for first, last in itertools.pairwise(bounds):
        choose_classes(first, last, logits, IDS, parts)
    np.testing.assert_array_equal(parts, whole)
    assert whole.max() < 7


@pytest.mark.parametrize('height', [0, 1, 127, 300, 1000])
def test_all_rows_are_shared_among_threads(
    monkeypatch: pytest.MonkeyPatch, height: int
) -> None:
    _, pool = host_kernels._threads()
    monkeypatch.setattr(host_kernels, '_threads', lambda: (4, pool))
    seen: list[int] = []
    names: set[str] = set()

    def kernel(first: int, last: int, out: list[int]) -> None:
        names.add(threading.current_thread().name)
        out.extend(range(first, last))

    run_rows(kernel, height, seen)
    assert sorted(seen) == list(range(height))
    assert threading.current_thread().name in names


def test_an_error_in_a_part_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    _, pool = host_kernels._threads()
    monkeypatch.setattr(host_kernels, '_threads', lambda: (4, pool))

    def kernel(first: int, last: int) -> None:
        if first:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_rows(kernel, 1000)


def test_scores_that_are_not_numbers_do_no_harm() -> None:
    logits = np.full((3, 4, 5), np.nan, np.float32)
    labels = np.full((20, 30), 77, np.uint8)
    choose_classes(0, 20, logits, IDS, labels)
    assert labels.max() < 5


def test_ties_go_to_the_first_class() -> None:
    logits = np.ones((3, 4, 5), np.float32)
    labels = np.full((20, 30), 77, np.uint8)
    choose_classes(0, 20, logits, IDS, labels)
    assert set(labels.ravel()) == {0}
