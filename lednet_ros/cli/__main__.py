# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Lets `python -m lednet_ros.cli` run the `lednet` command."""

import sys

from lednet_ros.cli.main import main

sys.exit(main())
