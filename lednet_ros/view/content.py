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


"""Content of the page, whatever shows it: a recording or a running node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Tile:
    """
    One image with its caption.

    Attributes
    ----------
    name
        Name of the image.
    version
        `Content.version` when it arrived.
    jpeg
        The image; empty while there is none.
    facts
        Names and values to print below it.
    age
        Age of the image in seconds; None for recordings.
    level
        'ok', 'warn' or 'error'.
    text
        What the level is about; empty if there is nothing to say.

    """

    name: str
    version: int = 0
    jpeg: bytes = b''
    facts: Sequence[tuple[str, str]] = ()
    age: float | None = None
    level: str = 'ok'
    text: str = ''


@dataclass(frozen=True)
class Position:
    """Position in a recording: index of a frame, number of frames, seconds from the first."""

    position: int
    count: int
    seconds: float
    playing: bool


@dataclass(frozen=True)
class Content:
    """
    All that the page shows.

    Attributes
    ----------
    version
        Increases with every change.
    level, text
        Health: 'ok', 'warn' or 'error', and why.
    tiles
        The images.
    classes
        Names and colors ('#rrggbb').
    fractions
        Fraction of the pixels of each class; empty if unknown.
    settings
        Values of the controls by name; the page hides the others.
    timeline
        None where there is nothing to go back to.

    """

    version: int
    level: str = 'ok'
    text: str = ''
    tiles: Sequence[Tile] = ()
    classes: Sequence[tuple[str, str]] = ()
    fractions: Sequence[float] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    timeline: Position | None = None


class Source(Protocol):
    """Fills the page."""

    def wait(self, after: int, timeout: float) -> Content:
        """Return content with a higher version, or the newest one after a timeout in seconds."""

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change settings; raise ValueError, with what is allowed, if one is refused."""
