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

"""Labeled frames of the synthetic street."""

from collections.abc import Iterator

from lednet_ros.datasets.frames import DatasetError, LabeledFrame
from lednet_ros.labels import LabelMap
from lednet_ros.synthetic import CLASS_NAMES, StreetScene
import numpy as np
from tqdm import tqdm


def synthetic_frames(
    count: int, size: tuple[int, int], seed: int, frames_per_street: int = 1
) -> Iterator[LabeledFrame]:
    """
    Draw frames of many different synthetic streets.

    Parameters
    ----------
    count
        Number of frames.
    size
        Height and width in pixels.
    seed
        Determines the frames.
    frames_per_street
        Frames at random times in each street; creating a street costs as much as ten frames.

    """
    rng = np.random.default_rng(seed)
    height, width = size
    for index in range(count):
        if index % frames_per_street == 0:
            scene = StreetScene(width, height, seed=int(rng.integers(1 << 31)))
        pixels, labels = scene.render(float(rng.uniform(0, 60)))
        yield LabeledFrame(f'street_{seed}_{index}', pixels, labels)


class SyntheticDataset:
    """
    Frames of `synthetic_frames`, all drawn at creation and kept in memory.

    Raises DatasetError if the label map has other classes than the synthetic street.
    """

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        seed: int,
        label_map: LabelMap,
        frames_per_street: int = 4,
    ) -> None:
        if label_map.names != CLASS_NAMES:
            raise DatasetError(
                f"label map is '{label_map.name}'; synthetic streets have the classes of 'camvid'"
            )
        self.label_map = label_map
        frames = synthetic_frames(count, size, seed, frames_per_street)
        progress = tqdm(frames, desc='draw streets', total=count, unit='frame', leave=False)
        self._frames: list[LabeledFrame] = list(progress)

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> LabeledFrame:
        """Return a frame."""
        return self._frames[index]

    def source(self, index: int) -> str:
        """Return a frame's name for messages."""
        return f'synthetic {self._frames[index].name}'
