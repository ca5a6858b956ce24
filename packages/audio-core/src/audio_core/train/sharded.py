"""FSDP2, which divides weights, gradients and optimizer states among processes, where `accelerate config` asks for it.

A saved state holds whole tensors all the same, so any number of processes goes on from it, with FSDP or without.
"""

from __future__ import annotations

import os
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from ..command import chosen, processes
from ..files import InputError


def is_sharded(accelerator: Accelerator) -> bool:
    return accelerator.distributed_type is DistributedType.FSDP


def expect_possible(shards: bool) -> None:
    """Refuse what several processes cannot do; `shards` says whether a training can do with a part of the weights.

    This comes before there is an accelerator, which would fail where a library or a GPU is missing.
    """
    if processes() == 1 and "LOCAL_RANK" not in os.environ:
        return
    if chosen("DEEPSPEED") or chosen("MEGATRON_LM") or (chosen("FSDP") and os.environ.get("FSDP_VERSION") != "2"):
        raise InputError("accelerate: only FSDP with fsdp_version: 2 divides weights here; configure that, or none")
    if chosen("FSDP") and not shards:
        raise InputError("FSDP: this training needs whole weights in each process; configure accelerate without it")


def settle(accelerator: Accelerator) -> None:
    """Switch FSDP on where Accelerate leaves it out, which is on CPUs, and let it do as without."""
    state: Any = accelerator.state
    if state.distributed_type is DistributedType.MULTI_CPU and chosen("FSDP"):
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
        state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
    if is_sharded(accelerator):
        state.fsdp_plugin.cpu_ram_efficient_loading = False  # all processes build the same weights by themselves
        state.fsdp_plugin.mixed_precision_policy = None  # weights stay float32: autocast does as it does without FSDP
