"""The replica of one model: lease, pin, cap, start, warm up, measure, serve; and end with its engine.

`build` is the import path of every Serve application that the chart renders.
"""

import asyncio
import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import ray
from fastapi import FastAPI
from huggingface_hub import snapshot_download
from ray import serve
from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.serve.llm import LLMConfig, LLMServer

from serve_app import cards, checkpoint, frontend, sizing
from serve_app.args import ModelArgs
from serve_app.lease import AgentClient, LeaseError
from serve_app.order import wait_for_larger
from serve_app.pinning import gpu_environment, torch_fraction
from serve_app.settings import from_environment
from serve_app.truncation import TruncateInput
from serve_app.versions import engine_versions
from vram_agent.api import MIB, Claim, Device, Lease, LeaseRequest, human

log = logging.getLogger("ray.serve")
ENGINE_CHECK_S = 0.5
AGENT_CHECK_S = 1.0
LAST_WORDS_S = 1.5  # for requests that are open when the engine dies: vLLM tells each of the error
WARM_UP_TIMEOUT_S = 600


class ModelError(RuntimeError):
    """The model can't be served; says why and what to do."""


def build(args: dict[str, Any]) -> serve.Application:
    """One Serve application from the `args` that the chart rendered.

    Raises:
        ValidationError: a key is unknown or wrong.
        ModelError: vLLM has no such engine argument. In both cases Serve keeps the replicas that run.
    """
    parsed = ModelArgs.model_validate(args)
    try:
        llm_config(parsed, source=parsed.source, engine_kwargs=parsed.engine_kwargs()).get_engine_config()
    except ValueError as error:
        raise ModelError(f"models.{parsed.name}.engine: {error}. FIX: spell it as vLLM does, or remove it") from error
    wait_for_larger(parsed.name)
    return serve.deployment(serve.ingress()(Model), name="Model").bind(parsed)


class Model(LLMServer):  # type: ignore[misc]  # Ray has no types
    """One engine inside one lease.

    Args:
        args: the model's entry.

    Raises:
        ModelError, LeaseError, BudgetError, CheckpointError: with the mend; Serve shows the text as the application's
            message.
    """

    async def __init__(self, args: ModelArgs) -> None:  # type: ignore[misc]  # Ray awaits it
        settings = from_environment()
        self._args = args
        folder = locate(args.source, settings.models_dir)
        adapters = {
            name: locate(source, settings.models_dir, checkpoint.ADAPTER_CONFIG)
            for name, source in args.adapters.items()
        }
        self._agent = AgentClient(settings.agent_socket)
        state = await self._agent.state()
        device = next(d for d in state.devices if d.id == settings.devices[0])
        found = checkpoint.read_folder(folder)
        self._config = found.config
        self._open = frontend.OpenRequests()
        wanted = args.engine_kwargs([checkpoint.read_adapter_rank(path) for path in adapters.values()])
        engine = sizing.Engine.of(wanted, found.config, device.kind)
        fingerprint = sizing.fingerprint(found, wanted, device.name, engine_versions())
        division = sizing.divide(found, engine, device.kind, args.vram_mib * MIB, state.overheads.get(fingerprint))
        self._generation = self._agent.generation()
        self._request = LeaseRequest(
            request_id=uuid.uuid4().hex,
            model=args.name,
            bytes=args.vram_mib * MIB,
            devices=settings.devices,
            planned=division.weights + division.kv_cache,
            fingerprint=fingerprint,
        )
        self._lease: Lease = await self._agent.acquire(self._request)
        self._lease_watch = asyncio.create_task(self._keep_lease())
        os.environ.update(pin(settings.devices, device, args.vram_mib * MIB))
        log.info("%s: %s of %s: %s", args.name, human(args.vram_mib * MIB), ",".join(settings.devices), division)
        try:
            kwargs = engine_kwargs(args, wanted, device, division) | lora_modules(args, adapters)
            await super().__init__(llm_config(args, source=str(folder), engine_kwargs=kwargs))
        except BaseException:
            await self._agent.drain(self._lease)
            raise
        self._engine_watch = asyncio.create_task(self._end_with_engine())

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve calls this between the constructor and the first request: the last step before ready."""
        app: FastAPI = await super().__serve_build_asgi_app__()
        frontend.add_aliases(app, self._args.aliases)
        frontend.lift_caps(app)
        tasks = sorted(await app.state.engine_client.get_supported_tasks())
        limits = self._args.engine.get("limit_mm_per_prompt")
        frontend.add_cards(app, {"tasks": tasks} | cards.modalities(self._config, tasks, limits))
        frontend.name_what_is_missing(app, self._args.name, tasks)
        if self._args.defaults.truncate_input:
            length, most = frontend.max_model_len(app), self._args.defaults.max_tokens
            frontend.add_middleware(app, TruncateInput, max_model_len=length, max_tokens=most)
        frontend.add_middleware(app, self._open.middleware)
        await warm_up(app, self._args)
        self._lease = await self._agent.activate(self._lease)
        for device, used in self._lease.used.items():
            if used > self._lease.bytes:
                name, budget = self._args.name, human(self._lease.bytes)
                raise ModelError(
                    f"{name} uses {human(used)} of {device}, more than its vram of {budget}. "
                    f"FIX: set models.{name}.vram to at least {-(-used // MIB)}Mi"
                )
        return app

    async def sleep(self, **kwargs: Any) -> None:
        """Ray's hook for vLLM's sleep mode: the lease shrinks to what the sleeping engine keeps."""
        await super().sleep(**kwargs)
        self._lease = await self._agent.sleep(self._lease)

    async def wakeup(self, **kwargs: Any) -> None:
        """Bytes first, then the engine: one that wakes into too little memory can't go back (vllm PR 34600)."""
        self._lease = await self._agent.wake(self._lease)
        try:
            await super().wakeup(**kwargs)
        except Exception:
            log.exception("%s: the engine did not wake; this replica ends so that a new one can start", self._args.name)
            os._exit(1)
        self._lease = await self._agent.activate(self._lease)

    async def __del__(self) -> None:
        """Graceful end. Every other end is seen by the agent, which watches this process."""
        if getattr(self, "_lease", None) is not None:
            try:
                await self._agent.drain(self._lease)
            except LeaseError:
                log.exception("%s: the VRAM agent was not told of this end, and will see it", self._args.name)
        await super().__del__()

    async def _keep_lease(self) -> None:
        """Tell every new agent what this process holds: its file may be lost, and this engine must go on."""
        while True:
            await asyncio.sleep(AGENT_CHECK_S)
            generation = self._agent.generation()
            if generation is None or generation == self._generation:
                continue
            claim = Claim.model_validate(self._request.model_dump() | {"state": self._lease.state})
            try:
                await self._agent.claim(claim)
                self._generation = generation
            except LeaseError:
                log.exception("%s: the VRAM agent does not know the lease of this replica", self._args.name)

    async def _end_with_engine(self) -> None:
        """A replica without its engine answers nothing but errors; Serve's own check would take half a minute."""
        while True:
            await asyncio.sleep(ENGINE_CHECK_S)
            try:
                await self.check_health()
            except Exception:
                log.exception("%s: the engine died; this replica ends so that a new one can start", self._args.name)
                await self._open.ended(within=LAST_WORDS_S)
                os._exit(1)


