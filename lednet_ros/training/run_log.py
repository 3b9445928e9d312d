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

"""The history of a training run: `history.csv` and TensorBoard's event files."""

from collections.abc import Sequence
import csv
import io
from pathlib import Path

from lednet_ros.files import atomic_path
import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

HISTORY_NAME = 'history.csv'

Row = dict[str, float | str | None]
"""Values of an epoch by name, None for an empty cell; `epoch` is its number, from 1."""


class RunLog:
    """
    The rows of all epochs, written into a folder after each epoch.

    Parameters
    ----------
    folder
        Folder for `history.csv` and `tensorboard/`.
    history
        Rows of the epochs before those of a resumed run.

    Raises
    ------
    OSError
        The folder can't be written.

    """

    def __init__(self, folder: Path, history: Sequence[Row] = ()) -> None:
        self._path = folder / HISTORY_NAME
        self.rows = list(history)
        self._write()
        # A resumed run replaces the events after the last complete epoch.
        self._events = SummaryWriter(str(folder / 'tensorboard'), purge_step=len(self.rows) + 1)

    def add(self, row: Row) -> None:
        """Add an epoch."""
        self.rows.append(row)
        self._write()
        epoch = row['epoch']
        for name, value in row.items():
            if name != 'epoch' and isinstance(value, (int, float)):
                self._events.add_scalar(name, value, epoch)
        self._events.flush()

    def images(self, tag: str, epoch: int, images: Sequence[NDArray[np.uint8]]) -> None:
        """Show images, (H, W, 3) uint8 RGB each, as a group of TensorBoard."""
        for index, image in enumerate(images):
            self._events.add_image(f'{tag}/{index}', image, epoch, dataformats='HWC')

    def close(self) -> None:
        """Close the event files."""
        self._events.close()

    def _write(self) -> None:
        text = io.StringIO(newline='')
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        writer = csv.DictWriter(text, columns or ['epoch'], lineterminator='\n')
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_path(self._path) as temporary:
            temporary.write_text(text.getvalue(), encoding='utf-8')
