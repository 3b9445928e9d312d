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

"""
Write the lock files of this folder: every package with its version and hashes.

Versions that the lock files hold already are kept unless a .txt file asks for another one, or
`--upgrade` for the newest of all.
"""

import argparse
from pathlib import Path
import re
import subprocess
import sys
import tempfile

FOLDER = Path(__file__).resolve().parent
# torch 2.13.0+cpu isn't on the default package index, so no tool finds its hashes. Those of the
# wheels for x86-64 Linux and Python 3.11, 3.12 and 3.13; the one for Python 3.10 is not known.
TORCH_CPU_HASHES = {
    '2.13.0': (
        '6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b',
        '4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2',
        '3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6',
    )
}
# What comes with PyTorch's CUDA build only.
CUDA = re.compile(r'(torch|triton)==|(nvidia|cuda)-')
# Clauses of markers that hold wherever `make setup` works.
TRUE_CLAUSES = re.compile(
    r" and (platform_machine == 'x86_64'|sys_platform == 'linux'"
    r"|platform_python_implementation (==|!=) '[A-Za-z]+'|python_full_version < '3\.14')"
)
TRUE_MARKER = re.compile(r" ; python_full_version < '3\.14'(?= \\$)", re.MULTILINE)


def compile_lock(uv: str, sources: list[str], constraints: Path, preferred: str) -> list[str]:
    """
    Solve for some of the .txt files.

    Parameters
    ----------
    uv
        The program that solves.
    sources
        Names of .txt files, without the ending.
    constraints
        File with versions that must hold.
    preferred
        Text of a lock whose versions are kept where possible.

    Returns
    -------
    list of str
        An entry for each package: its pinned version, marker and hashes.

    """
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, 'lock.txt')
        output.write_text(preferred, encoding='utf-8')
        command = [uv, 'pip', 'compile', '--quiet', '--no-header', '--no-annotate', '--universal']
        command += ['--python-version', '3.10', '--generate-hashes', '--no-emit-index-url']
        command += ['--constraint', str(constraints), '--output-file', str(output)]
        subprocess.run([*command, *(f'{name}.txt' for name in sources)], cwd=FOLDER, check=True)
        text = output.read_text(encoding='utf-8')
    text = TRUE_MARKER.sub('', TRUE_CLAUSES.sub('', text))
    return re.findall(r'^\S.*\n(?:    .*\n)*', text, re.MULTILINE)


def write_lock(name: str, content: str, entries: list[str]) -> None:
    """Write one lock file; content says what is in it."""
    temporary = FOLDER / f'{name}.lock.part'
    header = f'# Written by `make lock`: {content}.\n'
    temporary.write_text(header + ''.join(entries), encoding='utf-8')
    temporary.replace(FOLDER / f'{name}.lock')


def main() -> int:
    """Write all lock files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--uv', default='uv', help='the program that solves')
    parser.add_argument('--upgrade', action='store_true', help='take the newest versions')
    arguments = parser.parse_args()
    locks = [] if arguments.upgrade else sorted(FOLDER.glob('*.lock'))
    preferred = ''.join(
        path.read_text(encoding='utf-8') for path in locks if path.stem != 'torch-cpu'
    )
    with tempfile.TemporaryDirectory() as scratch:
        # uv ignores upper bounds in requires-python; pip does not.
        constraints = Path(scratch, 'constraints.txt')
        constraints.write_text('typing<3.10\n', encoding='utf-8')

        def solve(*sources: str) -> list[str]:
            return compile_lock(arguments.uv, list(sources), constraints, preferred)

        together = solve('run', 'dev', 'ros-jazzy')
        constraints.write_text(
            'typing<3.10\n'
            + ''.join(
                entry.partition(' \\\n')[0] + '\n'
                for entry in together
                if not entry.startswith('ros-')
            ),
            encoding='utf-8',
        )
        run = solve('run')
        needed = [entry for entry in run if not CUDA.match(entry)]
        developed = [entry for entry in solve('run', 'dev') if entry not in run]
        triton = [entry for entry in run if entry.startswith('triton==')]
        write_lock('run', 'run.txt, all but torch', needed)
        write_lock('dev', 'dev.txt, what run.lock lacks', sorted(developed + triton))
        for name in ('ros-jazzy', 'ros-kilted'):
            write_lock(name, f'{name}.txt', solve(name))
        write_lock('tools', 'tools.txt', solve('tools'))
        write_lock(
            'torch-cuda',
            'torch of run.txt, with the CUDA libraries that it needs',
            [entry for entry in run if CUDA.match(entry)],
        )
    version = next(
        found[1] for entry in run if (found := re.match(r'torch==([\d.]+)', entry))
    )
    if version not in TORCH_CPU_HASHES:
        sys.exit(f'the hashes of torch {version}+cpu are not in {Path(__file__).name}')
    hashes = ''.join(f' \\\n    --hash=sha256:{value}' for value in TORCH_CPU_HASHES[version])
    write_lock(
        'torch-cpu', 'torch of run.txt for the CPU', [f'torch=={version}+cpu{hashes}\n']
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
