"""How fast Hive serves, beside bare vLLM and stock Ray Serve LLM: one run, one machine, the same models and engines.

    python -m benchmarks.serving_speed             # about fifteen minutes; 24 GiB of RAM, no GPU
    python -m benchmarks.serving_speed --quick     # about three: the tiny model alone, one round

Targets: `bare` is vLLM's own server; `stock` is `ray.serve.llm.build_openai_app` with Ray's defaults; `direct` is a
model's own address in Hive; `gateway` is Hive's one address for all models. Every engine has the arguments and the
environment that Hive's replica gives its own (`engines`).

Fair by construction: all targets of a model are up at once and one of them is busy at a time; every round takes each
target once with the same prompts, in an order that rotates; ratios are those of one round, and what is reported is
their median with the least and the most. Prompts are salted, so that no prefix cache knows them.

Load and times come from `vllm bench serve`'s own code, in one process (`vllm_load`). It only streams, so that what
is not streamed is sent by a loop of ours, and labelled so.
"""
