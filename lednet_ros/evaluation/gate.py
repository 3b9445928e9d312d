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

"""Limits that metrics must keep, for continuous integration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any

FAILED = 3
"""Exit code of a command whose metrics are below their limits."""


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
        Metrics of an earlier run, the JSON of `lednet evaluate`; None sets no limit.
    max_regression
        How far mean IoU and the IoU of each class may be below the baseline's.

    """

    min_miou: float | None = None
    min_iou: Mapping[str, float] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    max_regression: float = 0.0

    def check_names(self, names: tuple[str, ...]) -> None:
        """Check that all classes exist; raises GateError for one that the label map lacks."""
        for name in self.min_iou:
            if name not in names:
                raise GateError(f"min-iou names the class '{name}'; allowed: {', '.join(names)}")

    def __bool__(self) -> bool:
        """Return whether there is any limit."""
        return self.min_miou is not None or bool(self.min_iou or self.baseline)

    def shortfalls(self, metrics: Mapping[str, Any]) -> list[str]:
        """
        List the metrics below their limits.

        Parameters
        ----------
        metrics
            With `miou` and `iou`, fractions of 1 or None where undefined.

        """
        limits = [] if self.min_miou is None else [('mIoU', self.min_miou, 'the limit')]
        limits += [(f'IoU of {name}', low, 'the limit') for name, low in self.min_iou.items()]
        limits += [
            (name, value - self.max_regression,
             f'the baseline {value:.4f} less {self.max_regression:g}')
            for name, value in _by_name(self.baseline or {}).items()
            if value is not None
        ]
        measured = _by_name(metrics)
        found = []
        for name, limit, reason in limits:
            value = measured.get(name)
            if value is None or value < limit:
                shown = 'undefined' if value is None else f'{value:.4f}'
                found.append(f'{name} is {shown}; needed: {limit:.4f} ({reason})')
        return found


def read_baseline(path: Path) -> dict[str, Any]:
    """Read the metrics of an earlier run; raises GateError if the file holds none."""
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


def _by_name(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    iou = {f'IoU of {name}': value for name, value in metrics.get('iou', {}).items()}
    return {'mIoU': metrics['miou'], **iou} if 'miou' in metrics else iou
