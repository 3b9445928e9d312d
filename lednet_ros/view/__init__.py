# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A web page that shows what the network sees, for machines without rviz."""
