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

"""What the modules of strange input share: how many inputs, and how to damage good ones."""

from collections.abc import Callable
import os
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get('FUZZ_EXAMPLES', '100'))
CAMPAIGN = 'FUZZ_EXAMPLES' in os.environ
CONFIG = Path(__file__).parents[2] / 'config'

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    # The same inputs in every run of the tests; new ones in a campaign.
    derandomize=not CAMPAIGN,
    database=None,
    suppress_health_check=list(HealthCheck),
)

# Where to change bytes (a fraction of the length), and into what.
changes = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)),
    min_size=1,
    max_size=6,
)


def damage(data: bytes, spots: list[tuple[float, bytes]], length: float) -> bytes:
    """Overwrite some bytes, and cut the data off at a fraction of its length."""
    result = bytearray(data)
    for place, content in spots:
        start = int(place * len(result))
        end = start + len(content)
        result[start:end] = content
    return bytes(result[: max(int(length * len(result)), 0)])


def attempt(work: Callable[[], Any], *errors: type[Exception]) -> Any:
    """Return the result of the work, None if it ended with one of the errors."""
    try:
        return work()
    except errors as error:
        # A message that helps nobody is a finding, too.
        assert len(str(error)) > 10
        return None
