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

"""Plots of the results of benchmarks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
import textwrap
from typing import Any

from lednet_ros.files import atomic_path

CAPTION_WIDTH = 120


def plot_results(results: Mapping[str, Any], path: Path) -> None:
    """Draw a benchmark: bars of medians with their spread, or latencies by rate or cameras."""
    from matplotlib.figure import Figure

    rows = results['rows']
    if 'ratios' in results:
        rows = _medians(rows)
    bars = len(rows) if 'median_ms' in rows[0] else 8
    figure = Figure(figsize=(9, 1.2 + 0.36 * max(bars, 6)), layout='constrained')
    axes = figure.subplots()
    if 'median_ms' in rows[0]:
        _draw_bars(axes, rows[::-1])
    elif 'frames' in rows[0]:
        _draw_memory(axes, rows)
    else:
        _draw_lines(axes, rows)
    caption = textwrap.fill(describe_machine(results['machine']), CAPTION_WIDTH)
    figure.suptitle(f'{describe_setup(results)}\n{caption}', fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:] or 'png', dpi=120)


def _medians(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each backend and network, grouped by backend."""
    ways = [key for key in rows[0] if key.endswith(' ms')]
    return [
        {'name': f"{way.removesuffix(' ms')}: {row['name']}", 'median_ms': row[way]}
        for way in ways
        for row in rows
    ]


def _draw_bars(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    medians = [row['median_ms'] for row in rows]
    label = 'milliseconds per frame'
    spread = None
    if 'p95_ms' in rows[0]:
        label += '; whiskers from the 5th to the 95th percentile'
        spread = [
            [row['median_ms'] - row['p5_ms'] for row in rows],
            [row['p95_ms'] - row['median_ms'] for row in rows],
        ]
    bars = axes.barh([row['name'] for row in rows], medians, xerr=spread, capsize=2)
    axes.bar_label(bars, [f' {median:.1f} ms' for median in medians], padding=4)
    axes.set_xlabel(label)
    axes.margins(x=0.15)


def _draw_memory(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    frames = [row['frames'] for row in rows]
    axes.plot(frames, [row['rss_mib'] for row in rows], '-o', label='resident memory')
    axes.set_xlabel('frames')
    axes.set_ylabel('memory [MiB]')
    axes.set_ylim(bottom=0)
    latency = axes.twinx()
    latency.plot(frames, [row['p99_ms'] for row in rows], '--', color='tab:orange', label='p99')
    latency.set_ylabel('latency, 99th percentile [ms]')
    latency.set_ylim(bottom=0)
    axes.figure.legend(loc='outside lower center', ncols=2)


def _draw_lines(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    x = 'rate' if 'rate' in rows[0] else 'cameras'
    for name in dict.fromkeys(row.get('name', '') for row in rows):
        shown = [row for row in rows if row.get('name', '') == name and 'p50_ms' in row]
        for key, style in (('p50_ms', '-o'), ('p99_ms', '--o')):
            label = f"{name} {key.removesuffix('_ms')}".strip()
            axes.plot([row[x] for row in shown], [row[key] for row in shown], style, label=label)
    axes.set_xlabel('frames sent per second' if x == 'rate' else 'cameras at 30 Hz')
    axes.set_ylabel('latency [ms]')
    axes.set_yscale('log')
    axes.legend()


def describe_setup(results: Mapping[str, Any]) -> str:
    """Return a title: benchmark, network and sizes."""
    words = [f"{results['benchmark']}:"]
    if 'network' in results:
        words.append(f"{results['network']}, {results['classes']} classes,")
    for key, name in (('frame_size', 'frames'), ('input_size', 'network')):
        if key in results:
            words.append(f"{name} {'x'.join(map(str, results[key]))},")
    return ' '.join(words).rstrip(',')


def describe_machine(machine: Mapping[str, Any]) -> str:
    """Return processor, threads and versions, as a caption."""
    packages = ', '.join(f'{name} {number}' for name, number in machine['versions'].items())
    gpu = f"{machine['gpu']}; " if machine['gpu'] else ''
    return f"{gpu}{machine['processor']}, {machine['threads']} threads; {packages}"
