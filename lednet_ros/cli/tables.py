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

"""Tables on the terminal, readable at 80 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

# Files and pipes have no width.
FILE_WIDTH = 140
TEXT_WIDTH = 32


def make_console() -> Console:
    """Return a console as wide as the terminal, or of `FILE_WIDTH` without one."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=FILE_WIDTH)


def print_rows(
    console: Console,
    rows: Sequence[Mapping[str, Any]],
    title: str = '',
    caption: str = '',
    transposed: bool = False,
) -> None:
    """
    Print rows as a table; columns that don't fit go into further tables below it.

    The first column names the row; None and missing values stay empty. `title` and `caption` are
    printed above and below. `transposed` prints a row per column: for few rows of many values.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [[column.replace('_', ' ') for column in columns]]
    lines += [[_text(row.get(column)) for column in columns] for row in rows]
    if transposed:
        lines = [list(line) for line in zip(*lines, strict=True)]
    name_width = min(max(len(line[0]) for line in lines), console.width // 3)
    limit = TEXT_WIDTH if len(lines[0]) > 2 else console.width - name_width - 2
    widths = [name_width]
    widths += [_width(cells, limit) for cells in list(zip(*lines, strict=True))[1:]]
    if title:
        console.print(title, style='bold', soft_wrap=True, markup=False)
    for block in _split(widths, console.width):
        table = Table(
            box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1)
        )
        for index in (0, *block):
            table.add_column(
                lines[0][index],
                width=widths[index],
                overflow='fold',
                justify='left' if not index or widths[index] >= TEXT_WIDTH else 'right',
            )
        for line in lines[1:]:
            table.add_row(*(line[index] for index in (0, *block)))
        console.print(table)
        console.print()
    if caption:
        console.print(caption, soft_wrap=True, markup=False)


def _width(cells: Sequence[str], limit: int) -> int:
    """Return the width of a column in characters; only its header breaks between words."""
    header, *values = cells
    lines = [line for value in values for line in value.splitlines()] + header.split()
    return min(max(map(len, lines), default=1), limit)


def _split(widths: Sequence[int], available: int) -> list[list[int]]:
    """Split the columns after the first into blocks that fit, as evenly as possible."""
    blocks = _fill(widths, available)
    for narrower in range(available - 1, 0, -1):
        candidate = _fill(widths, narrower)
        if len(candidate) > len(blocks) or max(map(len, candidate)) == 1:
            break
        blocks = candidate
    return blocks


def _fill(widths: Sequence[int], available: int) -> list[list[int]]:
    blocks: list[list[int]] = [[]]
    used = widths[0]
    for index, width in enumerate(widths[1:], 1):
        # Two spaces between columns.
        if blocks[-1] and used + width + 2 > available:
            blocks.append([])
            used = widths[0]
        blocks[-1].append(index)
        used += width + 2
    return blocks


def _text(value: object) -> str:
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def print_results(results: Mapping[str, Any]) -> None:
    """Print the rows of a benchmark, the machine, and what could not be measured."""
    from lednet_ros.benchmark.plots import describe_machine, describe_setup

    console = make_console()
    # There are few networks with many values each.
    transposed = 'ratios' in results
    caption = describe_machine(results['machine'])
    print_rows(console, results['rows'], describe_setup(results), caption, transposed)
    if 'device_rows' in results:
        caption = 'by the clock of the GPU, without copies to and from it'
        print_rows(console, results['device_rows'], 'on the device', caption)
    if transposed:
        print_rows(console, results['ratios'], 'divided by the first', transposed=True)
    for name, rate in results.get('peak_fps', {}).items():
        console.print(f'peak of {name}: {rate} frames/s')
    for name, value in results.get('trend', {}).items():
        console.print(f"{name.replace('_', ' ')}: {value}")
    if 'surprises' in results:
        console.print(f"results without a frame, or duplicates: {results['surprises']}")
    for name, reason in results.get('not_measured', {}).items():
        console.print(f'not measured: {name} ({reason})')
