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

"""A verdict on figures, for continuous integration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any

FAILED = 3
"""Exit code of a command whose figures fell short."""


class GateError(ValueError):
    """A limit that can't be used; the message names it and what is allowed."""


@dataclass(frozen=True)
class Gate:
    """
    Thresholds that metrics must reach.

    Attributes
    ----------
    min_miou
        Lowest mean IoU, 0 to 1; None sets no limit.
    min_iou
        Lowest IoU by class name.
    baseline
        Figures of an earlier run (`EvaluationResult`'s JSON); None compares with nothing.
    max_regression
        How far mean IoU and the IoU of each class may be below the baseline's.

    """

    min_miou: float | None = None
    min_iou: Mapping[str, float] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    max_regression: float = 0.0

    def check_names(self, names: tuple[str, ...]) -> None:
        """
        See that all classes are there.

        Raises
        ------
        GateError
            A limit is for a class that the label map lacks.

        """
        for name in self.min_iou:
            if name not in names:
                raise GateError(
                    f"min-iou names the class '{name}'; allowed: {', '.join(names)}"
                )

    def shortfalls(self, figures: Mapping[str, Any]) -> list[str]:
        """
        List what fell short.

        Parameters
        ----------
        figures
            With `miou` and `iou`, fractions of 1 or None where undefined.

        """
        limits: dict[str, list[tuple[float, str]]] = {}
        if self.min_miou is not None:
            limits.setdefault('mIoU', []).append((self.min_miou, 'the limit'))
        for name, limit in self.min_iou.items():
            limits.setdefault(f'IoU of {name}', []).append((limit, 'the limit'))
        for what, value in _named(self.baseline or {}).items():
            if value is not None:
                text = f'the baseline {value:.4f} less {self.max_regression:g}'
                limits.setdefault(what, []).append((value - self.max_regression, text))
        found = []
        measured = _named(figures)
        for what, several in limits.items():
            value = measured.get(what)
            for limit, reason in several:
                if value is None:
                    found.append(f'{what} is undefined; needed: {limit:.4f} ({reason})')
                elif value < limit:
                    found.append(f'{what} is {value:.4f}; needed: {limit:.4f} ({reason})')
        return found


def read_baseline(path: Path) -> dict[str, Any]:
    """
    Read the figures of an earlier run.

    Raises
    ------
    GateError
        The file can't be read or is something else.

    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise GateError(f'baseline {path}: {error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('iou'), dict):
        raise GateError(f"baseline {path} is not a file that 'lednet evaluate --json' wrote")
    return content


def parse_limit(text: str) -> tuple[str, float]:
    """Split `CLASS=IOU`; raises GateError."""
    name, sign, value = text.rpartition('=')
    try:
        limit = float(value)
    except ValueError:
        limit = float('nan')
    if not sign or not name or not 0 <= limit <= 1:
        raise GateError(f"min-iou is '{text}'; it must be CLASS=IOU with 0 to 1, like road=0.9")
    return name, limit


def _named(figures: Mapping[str, Any]) -> dict[str, float | None]:
    iou = figures.get('iou', {})
    named = {f'IoU of {name}': value for name, value in iou.items()}
    if 'miou' in figures:
        named = {'mIoU': figures['miou'], **named}
    return named
