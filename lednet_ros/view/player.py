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

"""Playback of a recording through the network, for the web page."""

from collections import deque
from collections.abc import Mapping
import contextlib
from dataclasses import dataclass, field
import threading
import time
from typing import Any

import cv2
from lednet_ros.evaluation.ground_truth import prepare_truth
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.inference.postprocess import blend
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.recordings.bags import format_stamp, SourceError
from lednet_ros.recordings.sources import Timeline
from lednet_ros.recordings.threads import prefetch
from lednet_ros.view.content import Content, Position, Tile
from lednet_ros.view.recording import PlayedFrame, Recording
import numpy as np
from numpy.typing import NDArray

JPEG_QUALITY = 85
# Number of frames that the frame rate is averaged over.
RATE_FRAMES = 30
# Longer pauses in the recording are cut to this many seconds.
LONGEST_WAIT = 1.0
SEGMENTER_SETTINGS = ('overlay_alpha', 'min_confidence', 'overlay_classes')

Pixels = NDArray[np.uint8]


@dataclass
class _Shown:
    """What the last frame left on the page."""

    tiles: tuple[Tile, ...] = (Tile('overlay'),)
    fractions: list[float] = field(default_factory=list)
    position: int = 0
    stamp: int = 0
    problem: str = ''


class Player:
    """
    Segments the frames of a recording in a thread, at most at its pace, over and over.

    Parameters
    ----------
    segmenter
        The segmenter; nothing else may use it.
    recording
        The recording.

    """

    def __init__(self, segmenter: Segmenter, recording: Recording) -> None:
        self._segmenter = segmenter
        self._recording = recording
        self._classes = [(each.name, each.web_color) for each in segmenter.label_map.labels]
        # Guards the following, and the segmenter's settings while a frame is drawn.
        self._changed = threading.Condition()
        self._version = 0
        self._shown = _Shown()
        self._last: PlayedFrame | None = None
        self._first_stamp: int | None = None
        self._ended = self._scan_problem = ''
        self._playing = True
        self._stopping = False
        # Where to go on, if not at the next frame; and whether to draw the same frame again.
        self._target: int | None = None
        self._redraw = False
        self._times: deque[float] = deque(maxlen=RATE_FRAMES)
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (('player', self._run), ('scan', self._scan))
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop playing."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._threads[0].join()

    def wait(self, after: int, timeout: float) -> Content:
        """Return content with a higher version, or the newest one after a timeout in seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > after, timeout)
            shown, count = self._shown, self._recording.count
            problem = self._ended or self._scan_problem or shown.problem
            start = shown.stamp if self._first_stamp is None else self._first_stamp
            timeline = Position(
                shown.position, count, (shown.stamp - start) / 1e9, self._playing
            )
            return Content(
                self._version,
                level='error' if self._ended else 'warn' if problem else 'ok',
                text=problem,
                tiles=shown.tiles,
                classes=self._classes,
                fractions=shown.fractions,
                settings={name: getattr(self._segmenter.options, name)
                          for name in SEGMENTER_SETTINGS},
                timeline=timeline,
            )

    def change(self, changes: Mapping[str, Any]) -> None:
        """
        Change settings.

        Parameters
        ----------
        changes
            Options of the segmenter; `playing`; `position` or `step`, which also pause.

        Raises
        ------
        ValueError
            A value is refused; nothing changes then.

        """
        with self._changed:
            drawing = {k: v for k, v in changes.items() if k in SEGMENTER_SETTINGS}
            moves = {k: v for k, v in changes.items() if k not in SEGMENTER_SETTINGS}
            playing = moves.pop('playing', None)
            if playing is not None and not isinstance(playing, bool):
                raise ValueError(f'playing is {playing!r}; allowed: true, false')
            target = self._find_target(moves)
            if drawing:
                self._segmenter.update(**drawing)
            if target is not None:
                self._target, self._playing = target, False
            if playing is not None:
                self._playing = playing
                self._times.clear()
            self._redraw |= bool(drawing)
            self._publish()

    def _find_target(self, moves: dict[str, Any]) -> int | None:
        count = self._recording.count
        target = None
        for name, value in moves.items():
            if name not in ('position', 'step'):
                allowed = ', '.join((*SEGMENTER_SETTINGS, 'playing', 'position', 'step'))
                raise ValueError(f"there is no setting '{name}'; allowed: {allowed}")
            if type(value) is not int:
                raise ValueError(f'{name} is {value!r}; it must be an integer')
            here = self._shown.position if self._target is None else self._target
            target = value if name == 'position' else here + value
        if target is None:
            return None
        if not count:
            raise ValueError('only what has been recorded has positions to go to')
        return min(max(target, 0), count - 1)

    def _publish(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _scan(self) -> None:
        problem = ''
        try:
            self._recording.scan()
        except (SourceError, OSError) as error:
            problem = str(error)
        with self._changed:
            self._scan_problem = problem
            self._publish()

    def _run(self) -> None:
        while not self._stopping:
            with self._changed:
                first, self._target, self._ended = self._target or 0, None, ''
            try:
                self._play(first)
            except (SourceError, FrameError, OSError) as error:
                with self._changed:
                    self._ended, self._playing = str(error), False
                    self._publish()
            # At the end of the recording a paused player waits.
            self._hold(0.0)

    def _play(self, first: int) -> None:
        """Play from a position to the end of the recording, or until there is a jump."""
        with contextlib.closing(prefetch(self._recording.frames(first))) as frames:
            timeline = Timeline(longest=LONGEST_WAIT)
            last: float | None = None
            due = 0.0
            for played in frames:
                seconds = timeline.advance(played.stamp)
                if last is not None:
                    due = max(due + seconds - last, time.perf_counter())
                    if not (self._hold(due) or self._steps_to(played.index)):
                        return
                self._show(played)
                last = seconds
        if first == 0 and last is None:
            raise SourceError(f'{self._recording.path} has no frames')

    def _hold(self, due: float) -> bool:
        """Wait until the player plays and the time has come; return False at a jump."""
        while True:
            with self._changed:
                if self._stopping or self._target is not None:
                    return False
                left = due - time.perf_counter()
                if not self._redraw:
                    if self._playing and left <= 0:
                        return True
                    self._changed.wait(left if self._playing else None)
                    continue
                self._redraw = False
                if self._last is not None:
                    self._draw(self._last)

    def _steps_to(self, index: int) -> bool:
        """Return whether the jump leads to the frame that is read next anyway, and take it."""
        with self._changed:
            if self._stopping or self._target != index:
                return False
            self._target = None
            return True

    def _show(self, played: PlayedFrame) -> None:
        with self._changed:
            self._last = played
            self._times.append(time.perf_counter())
            if played.index == 0:
                self._first_stamp = played.stamp
            self._draw(played)

    def _draw(self, played: PlayedFrame) -> None:
        """Draw a frame; the lock is held, as settings must not change meanwhile."""
        self._publish()
        shown = _Shown(
            self._shown.tiles, self._shown.fractions, played.index, played.stamp, played.problem
        )
        if played.frame is not None:
            start = time.perf_counter()
            result = self._segmenter.segment([played.frame], confidence=False)
            elapsed = 1e3 * (time.perf_counter() - start)
            assert result.overlay is not None
            labels = result.labels[0]
            counts = np.bincount(labels.ravel(), minlength=256)
            ids = [*self._segmenter.label_map.ids]
            shown.fractions = (counts[ids] / counts.sum()).tolist()
            span = self._times[-1] - self._times[0] if self._times else 0.0
            rate = f'{(len(self._times) - 1) / span:.1f} frames/s' if span > 0 else '-'
            facts = [('rate', rate), ('network', f'{elapsed:.1f} ms'),
                     ('stamp', f'{format_stamp(played.stamp)} s')]
            jpeg = _encode(result.overlay[0], played.frame.color_order)
            tiles = [Tile('overlay', self._version, jpeg, facts)]
            if self._recording.has_truth:
                tiles.append(self._draw_truth(played.frame, played.truth, labels))
            shown.tiles = tuple(tiles)
        self._shown = shown

    def _draw_truth(self, frame: Frame, truth: Pixels | None, labels: Pixels) -> Tile:
        name = 'ground truth'
        if truth is None:
            return Tile(name, self._version, text='none for this frame')
        label_map = self._segmenter.label_map
        facts: list[tuple[str, str]] = []
        try:
            truth = prepare_truth(truth, label_map, self._segmenter.crop)
            confusion = ConfusionMatrix(label_map)
            confusion.update(truth, labels)
        except ValueError as error:
            # Another size, or an id that is no class.
            return Tile(name, self._version, level='error', text=str(error))
        if confusion.counts.any():
            facts = [('accuracy', f'{100 * confusion.pixel_accuracy():.1f} %'),
                     ('mIoU', f'{100 * confusion.miou():.1f} %')]
        palette = label_map.palette
        if frame.color_order == 'bgr':
            palette = np.ascontiguousarray(palette[:, ::-1])
        painted = np.empty((*truth.shape, 3), np.uint8)
        alpha = self._segmenter.overlay_alpha
        visible = np.zeros(256, np.uint8)
        visible[[*label_map.ids]] = 255
        blend(frame.pixels, truth, palette, alpha, visible, painted)
        return Tile(name, self._version, _encode(painted, frame.color_order), facts)


def _encode(pixels: Pixels, color_order: str) -> bytes:
    if color_order == 'rgb':
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    _, data = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()
