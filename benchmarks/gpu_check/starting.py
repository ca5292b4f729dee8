"""Checks of the machine, the agent's start and engines' starts."""

import os
import select
import socket
import struct
import subprocess
import sys
import time

from benchmarks.gpu_check import nvml
from benchmarks.gpu_check.context import LEAST_BUDGET, MOST_BUDGET, SHARE, Context, Finding, pin
from benchmarks.gpu_check.processes import ANSWER, START, BrokenError, Engine, wait
from serve_app.sizing import CUDA_CONTEXT_BYTES
from vram_agent import processes
from vram_agent.api import GIB, MIB, Lease, LeaseState, human

SAFETY = 256 * MIB
WARM_UP = 20  # products: enough to load cuBLAS


def system(_: Context) -> Finding:
    """What the agent asks of the kernel, each by itself."""
    missing = []
    me = os.getpid()
    found = processes.find(me)
    if found is None:
        missing.append("/proc/PID/stat does not show this process")
    elif (listed := processes.listing().get(me)) is None:
        missing.append("/proc does not list this process")
    elif (listed.group, listed.session) != (os.getpgrp(), os.getsid(0)):
        missing.append("/proc/PID/stat shows another group or session than getpgrp(2) and getsid(2)")
    child = subprocess.Popen([sys.executable, "-E", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        family = processes.Families(processes.listing()).of({found} if found else set())
        if child.pid not in {process.pid for process in family}:
            missing.append("/proc does not show a child below its parent")
        fd = os.pidfd_open(child.pid)
        child.kill()
        if not select.select([fd], [], [], 5.0)[0]:
            missing.append("a pidfd does not tell of its process's end")
        os.close(fd)
    except (OSError, AttributeError) as error:
        missing.append(f"pidfd_open: {error}")
    finally:
        child.kill()
        child.wait()
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        caller = struct.unpack("3i", ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
    if caller != me:
        missing.append(f"SO_PEERCRED says PID {caller} for {me}")
    return Finding(
        not missing, "; ".join(missing) or "/proc, groups, sessions, pidfd and SO_PEERCRED are as they must be"
    )


def identity(ctx: Context) -> Finding:
    """What NVML's figures mean on this driver."""
    one, two = ctx.gpu.v1(), ctx.gpu.v2()
    with_reserved = two.used == two.total - two.free
    without = two.used == two.total - two.free - two.reserved
    if with_reserved and without:
        meaning = "nothing is reserved, so v2.used tells nothing of it"
    elif with_reserved or without:
        meaning = f"v2.used {'includes' if with_reserved else 'does not include'} reserved"
    else:
        meaning = "v2.used is neither total - free nor total - free - reserved"
    used = two.total - two.free - two.reserved
    ok = (with_reserved or without) and used >= 0 and one.total == two.total
    v1 = "includes reserved" if one.used == one.total - one.free else "is not total - free"
    limits = ctx.gpu.limits()
    figures = {
        "v1": vars(one) | {"reserved": None},
        "v2": vars(two),
        "v2_used_includes_reserved": with_reserved if two.reserved else None,
        "limits": limits,
    }
    return Finding(
        ok,
        f"{meaning}; v1.used {v1}; v2 total {human(two.total)}, free {human(two.free)}, reserved "
        f"{human(two.reserved)}, used {human(two.used)}; v1 free {human(one.free)}, used {human(one.used)}; "
        f"memory limits: {limits}",
        figures,
    )


def agent(ctx: Context) -> Finding:
    """The real one starts on this GPU and shows what NVML says."""
    headroom = -(-ctx.before // MIB) * MIB + GIB
    seconds = ctx.start_agent(headroom, SAFETY)
    device = ctx.device()
    if device.error:
        raise BrokenError(f"the agent grants nothing on {device.name}: {device.error}")
    ctx.budget = min(MOST_BUDGET, device.free // SHARE) // MIB * MIB
    memory = ctx.gpu.v2()
    same = (device.total, device.reserved) == (memory.total, memory.reserved)
    figures = {
        "started_in": seconds,
        "enforcement": device.enforcement.value,
        "foreign": device.foreign,
        "free": device.free,
        "budget": ctx.budget,
    }
    text = (
        f"answers after {seconds:.1f} s; enforcement by {device.enforcement.value}; {human(device.foreign)} foreign, "
        f"{human(device.free)} free for leases; an engine's budget here is {human(ctx.budget)}"
    )
    if ctx.budget < LEAST_BUDGET:
        raise BrokenError(f"{text}. FIX: end what else uses the GPU; {human(SHARE * LEAST_BUDGET)} must be free")
    if not same:
        text += f"; but it shows total {device.total} and reserved {device.reserved}, NVML {memory}"
    return Finding(same, text, figures)


def pinned(ctx: Context) -> Finding:
    """The first engine gets its lease, and sees the lease's GPU alone."""
    if not ctx.budget:
        raise BrokenError("not made: no budget is possible")
    first = ctx.new_engine("first")
    _grant(ctx, first)
    ctx.start(first)
    uuid = ctx.gpu.uuid.removeprefix("GPU-")
    seen = first.opened["uuid"].removeprefix("GPU-")
    text = f"torch sees {first.opened['count']} GPU, {seen}"
    if seen != uuid:
        text += f"; the lease is of {uuid}"
    env = pin(ctx.device(), ctx.budget)
    figures = {"count": first.opened["count"], "uuid": seen, "torch_total": first.opened["total"], "env": env}
    return Finding(first.opened["count"] == 1 and seen == uuid, text, figures)


def pids(ctx: Context) -> Finding:
    """NVML's PIDs are those of /proc: without that, nobody can tell whose memory it is."""
    first = ctx.engine("first")
    listed = ctx.gpu.by_pid()
    size = listed.get(first.pid)
    ctx.listed = bool(size)
    unknown = [pid for pid in listed if not nvml.alive(pid)]
    figures = {"listed": len(listed), "engine_listed": first.pid in listed, "not_in_proc": unknown}
    if ctx.listed:
        more = f"; {len(unknown)} of {len(listed)} others are not in /proc" if unknown else ""
        return Finding(not unknown, f"NVML lists the engine, PID {first.pid}, with {human(size or 0)}{more}", figures)
    if first.pid in listed:
        text = f"NVML lists the engine, PID {first.pid}, but not its bytes (vGPU, or a sandbox)"
    elif listed:
        text = f"NVML lists PIDs {', '.join(map(str, listed))}, not the engine's {first.pid}: another PID namespace"
    else:
        text = f"NVML lists no process, though the engine, PID {first.pid}, has a CUDA context"
    fix = "FIX: run where PIDs are the host's (hostPID). Until then no memory can be told from another's"
    return Finding(False, f"{text}. {fix}, and checks that need it fail", figures)


def leased(ctx: Context) -> Finding:
    """The engine takes 90 % of its budget and becomes active, with the same figure from agent and NVML."""
    first = ctx.engine("first")
    bare = ctx.bytes_of(first) - first.opened["reserved"]
    first.line.ask("take", ninety(ctx))
    reserved = first.line.ask("work", WARM_UP)["reserved"]
    first.activate()
    size = ctx.bytes_of(first)
    assert first.lease is not None
    measured = first.lease.used[ctx.gpu.uuid]
    context = size - reserved
    figures = {
        "budget": ctx.budget,
        "agent": measured,
        "nvml": size,
        "torch": reserved,
        "context_bare": bare,
        "context": context,
        "gpu": ctx.gpu.used() - ctx.before,
    }
    ctx.cuda_context = {"bare": bare, "after_products": context}
    ok = ctx.listed and first.lease.state is LeaseState.ACTIVE and measured == size and size <= ctx.budget
    return Finding(
        ok,
        f"{first.lease.state}; budget {human(ctx.budget)}, measured by the agent {human(measured)}, NVML {human(size)}"
        f"{ctx.how}, reserved by torch {human(reserved)}; the whole GPU went up by {human(figures['gpu'])}",
        figures,
    )


def context(ctx: Context) -> Finding:
    """The CUDA context, which torch's cap does not count, is no larger than what budgets leave for it."""
    found = ctx.cuda_context
    if not found:
        raise BrokenError("not made: the first engine was not measured")
    largest = max(found.values())
    return Finding(
        0 < largest <= CUDA_CONTEXT_BYTES,
        f"{human(found['bare'])} at the start, {human(found['after_products'])} once cuBLAS is loaded{ctx.how}; "
        f"budgets leave {human(CUDA_CONTEXT_BYTES)} for it",
        {**found, "constant": CUDA_CONTEXT_BYTES},
    )


def two_starts(ctx: Context) -> Finding:
    """Two ask at once: the second one's start waits until the first one is ready."""
    ctx.engine("first")
    engines = [ctx.new_engine(name) for name in ("second", "third")]
    try:
        return _both(ctx, engines)
    except BaseException:
        for engine in engines:
            ctx.drop(engine.name)  # half started, it would be in the way of what follows
        raise


def ninety(ctx: Context) -> int:
    """What torch may hold for the whole engine to be at 90 % of its budget."""
    return ctx.budget * 9 // 10 - CUDA_CONTEXT_BYTES


def _both(ctx: Context, engines: list[Engine]) -> Finding:
    for engine in engines:
        assert engine.held is not None
        engine.held.tell("acquire", ctx.request(engine.name, ctx.budget))
    ahead = _granted_first(engines)
    behind = next(engine for engine in engines if engine is not ahead)
    wait(ANSWER, lambda: _state(ctx, behind) is LeaseState.PENDING, lambda: f"{behind.name} is {_state(ctx, behind)}")
    _fill(ctx, ahead)
    while_starting = _state(ctx, behind)
    active = ahead.activate()
    granted = _granted(behind)
    _fill(ctx, behind)
    behind.activate()
    state = ctx.sampled_again()
    device = ctx.device(state)
    total = device.leased + max(device.foreign, device.headroom) + device.reserved + device.safety
    both = [lease for lease in state.leases if lease.model in {"second", "third"} and lease.state is LeaseState.ACTIVE]
    ordered = active["asked"] <= granted["answered"]
    ok = while_starting is LeaseState.PENDING and ordered and len(both) == 2 and total <= device.total
    after = granted["answered"] - active["asked"]
    return Finding(
        ok,
        f"the second was {while_starting} until the first said that it is ready, and was granted {after:.3f} s after "
        f"that; {len(both)} of 2 are ACTIVE together; leases {human(device.leased)}, with headroom, reserved "
        f"and safety {human(total)} of {human(device.total)}",
        {"granted_after": after, "sum": total, "total": device.total, "leased": device.leased},
    )


def _grant(ctx: Context, engine: Engine) -> None:
    assert engine.held is not None
    engine.held.tell("acquire", ctx.request(engine.name, ctx.budget))
    _granted(engine)


def _granted(engine: Engine) -> dict[str, float]:
    assert engine.held is not None
    answer: dict[str, float] = engine.held.answer(START)
    if answer["status"] != 200:
        raise BrokenError(f"no lease for {engine.name}: {answer['status']} {answer['body']}")
    engine.lease = Lease.model_validate(answer["body"])
    return answer


def _granted_first(engines: list[Engine]) -> Engine:
    """The one of them that may start."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        for engine in engines:
            assert engine.held is not None
            if engine.held.heard():
                _granted(engine)
                return engine
        time.sleep(0.001)
    raise BrokenError("neither of two engines was granted a lease")


def _state(ctx: Context, engine: Engine) -> LeaseState | None:
    lease = ctx.lease(engine.name)
    return None if lease is None else lease.state


def _fill(ctx: Context, engine: Engine) -> None:
    ctx.start(engine)
    engine.line.ask("take", ninety(ctx))
    engine.line.ask("work", WARM_UP)
