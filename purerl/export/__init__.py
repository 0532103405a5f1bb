"""Saved policies for use without this package: StableHLO, ONNX, safetensors, and folders for the Hugging Face Hub.

policy = purerl.load("runs/first")
export.stablehlo(policy, "policy.stablehlo")      # needs jax alone to run
export.onnx(policy, "policy.onnx")                # needs onnxruntime alone to run
"""

from purerl.export.formats import Agreement, onnx, read_safetensors, safetensors, stablehlo
from purerl.export.hub import card, folder, push
from purerl.export.signatures import Signature, signature

__all__ = [
    "Agreement", "Signature", "card", "folder", "onnx", "push", "read_safetensors", "safetensors", "signature",
    "stablehlo",
]  # fmt: skip
