"""What one replica needs of each of its devices, and what a budget gives it. Pure, over `serve_app.sizing`."""

from dataclasses import dataclass

from serve_app import sizing, weights
from serve_app.args import ModelArgs
from serve_app.checkpoint import Checkpoint
from serve_app.kv_cache import KvCache
from serve_app.sizing import MIN_KV_CACHE_BYTES, Engine, Split
from vram_agent.api import MIB


@dataclass(frozen=True)
class Need:
    """Bytes on each device of a replica. The overhead is a model until an agent has measured it."""

    weights: int  # with the slots of LoRA adapters
    weights_exact: bool  # False: an upper bound
    overhead: int
    overhead_measured: bool
    cache: KvCache | None  # None: the architecture or the length is not known
    max_model_len: int | None  # tokens
    max_num_seqs: int  # sequences that run at once, at most

    def budget_mib(self, requests: int) -> int:
        """MiB that hold so many requests of the full length."""
        return -(-(self.weights + self.overhead + self._kv_cache(requests)) // MIB)

    def split(self, budget_mib: int) -> Split:
        """How this budget would be divided.

        Raises:
            BudgetError: it does not hold one request of the full length.
        """
        return sizing.split(budget_mib * MIB, self.weights, self.overhead, self._kv_cache(1))

    def holds(self, kv_cache: int) -> tuple[int, int] | None:
        """Tokens and requests of the full length that so many bytes of KV cache hold at once; None: not known."""
        if self.cache is None or not self.cache.groups:
            return None
        fit = self.cache.fit(kv_cache)
        return fit.tokens, min(fit.requests, self.max_num_seqs)

    def _kv_cache(self, requests: int) -> int:
        return max(MIN_KV_CACHE_BYTES, 0 if self.cache is None else self.cache.needed(requests))


def need(
    found: Checkpoint, args: ModelArgs, device_kind: str, adapter_ranks: list[int], measured_overhead: int | None
) -> Need:
    """What a checkpoint and a model's `args` come to.

    Args:
        device_kind: `host` or `nvml`.
        measured_overhead: bytes, from an agent that has seen this very engine.

    Raises:
        ValueError: with the mend: an argument of the engine or the rank of an adapter can't be.
    """
    engine = Engine.of(args.engine_kwargs(adapter_ranks), found.config, device_kind)
    loaded = weights.fullest_rank(found.tensors, found.config, engine.tensor_parallel, engine.dtype)
    slots = sizing.adapters(found, engine, device_kind)
    return Need(
        weights=loaded.bytes + slots,
        weights_exact=loaded.exact and not slots,
        overhead=sizing.overhead(found, engine, device_kind, measured_overhead),
        overhead_measured=measured_overhead is not None and device_kind != "host",
        cache=sizing.kv_cache(found, engine, device_kind),
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_num_seqs,
    )


def usual_budget_mib(found: Need, max_num_seqs: int | None) -> int:
    """The budget of a model that names none: all `maxNumSeqs` requests at the full length where the values say that
    number, else one."""
    return found.budget_mib(max_num_seqs or 1)
