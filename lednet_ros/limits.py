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

"""Limits of sizes, for the whole package; imports nothing."""

MIN_SIZE = 64
"""Smallest height and width of a network's input: LEDNet's pyramid makes them 64 times smaller."""

MAX_SIZE = 8192
"""Largest height and width: a file that claims more than 8K is damaged or hostile."""
