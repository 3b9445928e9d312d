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

"""The newest frames of each camera, waiting for the network."""

from collections import deque
from dataclasses import dataclass
import threading
from typing import Any


@dataclass(frozen=True)
class Arrival:
    """
    A message that has arrived.

    Attributes
    ----------
    camera
        Index of the camera.
    message
        Image or CompressedImage.
    time
        When it arrived, seconds of `time.perf_counter`.

    """

    camera: int
    message: Any
    time: float


class FrameSlots:
    """
    One slot per camera between the executor's thread and the worker's.

    A new frame replaces the oldest one of a full slot, so latency stays bounded.

    Parameters
    ----------
    cameras
        Number of slots.
    depth
        Frames in each; with 1, the newest frame alone is ever processed.

    """

    def __init__(self, cameras: int, depth: int = 1) -> None:
        self._slots: list[deque[Arrival]] = [deque(maxlen=depth) for _ in range(cameras)]
        self._changed = threading.Condition()
        self._closed = False

    def put(self, arrival: Arrival) -> bool:
        """Put a frame into its slot; return whether it, or the one it replaces, was dropped."""
        with self._changed:
            if self._closed:
                return True
            slot = self._slots[arrival.camera]
            dropped = len(slot) == slot.maxlen
            slot.append(arrival)
            self._changed.notify()
        return dropped

    def take(self) -> list[Arrival] | None:
        """Wait for frames and take the oldest of every camera; return None after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(self._slots))
            return None if self._closed else [slot.popleft() for slot in self._slots if slot]

    def close(self) -> list[Arrival]:
        """Let `take` return, now and later; return the frames that it leaves."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return [arrival for slot in self._slots for arrival in slot]
