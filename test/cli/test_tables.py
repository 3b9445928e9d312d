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

"""Tests of tables on the terminal."""

import io

from lednet_ros.cli.tables import print_rows
import pytest
from rich.console import Console


def draw(rows: list[dict[str, object]], width: int = 80, **options: object) -> list[str]:
    file = io.StringIO()
    print_rows(Console(file=file, width=width, highlight=False), rows, **options)
    return file.getvalue().splitlines()


@pytest.mark.parametrize('columns', [1, 2, 3, 12, 40])
@pytest.mark.parametrize('rows', [1, 5])
@pytest.mark.parametrize('transposed', [False, True])
def test_no_value_is_cut_at_80_columns(columns: int, rows: int, transposed: bool) -> None:
    table = [
        {
            'name': f'row number {row}',
            **{f'column_{column}_ms': 1000.0 * row + column for column in range(columns)},
        }
        for row in range(rows)
    ]
    lines = draw(table, title='a title', caption='a caption', transposed=transposed)
    assert max(map(len, lines)) <= 80
    assert lines[0] == 'a title'
    assert lines[-1] == 'a caption'
    words = ' '.join(lines).split()
    for entry in table:
        for value in list(entry.values())[1:]:
            assert f'{value:.4g}' in words


def test_long_texts_are_folded_and_missing_values_empty() -> None:
    rows = [
        {'fault': 'flood', 'survived': True, 'note': 'received all, ' * 6},
        {'fault': 'overload', 'survived': False, 'lost': None},
    ]
    lines = draw(rows)
    # Scripts look for a row by its start.
    assert sum(line.startswith('flood') for line in lines) == 1
    text = ' '.join(' '.join(lines).split())
    assert max(map(len, lines)) <= 80
    assert 'yes' in text
    assert 'None' not in text
    assert text.count('received') == 6


def test_terminal_may_be_narrower_than_a_column() -> None:
    assert draw([{'name': 'a' * 30, 'value': 'b' * 40, 'other': 'c' * 40}], width=20)
