"""`RayHive`: one Hive, its models and its VRAM. It changes the values, and Hive makes them so; nothing is kept here."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from hive import deploying, views
from hive.client import addresses
from hive.client.addresses import Address
from hive.client.inference import Inference
from hive.connect import connect
from hive.plan import reading
from hive.serve_api import Application
from hive.target import REMOVE, Edit, Json, Report, Watch
from vram_agent.api import GIB, MIB, State

log = logging.getLogger("hive")
# vLLM's names for what has a key of its own in an entry.
OWN_KEYS = {"tensor_parallel_size": "tensorParallel", "chat_template": "chatTemplate"}
QUESTION = "Hello"
ANSWER_TOKENS = 8


@dataclass(frozen=True)
class Deployed:
    """A model that serves."""

    model: str  # the name to ask for
    base_url: str
    replicas: int
    vram: int  # bytes of each device of a replica
    answer: str | None  # with test_mode: what it said; it does not serve any more


class RayHive(Inference):
    """The Hive of this machine, or a Helm release of a cluster through the kubeconfig.

    Args:
        release: a Helm release; None: this machine.
        namespace: of the release; None: the kubeconfig's.
        context: of the kubeconfig; None: its current one.
        values: the file where the release's values are kept, to be edited too; None: the release alone is. The Hive of
            this machine has its own.

    Raises:
        HiveError: there is none.
    """

    def __init__(
        self,
        release: str | None = None,
        namespace: str | None = None,
        context: str | None = None,
        values: Path | str | None = None,
    ) -> None:
        self.target = connect(release, namespace, context, None if values is None else Path(values))

    def deploy_model(  # noqa: PLR0917  (as its users know it)
        self,
        model_id: str,
        model_name: str,
        vram_weights_gb: float | None = None,
        replicas: int = 1,
        test_mode: bool = False,
        max_num_seqs: int | None = None,
        max_model_len: int | None = None,
        max_tokens: int | None = None,
        **vllm_kwargs: Any,
    ) -> Deployed:
        """Serve a model; it returns when all replicas do. Where there is an entry of that name, what is not said here
        stays in it.

        The budget (`vram`) of a replica is, on each of its devices: weights + KV cache for `max_num_seqs` requests of
        `max_model_len` tokens at once + everything around them (CUDA context, activations, graphs).

        Args:
            model_id: the name that clients ask for: a DNS label.
            model_name: where it comes from: owner/name on the hub, or ./folder in the models volume.
            vram_weights_gb: what the weights take of each device, in GiB (2**30 bytes); None: reckoned from the
                checkpoint, exactly where it is safetensors.
            replicas: engines.
            test_mode: deploy, ask one question, and undeploy, whatever happens.
            max_num_seqs: requests at once; None: the budget holds one of the full length, and vLLM takes what fits.
            max_model_len: tokens of prompt and answer together; None: as many as the model knows.
            max_tokens: of an answer whose request does not say; None: no limit but the length.
            vllm_kwargs: any other argument of the vLLM engine.

        Raises:
            HiveError: why it can't serve: a wrong value, no room, or the engine's own reason. The values are as they
                were before, as they are after an interrupt (Ctrl-C).
        """
        entry = deploying.entry_of(
            model_name,
            replicas=replicas,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            max_tokens=max_tokens,
        )
        own = {name: vllm_kwargs.pop(key, None) for key, name in OWN_KEYS.items()}
        entry |= {name: value for name, value in own.items() if value is not None}
        if vllm_kwargs:
            entry["engine"] = vllm_kwargs
        before = self._entry(model_id)
        whole = deploying.merged(before or {}, entry)
        whole.pop("vram", None)
        weights = None if vram_weights_gb is None else round(vram_weights_gb * GIB)
        mib = reading.budget_mib(self.target, model_id, whole, weights)
        stays = False
        try:
            with _shown() as (report, watch):
                deploying.deploy(self.target, model_id, entry | {"vram": f"{mib}Mi"}, report, watch)
            answer = self.inference(QUESTION, model_id, max_tokens=ANSWER_TOKENS) if test_mode else None
            stays = not test_mode
        finally:
            if not stays and (edits := _edits(("models", model_id), self._entry(model_id), before)):
                with _shown() as (report, watch):
                    self.target.change(edits, report, watch)
                if before is None:
                    deploying.wait_until_gone(self.target, [model_id])
        return Deployed(model_id, self._find(None, None).base_url, replicas, mib * MIB, answer)

    def shutdown(self, model_id: str | None = None) -> None:
        """Turn a model off, or all of them; it returns when its replicas are gone. Its entry stays in the values, with
        `replicas: 0`, and Hive goes on.

        Raises:
            HiveError: there is no such model.
        """
        names = list(self.target.values().get("models") or {}) if model_id is None else [model_id]
        with _shown() as (report, watch):
            deploying.shutdown(self.target, names, report, watch)

    def get_vram_state(self) -> dict[str, State]:
        """Devices and leases in exact bytes, by node, as the agents see them now."""
        return self.target.states()

    def display_vram_state(self) -> None:
        """The same as a table."""
        Console().print(views.vram(self.target.states()))

    def _find(self, base_url: str | None, api_key: str | None) -> Address:
        if base_url:
            return addresses.find(base_url, api_key)
        return Address(f"{self.target.gateway_url()}/v1", api_key or self.target.api_key())

    def _entry(self, model_id: str) -> Json | None:
        """What the values say of it."""
        entry: Json | None = (self.target.values().get("models") or {}).get(model_id)
        return entry


def _edits(path: tuple[str, ...], now: Any, then: Any) -> list[Edit]:
    """From what is there now (None: nothing) to what is to be there; keys that are equal keep their comments."""
    if isinstance(now, dict) and isinstance(then, dict):
        keys = dict.fromkeys([*now, *then])
        return [edit for key in keys for edit in _edits((*path, key), now.get(key), then.get(key))]
    return [] if now == then else [Edit(path, REMOVE if then is None else then)]


@contextmanager
def _shown() -> Iterator[tuple[Report, Watch]]:
    """Where a wait stands: on a terminal in one line that goes away, elsewhere in the log `hive`."""
    console = Console(stderr=True)
    last = ""

    def note(line: str) -> None:
        nonlocal last
        if line != last:
            log.info(line)
            last = line

    def line(found: Sequence[Application]) -> str:
        return "; ".join(f"{app.name} {app.status}" for app in found)

    if not console.is_terminal:
        yield note, lambda found, _: note(line(found))
        return
    with console.status("") as status:
        yield lambda text: status.update(Text(text)), lambda found, _: status.update(Text(line(found)))
