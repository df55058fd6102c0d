"""Runtimes: what runs an exported policy. Add one in a file of its own and import it here.

Their libraries are extras, and imported when they are first used.
"""

from dipole.policy.runtimes.aotinductor import AOTInductor
from dipole.policy.runtimes.onnx import Onnx
from dipole.policy.runtimes.openvino import OpenVino
from dipole.policy.runtimes.runtime import RUNTIMES, Runtime

__all__ = ["RUNTIMES", "AOTInductor", "Onnx", "OpenVino", "Runtime"]
