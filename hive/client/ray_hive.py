"""`RayHive`: one Hive, its models and its VRAM. It changes the values, and Hive makes them so; nothing is kept here."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from hive import views
from hive.client import addresses
from hive.client.addresses import Address
from hive.client.inference import Inference
from hive.errors import HiveError
from hive.local.run import folders
from hive.plan import budget
from hive.serve_api import Application
from hive.target import REMOVE, Edit, Report, Watch, target
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

    Raises:
        HiveError: there is none.
    """

    def __init__(self, release: str | None = None, namespace: str | None = None, context: str | None = None) -> None:
        self.target = target(release, namespace, context)

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
        """Serve a model; it returns when all replicas do. An entry of that name is replaced, in place where it can be.

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
        path = ("models", model_id)
        engine = {key: value for key, value in vllm_kwargs.items() if key not in OWN_KEYS}
        said = {
            "source": model_name,
            "replicas": replicas,
            "maxNumSeqs": max_num_seqs,
            "maxModelLen": max_model_len,
            **{own: vllm_kwargs.get(key) for key, own in OWN_KEYS.items()},
            "defaults": {"maxTokens": max_tokens} if max_tokens is not None else None,
            "engine": engine or None,
        }
        entry = {key: value for key, value in said.items() if value is not None}
        values = self.target.values()
        models = values.get("models") or {}
        before = models.get(model_id, REMOVE)
        weights = None if vram_weights_gb is None else round(vram_weights_gb * GIB)
        asked = values | {"models": models | {model_id: entry}}
        mib = budget.reckon(asked, model_id, folders().models, self.target.states(), weights)
        stays = False
        try:
            self._change([Edit(path, entry | {"vram": f"{mib}Mi"})])
            answer = self.inference(QUESTION, model_id, max_tokens=ANSWER_TOKENS) if test_mode else None
            stays = not test_mode
        finally:
            if not stays and (self.target.values().get("models") or {}).get(model_id, REMOVE) != before:
                self._change([Edit(path, before)])
        return Deployed(model_id, self._find(None, None).base_url, replicas, mib * MIB, answer)

    def shutdown(self, model_id: str | None = None) -> None:
        """Take a model away, or all of them; it returns when its replicas are gone. Hive itself goes on.

        Raises:
            HiveError: there is no such model.
        """
        models = list(self.target.values().get("models") or {})
        if model_id is not None and model_id not in models:
            raise HiveError(f"there is no model {model_id!r}", f"the models are: {', '.join(models) or 'none'}")
        gone = models if model_id is None else [model_id]
        self._change([Edit(("models", name), REMOVE) for name in gone])

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

    def _change(self, edits: Sequence[Edit]) -> None:
        with _shown() as (report, watch):
            self.target.change(edits, report, watch)


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
        yield status.update, lambda found, _: status.update(line(found))