def locate(source: str, models_dir: Path, config: str = checkpoint.CONFIG) -> Path:
    """The folder with the checkpoint or adapter: a path as it is, a hub id from the hub or its cache.

    Args:
        config: the file that must be there.

    Raises:
        ModelError: there is no such folder.
    """
    if not checkpoint.is_folder(source):
        return Path(snapshot_download(source, ignore_patterns=["*.pth", "original/*"]))
    folder = models_dir / source
    if not (folder / config).exists():
        raise ModelError(
            f"source {source!r}: {folder} has no {config}. FIX: put it there, or name one from the hub as owner/name"
        )
    return folder


def pin(devices: tuple[str, ...], device: Device, budget: int) -> dict[str, str]:
    """Environment of the engine's processes: which GPUs they see, how much torch may take of each, and whether it may
    compile."""
    # Where dynamo is on, vLLM needs a compiler at the first request, with enforce_eager too.
    if device.kind == "host":
        return {"TORCHDYNAMO_DISABLE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "CUDA_VISIBLE_DEVICES": ""}
    compiles = any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    return gpu_environment(devices, device, budget) | {"TORCHDYNAMO_DISABLE": "0" if compiles else "1"}


def engine_kwargs(args: ModelArgs, wanted: Mapping[str, Any], device: Device, division: sizing.Split) -> dict[str, Any]:
    """All engine arguments on this device. What keeps vLLM inside its budget can't be changed by the entry.

    Args:
        wanted: what the entry asks for.

    On a GPU vLLM still checks gpu_memory_utilization at its start, though kv_cache_memory_bytes alone decides the
    cache's size (vllm PR 39852, not merged).
    """
    kv_cache = {"kv_cache_memory_bytes": division.kv_cache}
    if device.kind == "host":
        host = {"enforce_eager": True, "worker_extension_cls": "serve_app.amx.WithAmx"}
        return {**host, **wanted} | kv_cache
    fraction = torch_fraction(device, args.vram_mib * MIB)
    return {**wanted} | kv_cache | {"gpu_memory_utilization": int(fraction * 10_000) / 10_000}


def lora_modules(args: ModelArgs, adapters: Mapping[str, Path]) -> dict[str, Any]:
    """vLLM's list of adapters to load at start."""
    modules = [{"name": name, "path": str(path), "base_model_name": args.name} for name, path in adapters.items()]
    return {"lora_modules": modules} if modules else {}


def llm_config(args: ModelArgs, *, source: str, engine_kwargs: dict[str, Any]) -> LLMConfig:
    """Ray's configuration. `cpu` keeps Ray out of the GPU business: the lease pins the devices, and vLLM starts its own
    processes. The placement group that Ray insists on takes a thousandth of a resource that every node has."""
    return LLMConfig(
        model_loading_config={"model_id": args.name, "model_source": source},
        accelerator_config={"kind": "cpu"},
        placement_group_config={"bundles": [{f"node:{ray.util.get_node_ip_address()}": 0.001}]},
        engine_kwargs=engine_kwargs,
        callback_config={"callback_class": FolderIsThere},
    )


class FolderIsThere(CallbackBase):  # type: ignore[misc]  # Ray has no types
    """Ray's documented hook around the download of a model. `locate` has done that; Ray's own way starts one more
    process, which imports vLLM (1 GiB and ten seconds) to find that out."""

    async def on_before_node_init(self) -> None:
        self.ctx.run_init_node = False


async def warm_up(app: FastAPI, args: ModelArgs) -> None:
    """One real request over the replica's own HTTP surface: what kills an engine must kill it now, not with a user.

    Raises:
        ModelError: the answer is an error.
    """
    paths = {getattr(route, "path", None) for route in app.routes}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {"prompt": "Hello", "max_tokens": 2}),
        ("/v1/embeddings", {"input": "Hello"}),
    ]
    if args.chat_template is not None:
        requests.append(("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica", timeout=WARM_UP_TIMEOUT_S) as client:
        for path, body in requests:
            if path not in paths:
                continue
            response = await client.post(path, json={"model": args.name} | body)
            if response.is_error:
                raise ModelError(f"{args.name} started, but {path} answers {response.status_code}: {response.text}")
