"""Decide which device holds which blocks, and show the arithmetic.

*Profile*: what a GGUF says about the model. *Workload*: what will be asked of it (context, slots, cache types).
*Plan*: which device holds which blocks, within every device's *budget*; it becomes ``--device --tensor-split -ngl``.
*Slot*: llama.cpp's unit of placement; a model of n blocks has slots 0 to n - 1, and slot n is the output.
*Host*: the machine that runs llama-server; it always keeps the token embedding, and may hold the first blocks.
"""

from rpc_wrapper.planner.memory import Workload
from rpc_wrapper.planner.placing import make_plan
from rpc_wrapper.planner.plan import Assignment, HostPart, Plan, PlanOptions
from rpc_wrapper.planner.profile import ModelProfile, read_profile
from rpc_wrapper.planner.strategies import Strategy

__all__ = [
    "Assignment",
    "HostPart",
    "ModelProfile",
    "Plan",
    "PlanOptions",
    "Strategy",
    "Workload",
    "make_plan",
    "read_profile",
]
