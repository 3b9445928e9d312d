# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames in; labels, confidence and pictures out: one interface over several backends."""

import sys

# With this package OpenVINO and NNCF report their use to a server, from a forked process. A fork
# of a process with threads may hang; then the node never ends, and is in the graph twice. Without
# it they report nothing.
sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
