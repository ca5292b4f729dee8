"""Prometheus metrics, made from the agent's state whenever they are read. Bytes throughout."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vram_agent.agent import Agent
from vram_agent.api import Device

DEVICE_GAUGES = {
    "total": "Memory of the device.",
    "reserved": "Kept by the driver or the system.",
    "foreign": "In use without a lease.",
    "leased": "Sum of live leases.",
    "free": "What a new lease can get; negative when the device is over.",
}


class AgentCollector(Collector):
    """Reads one agent."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def collect(self) -> Iterable[Metric]:
        state = self.agent.state()
        for field, text in DEVICE_GAUGES.items():
            gauge = GaugeMetricFamily(f"hive_device_{field}_bytes", text, labels=["node", "device"])
            for device in state.devices:
                gauge.add_metric([state.node, device.id], getattr(device, field))
            yield gauge
        broken = GaugeMetricFamily("hive_device_broken", "1 while nothing is granted.", labels=["node", "device"])
        for device in state.devices:
            broken.add_metric([state.node, device.id], _flag(device))
        yield broken
        labels = ["node", "device", "model", "lease", "state"]
        reserved = GaugeMetricFamily("hive_lease_reserved_bytes", "Budget of the lease on the device.", labels=labels)
        used = GaugeMetricFamily("hive_lease_used_bytes", "What its processes hold on the device.", labels=labels)
        for lease in state.leases:
            for device_id in lease.devices:
                values = [state.node, device_id, lease.model, lease.id, lease.state]
                reserved.add_metric(values, lease.bytes)
                used.add_metric(values, lease.used.get(device_id, 0))
        yield reserved
        yield used
        refused = CounterMetricFamily("hive_leases_refused", "Lease requests refused.", labels=["node"])
        refused.add_metric([state.node], self.agent.refused_total)
        yield refused
        orphans = CounterMetricFamily("hive_orphans_ended", "Processes ended that outlived a holder.", labels=["node"])
        orphans.add_metric([state.node], self.agent.orphans_ended_total)
        yield orphans


def _flag(device: Device) -> int:
    return int(device.error is not None)
