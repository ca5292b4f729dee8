"""Checks of engines that run: their caps, what else takes memory, and what dies."""

import time
from functools import partial
from pathlib import Path

from benchmarks.gpu_check.context import Context, Finding
from benchmarks.gpu_check.nvml import Watch, alive
from benchmarks.gpu_check.processes import ANSWER, BrokenError, wait
from benchmarks.procfs import TICKS, cpu_seconds
from serve_app.sizing import CUDA_CONTEXT_BYTES
from vram_agent.api import MIB, EventKind, LeaseState, Refusal, human
from vram_agent.nvml import NvmlSource

BEYOND = 512 * MIB
GRACE, PERIOD = 5.0, 0.5  # the agent's own (vram_agent/settings.py)
ORPHAN = 40.0  # seconds until an orphan and its bytes are gone: far more than twice the grace time
SAMPLES = 300
CPU_SECONDS = 10.0
P50_LIMIT = PERIOD / 10  # of a sample, which must not take up a round
CPU_LIMIT = 0.25  # of one core
DOWN = 1.0  # seconds without an agent
LEFT = 64 * MIB  # of a GPU that others may use as well


def cap(ctx: Context) -> Finding:
    """An engine that wants more than its lease is stopped by torch, alone, before the lease is exceeded."""
    first, neighbour = ctx.engine("first"), ctx.engine("second")
    neighbour.line.ask("work", 0)
    before = neighbour.line.ask("stats")
    limit = (ctx.budget - CUDA_CONTEXT_BYTES) / ctx.device().total * first.opened["total"]
    with Watch(ctx.rebase(first), first.pid) as watch:
        asked = first.line.ask("exceed", ctx.budget + BEYOND)
    after = neighbour.line.ask("rest")
    still = first.line.ask("work", 1)["steps"] > 0
    apart = after["steps"] > before["steps"] and after["reserved"] == before["reserved"]
    refused = asked["error"] == "OutOfMemoryError" and asked["reached"] <= limit
    ok = refused and watch.peak <= ctx.budget and watch.error is None and still and apart
    how = f"torch.cuda.OutOfMemoryError at {human(asked['reached'])}"
    if not asked["error"]:
        how = f"torch refused NOTHING up to {human(asked['reached'])}"
    text = (
        f"{how} (cap {human(int(limit))}); the process "
        f"peaked at {human(watch.peak)} of {human(ctx.budget)} in {watch.readings} readings{ctx.how}; its neighbour "
        f"{'went on' if apart else 'was DISTURBED'}"
    )
    figures = {"cap": int(limit), "peak": watch.peak, "budget": ctx.budget, "readings": watch.readings}
    figures |= {"reached": asked["reached"], "message": asked["message"], "neighbour_steps": after["steps"]}
    return Finding(ok, text + (f"; {watch.error}" if watch.error else ""), figures)


def budgets(ctx: Context) -> Finding:
    """No lease holds more than its bytes; the drift is what budgets have left over."""
    state = ctx.sampled_again()
    drifts = {lease.model: lease.used[ctx.gpu.uuid] - lease.bytes for lease in state.leases}
    nvml = {name: ctx.bytes_of(engine) for name, engine in ctx.engines.items()} if ctx.listed else {}
    active = all(lease.state is LeaseState.ACTIVE for lease in state.leases)
    same = all(lease.used[ctx.gpu.uuid] == nvml.get(lease.model) for lease in state.leases)
    ok = len(drifts) == 3 and active and same and all(drift <= 0 for drift in drifts.values())
    text = "measured - budget: " + ", ".join(f"{name} {human(drift)}" for name, drift in drifts.items())
    if not same:
        text += f"; agent and NVML differ: {[lease.used for lease in state.leases]} and {nvml}"
    return Finding(ok, text, {"drift": drifts, "nvml": nvml})


def refusal(ctx: Context) -> Finding:
    """What does not fit is refused with figures, and nothing changes."""
    before = ctx.sampled_again()
    free = ctx.device(before).free
    asked = max(free, 0) + ctx.budget
    engine = ctx.new_engine("too-large")
    assert engine.held is not None
    answer = engine.held.ask("acquire", ctx.request(engine.name, asked))
    ctx.drop(engine.name)
    if answer["status"] != 409:
        return Finding(False, f"{human(asked)} of {human(free)} free: the agent answers {answer['status']}", answer)
    refused = Refusal.model_validate(answer["body"])
    after = ctx.sampled_again()
    same = [lease.model_dump(exclude={"used"}) for lease in before.leases] == [
        lease.model_dump(exclude={"used"}) for lease in after.leases
    ] and free == ctx.device(after).free
    figures = refused.model_dump() | {"seconds": answer["answered"] - answer["asked"]}
    right = (refused.asked, refused.free) == (asked, free) and str(asked) in refused.error
    text = (
        f"{human(asked)} refused after {figures['seconds']:.1f} s, {human(refused.free)} can be had; "
        f"leases and free bytes {'are as before' if same else 'CHANGED'}"
    )
    return Finding(right and same, text, figures)


