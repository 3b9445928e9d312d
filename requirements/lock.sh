#!/usr/bin/env bash
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
#
# Writes the lock files of this folder: all packages that `make setup` installs (main.txt, ros.txt)
# and those of `make audit` (tools.txt), with versions and hashes. One lock for each build of torch, as no marker tells the
# package index's (CUDA) from the one for the CPU. Needs uv.
set -euo pipefail
cd "$(dirname "$0")"
UV=${UV:-uv}
# torch-2.13.0+cpu, which the package index doesn't have: the wheel of Python 3.11.
CPU_HASHES='sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b'
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

compile() {  # a file of its own instead of --output-file: uv would keep the versions in it
  "$UV" pip compile --quiet --no-header --no-annotate --universal --python-version 3.10 \
    --generate-hashes --constraint "$tmp/typing" "$@"
}

# Without markers that hold wherever `make setup` works.
plain() {
  sed -E "/^[a-z0-9]/{
    s/ and (platform_machine == 'x86_64'|sys_platform == 'linux'|platform_python_implementation (==|!=) '[A-Za-z]+')//g
    s/ and python_full_version < '3\.13'//
    s/ ; python_full_version < '3\.13'( \\\\)?$/\1/
  }"
}

header='# Written by `make lock` from'
# uv ignores upper bounds in requires-python; pip does not.
echo 'typing<3.10' > "$tmp/typing"
compile main.txt ros.txt > "$tmp/both"
{
  echo "$header ros.txt."
  compile ros.txt --constraint "$tmp/both" | plain
} > "$tmp/ros.lock"
{
  echo "$header tools.txt."
  compile tools.txt | plain
} > "$tmp/tools.lock"
compile main.txt --constraint "$tmp/both" | plain > "$tmp/all"
echo "$header main.txt: all but torch." > "$tmp/main.lock"
echo "$header main.txt: torch with the CUDA libraries that it needs." > "$tmp/torch-cuda.lock"
awk -v folder="$tmp" '
  /^[a-z0-9]/ { cuda = /^(torch==|nvidia-|cuda-)/ }
  { print >> (folder "/" (cuda ? "torch-cuda.lock" : "main.lock")) }' "$tmp/all"
version=$(sed -nE 's/^torch==([0-9.]+).*/\1/p' "$tmp/all")
{
  echo "$header main.txt: torch for the CPU."
  printf 'torch==%s+cpu' "$version"
  printf ' \\\n    --hash=%s' $CPU_HASHES
  echo
} > "$tmp/torch-cpu.lock"
mv "$tmp"/*.lock .
