"""FSDP2, which divides weights, gradients and optimizer states among processes, where `accelerate config` asks for it.

A saved state holds whole tensors all the same, so any number of processes goes on from it, with FSDP or without.
"""

from __future__ import annotations

import os
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from ..files import InputError


def is_sharded(accelerator: Accelerator) -> bool:
    return accelerator.distributed_type is DistributedType.FSDP


def expect_possible(accelerator: Accelerator, shards: bool) -> None:
    """Refuse what cannot train here; `shards` says whether the training can do with a part of the weights.

    Accelerate leaves FSDP out on CPUs, where PyTorch has it: there it is switched on.
    """
    state: Any = accelerator.state
    if state.distributed_type is DistributedType.MULTI_CPU and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
        state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM) or (
        is_sharded(accelerator) and not accelerator.is_fsdp2
    ):
        raise InputError(
            f"{kind.value}: is not possible; configure accelerate for FSDP with fsdp_version: 2, or without"
        )
    if is_sharded(accelerator):
        if not shards:
            raise InputError("FSDP: this training needs whole weights in each process; configure accelerate without it")
        state.fsdp_plugin.cpu_ram_efficient_loading = False  # all processes build the same weights by themselves
        state.fsdp_plugin.mixed_precision_policy = None  # weights stay float32: autocast does as it does without FSDP