def foreign(ctx: Context) -> Finding:
    """Memory without a lease is seen, named and subtracted; past the headroom it is an event, until it is gone."""
    began = time.time()
    before = ctx.device(ctx.sampled_again())
    engine = ctx.new_engine("foreign", leased=False)
    ctx.start_unleased(engine)
    within = ctx.device(ctx.sampled_again())
    quiet = not ctx.events_since(began, EventKind.FOREIGN)
    engine.line.ask("take", before.headroom - before.foreign + BEYOND)
    past = ctx.device(ctx.sampled_again())
    size = ctx.bytes_of(engine)
    named = [process for process in past.processes if process.pid == engine.pid]
    alarm = [e for e in ctx.events_since(began, EventKind.FOREIGN) if f"pid {engine.pid}" in e.text]
    subtracted = before.free - past.free == past.foreign - max(before.foreign, before.headroom)
    moment = time.time()
    pid = engine.pid
    ctx.drop(engine.name)
    rest = max(before.headroom, before.foreign + LEFT)
    wait(ANSWER, lambda: ctx.device().foreign <= rest, lambda: "its bytes stay foreign")
    after = ctx.device(ctx.sampled_again())
    cleared = [e for e in ctx.events_since(moment, EventKind.CLEARED) if EventKind.FOREIGN in e.text]
    failed = {
        "an event came within the headroom": not quiet,
        f"PID {pid} is not named with its {human(size)}": not named or named[0].bytes != size,
        f"foreign memory went up by {human(past.foreign - before.foreign)}": abs(past.foreign - before.foreign - size)
        > LEFT,
        f"free went from {human(before.free)} to {human(past.free)}": not subtracted or within.free != before.free,
        "no event names it": not alarm,
        "no event says that it is gone": not cleared,
        f"free is {human(after.free)} at the end, it was {human(before.free)}": after.free != before.free,
    }
    figures = {
        "pid": pid,
        "bytes": size,
        "foreign": [device.foreign for device in (before, within, past, after)],
        "free": [device.free for device in (before, within, past, after)],
        "headroom": before.headroom,
    }
    text = (
        f"{named[0].name if named else 'nobody'} (PID {pid}) {human(size)}{ctx.how}; foreign {human(before.foreign)}, "
        f"{human(within.foreign)}, {human(past.foreign)}, {human(after.foreign)} with a headroom of "
        f"{human(before.headroom)}; free went down by {human(before.free - past.free)} and came back"
    )
    wrong = [what for what, is_so in failed.items() if is_so]
    return Finding(not wrong, "; ".join([text, *wrong]) if not wrong else "; ".join(wrong), figures)


