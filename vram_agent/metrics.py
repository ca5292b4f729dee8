"""Prometheus metrics. Gauges are made from the agent's state whenever they are read; bytes and seconds throughout."""

import time
from collections import Counter as Sums
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vram_agent.api import Device, EventKind, LeaseState, Reason, State

DEVICE_GAUGES: dict[str, tuple[str, Callable[[Device], float]]] = {
    "total_bytes": ("Memory of the device.", lambda device: device.total),
    "reserved_bytes": ("Kept by the driver or the system.", lambda device: device.reserved),
    "safety_bytes": ("Never granted.", lambda device: device.safety),
    "headroom_bytes": ("Kept for memory without a lease.", lambda device: device.headroom),
    "foreign_bytes": ("In use without a lease.", lambda device: device.foreign),
    "leased_bytes": ("Sum of what live leases take.", lambda device: device.leased),
    "free_bytes": ("What a new lease can get; negative when the device is over.", lambda device: device.free),
    "over": ("1 while more is promised or held than there is.", lambda device: device.over),
    "broken": ("1 while nothing is granted for another reason.", lambda device: device.error is not None),
}
Labels = tuple[str, ...]
# An engine's start takes seconds on a small GPU and many minutes for a large model from a slow disk.
WAIT_BUCKETS = (0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1200, 3600)


class Metrics:
    """What the agent counts itself, and the registry that `/metrics` reads.

    Args:
        node: label of every metric.
        state: gives the agent's present state.
    """

    def __init__(self, node: str, state: Callable[[], State]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(StateCollector(state))
        self._refusals = self._counter("hive_lease_refusals", "Lease requests refused.", "reason")
        self._orphans = self._counter("hive_orphans_ended", "Processes ended that outlived a holder.")
        self._events = self._counter("hive_agent_events", "Events, as `hive status` shows them.", "kind")
        self._wait = Histogram(
            "hive_start_wait_seconds",
            "From a request to the start of its engine: the queue, the start lock, leaving leases.",
            ["node"],
            buckets=WAIT_BUCKETS,
            registry=self.registry,
        )
        self.node = node
        # Series that start at 0 and not at the first event, so that rates show it.
        self._wait.labels(node)
        self._orphans.labels(node)
        for reason in Reason:
            self._refusals.labels(node, reason)
        for kind in EventKind:
            self._events.labels(node, kind)

    def refused(self, reason: str) -> None:
        self._refusals.labels(self.node, reason).inc()

    def orphan_ended(self) -> None:
        self._orphans.labels(self.node).inc()

    def event(self, kind: str) -> None:
        self._events.labels(self.node, kind).inc()

    def waited(self, seconds: float) -> None:
        self._wait.labels(self.node).observe(seconds)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["node", *labels], registry=self.registry)


class StateCollector(Collector):
    """Gauges of devices and leases. Leases are summed by model and state: a label for each would never end."""

    def __init__(self, state: Callable[[], State]) -> None:
        self.state = state

    def describe(self) -> Iterable[Metric]:
        """Nothing: the state does not exist yet when this is registered."""
        return []

    def collect(self) -> Iterable[Metric]:
        state = self.state()
        for name, (text, value) in DEVICE_GAUGES.items():
            gauge = GaugeMetricFamily(f"hive_device_{name}", text, labels=["node", "device"])
            for device in state.devices:
                gauge.add_metric([state.node, device.id], value(device))
            yield gauge
        age = GaugeMetricFamily(
            "hive_device_sample_age_seconds", "Since the device was last read.", labels=["node", "device"]
        )
        for device in state.devices:
            age.add_metric([state.node, device.id], max(0.0, time.time() - device.sampled))
        yield age
        yield from self._leases(state)

    def _leases(self, state: State) -> Iterable[Metric]:
        counts, charged, used = Sums[Labels](), Sums[Labels](), Sums[Labels]()
        drift: dict[Labels, int] = {}
        for lease in state.leases:
            for device in lease.devices:
                labels: Labels = (state.node, device, lease.model, lease.state)
                counts[labels] += 1
                charged[labels] += lease.charged[device]
                used[labels] += lease.used[device]
                if lease.state is LeaseState.ACTIVE:
                    excess = lease.used[device] - lease.bytes
                    drift[labels[:3]] = max(excess, drift.get(labels[:3], excess))
        for name, text, sums in (
            ("hive_leases", "Leases.", counts),
            ("hive_lease_charged_bytes", "What the leases take from the device.", charged),
            ("hive_lease_used_bytes", "What their processes hold on it, as measured.", used),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["node", "device", "model", "state"])
            for key, value in sums.items():
                gauge.add_metric(key, value)
            yield gauge
        gauge = GaugeMetricFamily(
            "hive_lease_drift_bytes",
            "Measured minus budget, of the model's replica that is worst off; positive is beyond the budget.",
            labels=["node", "device", "model"],
        )
        for key, value in drift.items():
            gauge.add_metric(key, value)
        yield gauge
