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

"""Export of networks to ONNX."""

import torch
from torch import nn, Tensor


def export_onnx(
    network: nn.Module, example: Tensor, input_name: str, output_name: str,
    opset: int | None = None,
) -> bytes:
    """
    Export a network in evaluation mode, with one input and one output.

    The shape and dtype of the example become those of the file's input; without an opset version,
    PyTorch chooses it. Raises ImportError if onnxscript is not installed.
    """
    program = torch.onnx.export(
        network,
        (example,),
        input_names=[input_name],
        output_names=[output_name],
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
