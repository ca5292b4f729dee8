"""A storm of engine starts against the real VRAM agent, on real memory, with real kills.

Why: the agent promises that budgets never add up to more than a device has, whatever dies whenever. Tests show that for
the orders of events that somebody thought of. A storm shows it for thousands that nobody did.

    python -m benchmarks.vram_storm            # about twelve minutes, as root, with a memory cgroup
    python -m benchmarks.vram_storm --scenario hive --seed 7

The device is `host`, a memory cgroup of a few GiB whose limit kills. Into it come hundreds of engines. Each is a holder
that asks the agent for a lease and a child that writes to real pages up to 93-100 % of the budget, part of it only
after it said that it is ready. They drain, exit without a word, or die by kill -9: holder or child, ready or in the
middle of their start. Meanwhile foreign processes come and go, the agent itself is killed and started again, waiters
die in the queue, clients hang up and ask again with the same request id. A seed fixes all of it (`script`).

Three scenarios meet the same script:

- `hive`: the agent as it is, foreign memory within the headroom. Any finding makes the exit code 1.
- `naive`: the same agent with the rule `free - pending` (`naive`), judged without a headroom because it promises none.
- `beyond`: the agent as it is, foreign memory beyond the headroom, which no rule can make safe; shown, not judged.

The judge (`judge`) does not trust the agent: who was alive when is told by engines and by the kernel, 25 times a
second, and OOM kills are counted by the kernel.
"""