def cost(ctx: Context) -> Finding:
    """What one sample and the agent's rounds take, with the leases of this check alive."""
    pid = ctx.agent.pid
    cpu, began = cpu_seconds(pid), time.monotonic()
    time.sleep(CPU_SECONDS)
    share = (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
    source = NvmlSource()
    taken = []
    for _ in range(SAMPLES):
        start = time.perf_counter()
        sample = source.sample(ctx.gpu.uuid, (), time.monotonic())
        taken.append(time.perf_counter() - start)
        if sample.error:
            raise BrokenError(sample.error)
    taken.sort()
    p50, p99 = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
    leases = len(ctx.state().leases)
    text = (
        f"a sample takes {1000 * p50:.2f} ms (p50), {1000 * p99:.2f} ms (p99) of {SAMPLES}; the agent with {leases} "
        f"leases takes {100 * share:.1f} % of one core"
    )
    figures = {"p50": p50, "p99": p99, "cpu": share, "leases": leases, "tick": 1 / TICKS}
    return Finding(p50 <= P50_LIMIT and share <= CPU_LIMIT, text, figures)


def restart(ctx: Context) -> Finding:
    """kill -9 of the agent: a new one knows every lease, and an engine that works never notices."""
    engine = ctx.engine("second")
    before = {lease.id: lease for lease in ctx.sampled_again().leases}
    start = engine.line.ask("work", 0)["steps"]
    ctx.agent.kill()
    time.sleep(DOWN)
    down = engine.line.ask("stats")
    seconds = ctx.agent.start()
    after = {lease.id: lease for lease in ctx.sampled_again().leases}
    end = engine.line.ask("stats")
    same = {key: (one.state, one.bytes, one.pids) for key, one in before.items()} == {
        key: (one.state, one.bytes, one.pids) for key, one in after.items()
    }
    gap = max(down["longest_gap"], end["longest_gap"])
    ok = bool(before) and same and start < down["steps"] < end["steps"]
    text = (
        f"back after {seconds:.1f} s with {len(after)} of {len(before)} leases{'' if same else ', NOT as they were'}; "
        f"the engine did {down['steps'] - start} products without an agent and {end['steps'] - down['steps']} since, "
        f"never more than {1000 * gap:.0f} ms apart"
    )
    return Finding(ok, text, {"back_after": seconds, "longest_gap": gap, "products": end["steps"] - start})


def orphan(ctx: Context) -> Finding:
    """kill -9 of a holder: its engine is charged until the agent has ended it and the GPU shows its bytes again."""
    engine = ctx.engine("second")
    engine.line.ask("work", 0)
    moment = time.time()
    orphaned = gone = None
    uncharged = []
    with Watch(ctx.rebase(engine), engine.pid, rest=0 if ctx.listed else LEFT) as watch:
        killed = engine.kill_holder()
        while time.monotonic() < killed + ORPHAN and not (gone and watch.dead and watch.freed):
            lease = ctx.lease(engine.name)
            if lease is None:
                gone = gone or time.monotonic()
            else:
                uncharged += [lease] if lease.charged[ctx.gpu.uuid] < lease.bytes else []
                if lease.state is LeaseState.ORPHANED:
                    orphaned = orphaned or time.monotonic()
            time.sleep(0.005)
    told = [event for event in ctx.events_since(moment, EventKind.ORPHAN) if f"pid {engine.pid} " in event.text]
    dead, freed = watch.dead, watch.freed
    figures = {
        name: None if at is None else round(at - killed, 4)
        for name, at in {"orphaned": orphaned, "dead": dead, "bytes_back": freed, "lease_gone": gone}.items()
    }
    figures["release"] = None if dead is None or freed is None else round(freed - dead, 4)
    wrong = {
        "it was never ORPHANED": orphaned is None,
        "it was not charged whole": bool(uncharged),
        f"its engine ended before the grace time of {GRACE:.0f} s": dead is not None and dead - killed < GRACE,
        "its engine lives on": dead is None,
        "NVML still shows its bytes": freed is None,
        f"the lease is there after {ORPHAN:.0f} s": gone is None,
        "the lease ended before its bytes were back": bool(gone and freed and gone < freed),
        "no event tells of it": not told,
    }
    if any(wrong.values()):
        return Finding(False, "; ".join(what for what, is_so in wrong.items() if is_so), figures)
    text = (
        f"kill -9 of the holder, ORPHANED after {figures['orphaned']:.2f} s, the engine ended by the agent after "
        f"{figures['dead']:.2f} s, bytes back after {figures['bytes_back']:.2f} s, the lease over after "
        f"{figures['lease_gone']:.2f} s; {1000 * (figures['release'] or 0):+.0f} ms from the engine's death to NVML's "
        f"release{ctx.how}"
    )
    return Finding(True, text, figures)


def ended(ctx: Context) -> Finding:
    """Engines that end in order leave nothing: no lease, no byte, no process."""
    ran = [ctx.engine(name) for name in ("first", "third")]
    for engine in ran:
        engine.drain()
    for engine in ran:
        wait(ANSWER, partial(_is_gone, ctx, engine.name), lambda: "a lease that was given back does not end")
    for name in list(ctx.engines):
        ctx.drop(name)
    wait(ANSWER, lambda: ctx.gpu.used() <= ctx.before + LEFT, lambda: f"{human(ctx.gpu.used())} stay in use")
    left = [engine.pid for engine in ran if alive(engine.pid)]
    leases = len(ctx.state().leases)
    used = ctx.gpu.used()
    log = Path(ctx.agent.log).read_text(errors="replace")
    errors = sum('"level": "ERROR"' in line or line.startswith("Traceback") for line in log.splitlines())
    text = f"{leases} leases; {human(used)} in use, {human(ctx.before)} before; {errors} errors in the agent's log"
    return Finding(not (left or leases or errors), text, {"used": used, "before": ctx.before, "errors": errors})


def _is_gone(ctx: Context, name: str) -> bool:
    return ctx.lease(name) is None
