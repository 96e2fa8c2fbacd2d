"""Calls vLLM's own decoder layers on chosen tokens, and gives access to their keys and values.

No model is re-implemented: a layer is called as its model calls it, with the hidden states of the wanted
tokens only and attention metadata from builders like the runner's.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.forward_context import set_forward_context

from blend.errors import NotBlendable
from blend.vllm.layers.rows import Page, Rows, blocks_of, pages_like
from blend.vllm.vllm_names import Attention, CommonAttentionMetadata


@dataclass(slots=True)
class Stream:
    """The residual stream of some tokens between two layers: [S, hidden] each; no residual before layer 0."""

    hidden: torch.Tensor
    residual: torch.Tensor | None = None

    def at(self, index: torch.Tensor | slice) -> "Stream":
        """The chosen rows: as a copy, or, for a slice, as a view."""
        return Stream(self.hidden[index], None if self.residual is None else self.residual[index])

    @staticmethod
    def join(parts: list["Stream"]) -> "Stream":
        """Streams of consecutive rows as one."""
        if len(parts) == 1:
            return parts[0]
        residuals = [part.residual for part in parts if part.residual is not None]
        return Stream(torch.cat([part.hidden for part in parts]), torch.cat(residuals) if residuals else None)

    def copy(self) -> "Stream":
        """A copy: layers may write to their inputs."""
        return Stream(self.hidden.clone(), None if self.residual is None else self.residual.clone())


class LayerLeft(Exception):
    """Raised in place of attention, to leave a layer whose output is not used."""


class LayerRunner:
    """The decoder layers of a loaded vLLM model. One per worker; not thread-safe.

    Args:
        runner: vLLM's model runner (first or second kind), with its KV cache initialised.
        vllm_config: the engine's configuration.

    Raises:
        NotBlendable: the model does not follow vLLM's layer convention.
    """

    def __init__(self, runner: Any, vllm_config: VllmConfig) -> None:
        self._vllm_config = vllm_config
        self._builders = [
            (group.layer_names, _own_builder(group, vllm_config))
            for groups in runner.attn_groups
            for group in groups
        ]
        self._model = runner.get_model()
        self.layers = _decoder_layers(self._model)
        self.attentions = [_attention(layer) for layer in self.layers]
        first = self.attentions[0]
        self.num_layers = len(self.layers)
        self.num_heads: int = first.num_heads
        self.num_kv_heads: int = first.num_kv_heads
        self.head_size: int = first.head_size
        parameter = next(self._model.parameters())
        self.dtype: torch.dtype = vllm_config.model_config.dtype  # type: ignore[assignment]  # vLLM has resolved "auto"
        self.device: torch.device = parameter.device
        # The kernel's block size: one of the manager's blocks may be several of the kernel's.
        self.block_size: int = self._builders[0][1].kv_cache_spec.block_size
        self.max_piece_tokens: int = vllm_config.scheduler_config.max_num_batched_tokens
        self.max_piece_runs: int = vllm_config.scheduler_config.max_num_seqs
        self.attends_densely = False  # for recomputed rows; the worker sets it after a trial
        self._splits = vllm_config.cache_config.block_size // self.block_size
        rotary = _rotary(self.layers[0])
        self.rotary_table: torch.Tensor = rotary._compute_cos_sin_cache().float().to(self.device)
        self.rotary_interleaved: bool = not rotary.is_neox_style

    def kernel_blocks(self, block_ids: tuple[int, ...]) -> torch.Tensor:
        """The kernel's blocks (int32, CPU) for the manager's blocks."""
        blocks = torch.tensor(block_ids, dtype=torch.int32)
        inner = torch.arange(self._splits, dtype=torch.int32)
        split: torch.Tensor = blocks[:, None] * self._splits + inner
        return split.flatten()

    def embed(self, token_ids: list[int]) -> Stream:
        """The stream before layer 0."""
        ids = torch.tensor(token_ids, device=self.device)
        return Stream(self._model.embed_input_ids(ids))

    def prepare(self, rows: Rows) -> "Prepared":
        """Attention metadata for rows, valid for every layer."""
        rows = rows.to(self.device)
        common = CommonAttentionMetadata(
            query_start_loc=rows.query_start,
            query_start_loc_cpu=rows.query_start.cpu(),
            seq_lens=rows.seq_lens,
            num_reqs=rows.seq_lens.shape[0],
            num_actual_tokens=rows.num_tokens,
            max_query_len=rows.max_query_len,
            max_seq_len=rows.max_seq_len,
            block_table_tensor=rows.block_table,
            slot_mapping=rows.slots,
            positions=rows.positions,
            seq_lens_cpu_upper_bound=rows.seq_lens.cpu(),
            is_prefilling=torch.ones(rows.seq_lens.shape[0], dtype=torch.bool),
        )
        metadata: dict[str, Any] = {}
        for layer_names, builder in self._builders:
            metadata |= dict.fromkeys(layer_names, builder.build(0, common, fast_build=True))
        return Prepared(rows, metadata, dict.fromkeys(metadata, rows.slots))

    def run(self, layer: int, prepared: "Prepared", stream: Stream) -> Stream:
        """Run one layer over the rows: writes their keys and values to the pages, then attends."""
        with self._forward_context(prepared):
            hidden, residual = self.layers[layer](prepared.rows.positions, stream.hidden, stream.residual)
        return Stream(hidden, residual)

    def project(
        self, layer: int, positions: torch.Tensor, stream: Stream
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Only the keys (rotated) and values [S, H, D] of a layer; writes nothing, leaves the stream
        unchanged."""
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def attend(_: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *__: Any) -> torch.Tensor:
            shape = (-1, self.num_kv_heads, self.head_size)
            seen.append((key.reshape(shape), value.reshape(shape)))
            raise LayerLeft

        with suppress(LayerLeft):
            self.run_attending(layer, positions, stream.copy(), attend)
        return seen[0]

    def run_attending(
        self, layer: int, positions: torch.Tensor, stream: Stream, attend: Callable[..., torch.Tensor]
    ) -> Stream:
        """Run one layer with a function in place of its attention; touches no page.

        Args:
            positions: int64 [S], on the device.
            attend: from query [S, Hq * D], key and value [S, H * D] (rotated) to [S, Hq * D]. A `LayerLeft`
                that it raises is not caught here.
        """
        attention = self.attentions[layer]
        attention.forward = attend  # type: ignore[method-assign]  # on this instance only, deleted below
        try:
            with set_forward_context(None, self._vllm_config):
                hidden, residual = self.layers[layer](positions, stream.hidden, stream.residual)
        finally:
            del attention.forward
        return Stream(hidden, residual)

    def attend(
        self, layer: int, prepared: "Prepared", query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """Run only a layer's attention, [S, heads * D] each: writes to the pages, then attends."""
        with self._forward_context(prepared):
            mixed: torch.Tensor = self.attentions[layer](query, key, value)
        return mixed

    def window(self, layer: int) -> int | None:
        """Number of positions that a token of this layer sees, its own included; None: all before it."""
        window: int | None = getattr(self.attentions[layer], "sliding_window", None)
        return window

    @contextmanager
    def watch(self, layer: int) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
        """Collect the (keys, values) [S, H, D] that the layer's attention receives."""
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            shape = (-1, self.num_kv_heads, self.head_size)
            seen.append((inputs[1].reshape(shape), inputs[2].reshape(shape)))  # [S, H, D]

        handle = self.attentions[layer].register_forward_pre_hook(hook)
        try:
            yield seen
        finally:
            handle.remove()

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor) -> None:
        """Write rows [S, H, D] into the layer's pages at slots int64 [S]."""
        attention: Any = self.attentions[layer]  # the base class does not declare the method
        attention.impl.do_kv_cache_update(attention, keys, values, attention.kv_cache, slots)

    def page(self, block_id: int) -> Page:
        """A copy of one of the manager's blocks with its content."""
        return [block.clone() for block in self._page(block_id)]

    def put_page(self, block_id: int, page: Page) -> None:
        """Overwrite a block with a copy made by `page`."""
        for block, copy in zip(self._page(block_id), page, strict=True):
            block.copy_(copy)

    def _page(self, block_id: int) -> Page:
        first = block_id * self._splits
        return [blocks_of(attention.kv_cache, first, self._splits) for attention in self.attentions]

    def new_pages(self, num_blocks: int) -> torch.Tensor:
        """Pages for `in_pages`. One set serves all layers, since a layer's pages are read only while it
        runs."""
        return pages_like(self.attentions[0].kv_cache, num_blocks * self._splits)

    @contextmanager
    def in_pages(self, pages: torch.Tensor) -> Iterator[None]:
        """Use these pages in place of the engine's inside the `with` block; the engine's are always
        restored."""
        engine_pages = [attention.kv_cache for attention in self.attentions]
        try:
            for attention in self.attentions:
                attention.kv_cache = pages
            yield
        finally:
            for attention, own in zip(self.attentions, engine_pages, strict=True):
                attention.kv_cache = own

    @contextmanager
    def _forward_context(self, prepared: "Prepared") -> Iterator[None]:
        with set_forward_context(
            prepared.metadata,
            self._vllm_config,
            num_tokens=prepared.rows.num_tokens,
            slot_mapping=prepared.slots,
        ):
            yield


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows with the attention metadata of every layer."""

    rows: Rows
    metadata: dict[str, Any]
    slots: dict[str, torch.Tensor]


def _own_builder(group: Any, vllm_config: VllmConfig) -> Any:
    """A metadata builder of the same type as the runner's, but a separate one.

    Some builders return views of buffers that they overwrite for the next batch, and a blend uses its
    metadata over several engine steps.
    """
    builder = group.get_metadata_builder()
    if getattr(type(builder), "requires_block_table_width", False):
        raise NotBlendable(
            f"the attention backend {group.backend.get_name()} builds its metadata for whole batches only. "
            "Choose another one with --attention-backend, or serve the model without blending."
        )
    return type(builder)(builder.kv_cache_spec, group.layer_names, vllm_config, builder.device)


def _decoder_layers(model: nn.Module) -> list[nn.Module]:
    decoder = getattr(model, "model", None)
    layers = getattr(decoder, "layers", None)
    if layers is None or not hasattr(model, "embed_input_ids"):
        raise NotBlendable(
            f"{type(model).__name__} has no `model.layers` with `embed_input_ids`: its layers cannot be "
            "called on chosen tokens. Serve it without blending."
        )
    for layer in layers:
        names = list(inspect.signature(layer.forward).parameters)
        if names[:3] != ["positions", "hidden_states", "residual"]:
            raise NotBlendable(
                f"{type(layer).__name__}.forward takes ({', '.join(names)}); blending needs vLLM's layer "
                "convention (positions, hidden_states, residual). Serve it without blending."
            )
    return list(layers)


def _attention(layer: nn.Module) -> Attention:
    found = [module for module in layer.modules() if isinstance(module, Attention)]
    if len(found) != 1 or not hasattr(found[0].impl, "do_kv_cache_update"):
        raise NotBlendable(
            f"{type(layer).__name__} has {len(found)} attention modules with pages that can be written; "
            "blending needs exactly one. Serve it without blending."
        )
    return found[0]


def _rotary(layer: nn.Module) -> Any:
    found = [module for module in layer.modules() if hasattr(module, "_compute_cos_sin_cache")]
    if len(found) != 1:
        raise NotBlendable(
            f"{type(layer).__name__} has {len(found)} rotary embeddings; blending needs exactly one to "
            "realign keys with. Serve it without blending."
        )
    return found[0]
