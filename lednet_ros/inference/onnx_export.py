# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks as ONNX files."""

from pathlib import Path
import tempfile

import torch
from torch import nn, Tensor


def export_onnx(network: nn.Module, example: Tensor, input_name: str, output_name: str) -> bytes:
    """
    Export a network with a fixed input size.

    Parameters
    ----------
    network
        In evaluation mode, with one input and one output.
    example
        Input; its shape and dtype become those of the file.
    input_name, output_name
        Their names in the file.

    Returns
    -------
    bytes
        The ONNX file.

    Raises
    ------
    ImportError
        onnxscript is not installed.

    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'network.onnx'
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=[input_name],
            output_names=[output_name],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()
