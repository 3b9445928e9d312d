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

"""Tests of interleaved timing."""

from lednet_ros.benchmark.measure import describe_machine, summarize, time_interleaved


def test_functions_are_interleaved() -> None:
    calls: list[tuple[str, int]] = []
    times = time_interleaved(
        {name: lambda number, name=name: calls.append((name, number)) for name in 'ab'}, 3
    )
    assert {name: len(values) for name, values in times.items()} == {'a': 3, 'b': 3}
    assert all(value >= 0 for values in times.values() for value in values)
    # Two calls each to warm up, then interleaved.
    assert ''.join(name for name, _ in calls) == 'aabb' + 'ab' * 3
    assert [number for _, number in calls[4:]] == [0, 0, 1, 1, 2, 2]


def test_summary() -> None:
    assert summarize([5.0, 1.0, 3.0]) == {'median_ms': 3.0, 'p5_ms': 1.2, 'p95_ms': 4.8}


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert machine['processor']
    assert machine['cores'] >= 1
    assert machine['threads'] >= 1
    assert {'lednet_ros', 'python', 'torch', 'numpy', 'opencv'} <= set(machine['versions'])
