# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Results for people: a table on the terminal, a plot in a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lednet_ros.files import atomic_path
from rich.console import Console
from rich.table import Table

FILE_WIDTH = 140


def print_results(results: Mapping[str, Any]) -> None:
    """Print a benchmark's rows, and what they were measured on."""
    console = Console()
    if not console.is_terminal:
        # A file or a pipe has no width to keep to.
        console = Console(width=FILE_WIDTH)
    machine = results['machine']
    table = Table(title=_title(results), caption=_caption(machine))
    columns = list(results['rows'][0])
    for number, column in enumerate(columns):
        table.add_column(column.replace('_', ' '), justify='right' if number else 'left')
    for row in results['rows']:
        table.add_row(*(_text(row[column]) for column in columns))
    console.print(table)
    for name, reason in results.get('not_measured', {}).items():
        console.print(f'not measured: {name} ({reason})', highlight=False)


def plot_results(results: Mapping[str, Any], path: Path) -> None:
    """Draw a benchmark's medians as bars, with the spread from the 5th to the 95th percentile."""
    from matplotlib.figure import Figure

    rows = results['rows'][::-1]
    figure = Figure(figsize=(9, 1.2 + 0.36 * len(rows)), layout='constrained')
    axes = figure.subplots()
    medians = [row['median_ms'] for row in rows]
    spread = [
        [row['median_ms'] - row['p5_ms'] for row in rows],
        [row['p95_ms'] - row['median_ms'] for row in rows],
    ]
    bars = axes.barh([row['name'] for row in rows], medians, xerr=spread, capsize=2)
    axes.bar_label(bars, [f' {median:.1f} ms' for median in medians], padding=4)
    axes.set_xlabel('milliseconds a frame')
    axes.set_title(f"{_title(results)}\n{_caption(results['machine'])}", fontsize=9)
    axes.margins(x=0.15)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:] or 'png', dpi=120)


def _title(results: Mapping[str, Any]) -> str:
    words = [f"{results['benchmark']}:"]
    if 'network' in results:
        words.append(f"{results['network']}, {results['classes']} classes,")
    for key, name in (('frame_size', 'frames'), ('input_size', 'network')):
        if key in results:
            words.append(f"{name} {'x'.join(map(str, results[key]))},")
    return ' '.join(words).rstrip(',')


def _caption(machine: Mapping[str, Any]) -> str:
    packages = ', '.join(f'{name} {number}' for name, number in machine['versions'].items())
    gpu = f"{machine['gpu']}; " if machine['gpu'] else ''
    return f"{gpu}{machine['processor']}, {machine['threads']} threads; {packages}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return f'{value:.2f}' if isinstance(value, float) else str(value)
