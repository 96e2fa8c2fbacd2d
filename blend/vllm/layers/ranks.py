"""Tensor-parallel ranks: sums and votes over all ranks, and the heads of each rank."""

import torch
from vllm.distributed import (
    get_tensor_model_parallel_rank,
    get_tensor_model_parallel_world_size,
    tensor_model_parallel_all_gather,
    tensor_model_parallel_all_reduce,
)


class Ranks:
    """This worker among the tensor-parallel ranks.

    Args:
        total_kv_heads: key/value heads of the whole model.
        device: of the tensors that the ranks exchange.
    """

    def __init__(self, total_kv_heads: int, device: torch.device) -> None:
        self._device = device
        self.rank: int = get_tensor_model_parallel_rank()
        self.size: int = get_tensor_model_parallel_world_size()
        self.total_kv_heads = total_kv_heads

    def sum(self, partial: torch.Tensor) -> torch.Tensor:
        """The sum over ranks; the same bits on every rank."""
        if self.size == 1:
            return partial
        return tensor_model_parallel_all_reduce(partial)

    def all_true(self, flags: list[bool]) -> list[bool]:
        """For each flag, whether it is True on every rank."""
        if self.size == 1 or not flags:
            return flags
        total = self.sum(torch.tensor(flags, dtype=torch.float32, device=self._device))
        return [int(count) == self.size for count in total.tolist()]

    def own_heads(self, heads: torch.Tensor, num_own: int) -> torch.Tensor:
        """This rank's heads [..., num_own, D] of all heads [..., H, D], as a view. This rank's heads are
        returned as they are.

        With fewer heads than ranks, several ranks have the same head, as in vLLM.
        """
        return heads if heads.shape[-2] == num_own else heads[..., self.own_of_all, :]

    @property
    def own_of_all(self) -> slice:
        """The indices of this rank's heads among all."""
        first = self.rank * self.total_kv_heads // self.size
        return slice(first, first + max(1, self.total_kv_heads // self.size))

    def all_heads(self, own: torch.Tensor) -> torch.Tensor:
        """All heads [T, H, D] from every rank's own [T, h, D]."""
        if self.size == 1:
            return own
        gathered: torch.Tensor = tensor_model_parallel_all_gather(own.contiguous(), dim=1)
        return (
            gathered[:, :: gathered.shape[1] // self.total_kv_heads]
            if self.size > self.total_kv_heads
            else gathered
        )
