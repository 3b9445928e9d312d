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

"""Tests of the slots: the newest frames, one slot per camera."""

import threading

from lednet_ros.ros.slots import Arrival, FrameSlots
import pytest

pytestmark = pytest.mark.ros


def test_new_frame_replaces_only_an_unprocessed_one_of_its_camera() -> None:
    slots = FrameSlots(2)
    assert not slots.put(Arrival(0, 'old', 0.0))
    assert not slots.put(Arrival(1, 'other', 0.0))
    assert slots.put(Arrival(0, 'new', 1.0))
    batch = slots.take()
    assert batch is not None
    assert [arrival.message for arrival in batch] == ['new', 'other']


def test_deep_slots_keep_the_newest_frames_in_order() -> None:
    slots = FrameSlots(2, depth=2)
    dropped = [slots.put(Arrival(0, number, 0.0)) for number in range(3)]
    assert dropped == [False, False, True]
    slots.put(Arrival(1, 'other', 0.0))
    batches = [slots.take(), slots.take()]
    found = [[arrival.message for arrival in batch or []] for batch in batches]
    assert found == [[1, 'other'], [2]]
    slots.put(Arrival(0, 3, 0.0))
    assert [arrival.message for arrival in slots.close()] == [3]


def test_take_waits_for_a_frame() -> None:
    slots = FrameSlots(1)
    taken: list[object] = []
    thread = threading.Thread(target=lambda: taken.append(slots.take()))
    thread.start()
    assert not taken
    slots.put(Arrival(0, 'frame', 0.0))
    thread.join(10)
    assert len(taken) == 1


def test_close_ends_the_wait_and_drops_later_frames() -> None:
    slots = FrameSlots(1)
    taken: list[object] = []
    thread = threading.Thread(target=lambda: taken.append(slots.take()))
    thread.start()
    slots.close()
    thread.join(10)
    assert taken == [None]
    assert slots.put(Arrival(0, 'late', 0.0))
    assert slots.take() is None
