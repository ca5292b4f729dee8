"""How many blocks, bytes, tokens and requests a KV cache is, as vLLM 0.29 will allocate it. Pure arithmetic.

    layers of a kind -> pages (one layer, one block) -> groups of layers that share a block's bytes -> blocks

Sources: vllm/v1/kv_cache_interface.py, v1/core/kv_cache_utils.py, platforms/interface.py (_align_hybrid_block_size).
Not counted: speculative decoding, pipeline and context parallelism, KV transfer. One device of tensor parallelism.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from serve_app.kv_layers import FP8_BYTES, Kind, Layer, UnknownArchitectureError, element_bytes, layers
from serve_app.weights import LOADED_BYTES


@dataclass(frozen=True)
class Device:
    """What a kind of device decides.

    `block_size` is vLLM's default, but that a host takes 16 for latent attention (128 where it has AMX). Some GPUs
    prefer another (32 for latent attention, 128 for heads of 256, on Blackwell): there, give it to both.
    """

    block_size: int  # tokens
    kernel_block_size: int  # tokens: the smallest block that the attention kernels take; windows are kept in these
    batches_in_flight: int  # scheduled and not yet settled: two where scheduling is asynchronous


DEVICES: Mapping[str, Device] = {"host": Device(128, 32, 1), "nvml": Device(16, 16, 2)}


@dataclass(frozen=True)
class Page:
    """One block of one layer."""

    layer: Layer
    tokens: int
    bytes: int


@dataclass(frozen=True)
class Group:
    """Layers that take one block together, and how many blocks a request of the full length takes of them."""

    pages: tuple[Page, ...]
    blocks_per_request: int


@dataclass(frozen=True)
class Fit:
    """What a budget holds."""

    blocks: int  # one of them is never used: vLLM's null block
    bytes: int  # really allocated
    tokens: int  # vLLM's "GPU KV cache size"
    concurrency: float  # vLLM's "Maximum concurrency"
    requests: int  # of the full length that really run at once


@dataclass(frozen=True)
class KvCache:
    """The cache of one model with one set of engine arguments, on one of its devices."""

    pages: tuple[Page, ...]
    groups: tuple[Group, ...]
    max_model_len: int

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        *,
        device: str,
        max_model_len: int,
        max_num_batched_tokens: int,
        tensor_parallel: int = 1,
        dtype: str = "auto",
        kv_cache_dtype: str = "auto",
        block_size: int | None = None,
        enable_prefix_caching: bool | None = None,
        mamba_ssm_cache_dtype: str = "auto",
    ) -> Self:
        """From config.json and vLLM's arguments of these names.

        Args:
            config: config.json as published.
            device: `host` or `nvml`.

        Raises:
            UnknownArchitectureError: the config or a type has something that is not known.
        """
        element = _kv_element_bytes(config, dtype, kv_cache_dtype)
        kept = layers(config, tensor_parallel=tensor_parallel, dtype=dtype, mamba_ssm_cache_dtype=mamba_ssm_cache_dtype)
        facts = DEVICES[device]
        latent_on_host = device == "host" and any(layer.kind is Kind.MLA for layer in kept)
        pages = _pages(kept, element, block_size or (16 if latent_on_host else facts.block_size), facts)
        attends = any(layer.keeps_tokens for layer in kept)
        request = Request(
            tokens=max_model_len,
            in_flight=facts.batches_in_flight * max_num_batched_tokens,
            encoder_tokens=max_num_batched_tokens,
            # vLLM's default: on, where there is attention. The state at the last block's end is then kept as well.
            states=2 if (attends if enable_prefix_caching is None else enable_prefix_caching) else 1,
        )
        groups = tuple(Group(group, request.blocks(group[0])) for group in _groups(pages))
        return cls(pages=pages, groups=groups, max_model_len=max_model_len)

    @property
    def bytes_per_block(self) -> int:
        """All groups draw from one pool, so a block has room for the widest."""
        return max((sum(page.bytes for page in group.pages) for group in self.groups), default=0)

    @property
    def blocks_per_request(self) -> int:
        return sum(group.blocks_per_request for group in self.groups)

    def fit(self, budget: int) -> Fit:
        """What vLLM makes of `kv_cache_memory_bytes=budget`."""
        if not self.groups:
            return Fit(blocks=1, bytes=0, tokens=0, concurrency=0.0, requests=0)
        blocks = budget // self.bytes_per_block
        concurrency = blocks / self.blocks_per_request
        return Fit(
            blocks=blocks,
            bytes=blocks * self.bytes_per_block,
            tokens=int(concurrency * self.max_model_len),
            concurrency=concurrency,
            requests=max(0, blocks - 1) // self.blocks_per_request,
        )

    def needed(self, requests: int) -> int:
        """Bytes for so many requests of the full length at once, with the null block. vLLM does not start with less
        than `needed(1)`."""
        if not self.groups:
            return 0
        return (requests * self.blocks_per_request + 1) * self.bytes_per_block


@dataclass(frozen=True)
class Request:
    """A request of the full length, at its widest. All in tokens, but `states`."""

    tokens: int
    in_flight: int
    encoder_tokens: int
    states: int

    def blocks(self, page: Page) -> int:
        layer = page.layer
        match layer.kind:
            case Kind.STATE:
                return self.states
            case Kind.CROSS:
                return -(-self.encoder_tokens // page.tokens)
            case Kind.CHUNK:
                return -(-min(layer.reach + self.in_flight, self.tokens) // page.tokens)
            case Kind.WINDOW:
                # One more, because a window need not begin where a block does.
                return -(-min(layer.reach - 1 + self.in_flight, self.tokens) // page.tokens) + 1
            case Kind.FULL | Kind.MLA:
                return -(-self.tokens // page.tokens)


def _kv_element_bytes(config: Mapping[str, Any], dtype: str, kv_cache_dtype: str) -> int:
    """Bytes of one element of keys and values.

    A checkpoint may ask for a quantised cache (vllm/utils/torch_utils.py, resolve_kv_cache_dtype_string; ModelOpt and
    compressed-tensors): which, is for vLLM to find out, unless the arguments say it.
    """
    if kv_cache_dtype != "auto":
        return element_bytes(kv_cache_dtype, LOADED_BYTES | FP8_BYTES)
    for said in (config, config.get("text_config") or {}):
        scheme = said.get("quantization_config") or said.get("compression_config") or {}
        for place in (scheme, scheme.get("quantization") or {}):
            if place.get("kv_cache_scheme") or place.get("kv_cache_quant_algo"):
                raise UnknownArchitectureError("a checkpoint that brings its own KV cache type, and no kv_cache_dtype")
    return element_bytes(dtype)


def _pages(kept: tuple[Layer, ...], element: int, block: int, facts: Device) -> tuple[Page, ...]:
    """Each layer's page before pages are made equal."""
    per_token = next((layer.heads * layer.elements * element for layer in kept if layer.keeps_tokens), 0)
    state = max((layer.state_bytes for layer in kept), default=0)
    if per_token and state:
        # Blocks grow until the attention's page holds a state; states are padded to that page.
        step = max(block, facts.kernel_block_size)
        block = max(block, step * -(-state // (step * per_token)))
        state = block * per_token
    pages = []
    for layer in kept:
        tokens = facts.kernel_block_size if layer.kind is Kind.WINDOW else block
        size = tokens * layer.heads * layer.elements * element if layer.keeps_tokens else state
        pages.append(Page(layer, tokens, size))
    return tuple(pages)


def _groups(pages: tuple[Page, ...]) -> list[tuple[Page, ...]]:
    """Layers that look back equally far are one group. Otherwise pages are made equal, and as many layers of each sort
    as the rarest sort has make a group."""
    if not pages:
        return []
    sorts = {(page.layer.kind, page.layer.reach, page.tokens) for page in pages}
    if len(sorts) == 1:
        return [pages]
    equal = Counter(_widened(page, max(page.bytes for page in pages)) for page in pages)
    fewest, most = min(equal.values()), max(equal.values())
    size = most if most < 1.5 * fewest else fewest
    groups = []
    for page, count in equal.items():
        number = -(-count // size)
        groups += [(page,) * -(-(count - first) // number) for first in range(number)]
    return groups


def _widened(page: Page, size: int) -> Page:
    """The page with so many bytes: with more tokens where that comes out even, padded where not."""
    if size % page.bytes == 0 and page.layer.keeps_tokens:
        return replace(page, tokens=page.tokens * (size // page.bytes), bytes=size)
    return replace(page, bytes=size)
