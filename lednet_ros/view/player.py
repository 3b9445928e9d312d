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

"""Playback of a recording through the network in a loop, for the web page."""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
import logging
from pathlib import Path
import threading
import time

import cv2
from lednet_ros.inference.encodings import FrameError
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.recordings.bags import SourceError
from lednet_ros.recordings.sources import read_frames, RecordedFrame, Timeline
from lednet_ros.recordings.threads import prefetch
import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)
JPEG_QUALITY = 85
# Number of frames that the frame rate is averaged over.
RATE_FRAMES = 30
# Longer pauses in the recording are cut to this many seconds.
LONGEST_WAIT = 1.0


@dataclass(frozen=True)
class PageImage:
    """
    Content of the page.

    Attributes
    ----------
    number
        Number of the image, from 1; 0 before the first.
    jpeg
        The overlay.
    fractions
        Fraction of the pixels by class id.
    fps
        Images per second.
    milliseconds
        Time of the network for this frame.
    stamp
        Stamp of the frame in nanoseconds.
    problem
        Why playback ended; empty while it continues.

    """

    number: int = 0
    jpeg: bytes = b''
    fractions: Sequence[float] = ()
    fps: float = 0.0
    milliseconds: float = 0.0
    stamp: int = 0
    problem: str = ''


class Player:
    """Segments the frames of `read_frames` in a thread, at most at the pace of the recording."""

    def __init__(self, segmenter: Segmenter, source: Path, topic: str | None) -> None:
        self._segmenter = segmenter
        self._source = source
        self._topic = topic
        self._changed = threading.Condition()
        self._image = PageImage()
        self._paused = False
        self._stopping = False
        self._times: deque[float] = deque(maxlen=RATE_FRAMES)
        self._thread = threading.Thread(target=self._run, name='player', daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def wait(self, after: int, timeout: float) -> PageImage:
        """Return an image with a higher number, or the last one after a timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._image.number > after, timeout)
            return self._image

    def change(
        self, alpha: float | None, classes: Collection[str] | None, paused: bool | None
    ) -> None:
        """
        Change settings; None keeps one as it is.

        Raises
        ------
        ValueError
            Alpha is not 0 to 1, or a class does not exist.

        """
        with self._changed:
            if alpha is not None and not 0 <= alpha <= 1:
                raise ValueError(f'alpha is {alpha}; it must be 0 to 1')
            if classes is not None:
                self._segmenter.show_classes(classes)
            if alpha is not None:
                self._segmenter.overlay_alpha = alpha
            if paused is not None:
                self._paused = paused
            self._changed.notify_all()

    def _run(self) -> None:
        problem, named = '', 0
        while not self._stopping and not problem:
            lost: list[str] = []
            problem = self._play_once(lost)
            # Each round loses the same.
            for line in lost[named:]:
                logger.warning('lost: %s', line)
            named = max(named, len(lost))
        with self._changed:
            last = self._image
            self._image = PageImage(last.number + 1, last.jpeg, last.fractions, problem=problem)
            self._changed.notify_all()

    def _play_once(self, lost: list[str]) -> str:
        """Play the recording, add what is lost to a list; return why it can't be repeated."""
        count = 0
        timeline = Timeline(longest=LONGEST_WAIT)
        start = time.perf_counter()
        waited = 0.0
        try:
            for recorded in prefetch(read_frames(self._source, self._topic, lost)):
                count += 1
                due = start + waited + timeline.advance(recorded.stamp)
                with self._changed:
                    ahead = max(due - time.perf_counter(), 0.0)
                    self._changed.wait_for(lambda: self._stopping, ahead)
                    before = time.perf_counter()
                    self._changed.wait_for(lambda: self._stopping or not self._paused)
                    waited += time.perf_counter() - before
                    if self._stopping:
                        return ''
                self._show(recorded)
        except (SourceError, FrameError, OSError) as error:
            return str(error)
        return '' if count else '; '.join(lost) or f'{self._source} has no frames'

    def _show(self, recorded: RecordedFrame) -> None:
        with self._changed:
            # Settings must not change while a frame is drawn.
            start = time.perf_counter()
            result = self._segmenter.segment([recorded.frame], confidence=False)
            elapsed = 1e3 * (time.perf_counter() - start)
            assert result.overlay is not None
            overlay: NDArray[np.uint8] = result.overlay[0]
            if recorded.frame.color_order == 'rgb':
                overlay = np.ascontiguousarray(overlay[..., ::-1])
            _, data = cv2.imencode('.jpg', overlay, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            counts = np.bincount(result.labels[0].ravel(), minlength=256)
            fractions = (counts[[*self._segmenter.label_map.ids]] / counts.sum()).tolist()
            now = time.perf_counter()
            self._times.append(now)
            span = now - self._times[0]
            fps = (len(self._times) - 1) / span if span > 0 else 0.0
            self._image = PageImage(
                self._image.number + 1, data.tobytes(), fractions, fps, elapsed, recorded.stamp
            )
            self._changed.notify_all()
