# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The demo: the real node at work, watched, measured and recorded."""
