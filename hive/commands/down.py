"""`hive down`: end a Hive."""

import typer

from hive.commands.shared import chosen, out, report
from hive.local import driver
from hive.local.run import folders


def down(ctx: typer.Context) -> None:
    """End the Hive: no process and no lease stays. A release is uninstalled."""
    said = chosen(ctx)
    if said.release is None:
        driver.stop(folders(), report)
        out.print("Hive is down: no process and no lease is left.")
        return
    from hive.cluster.target import ClusterHive

    release = ClusterHive.open(said.release, said.namespace, said.context).release
    report(f"Helm uninstalls {release.name} from namespace {release.namespace}, and waits until its pods are gone")
    release.uninstall()
    out.print(
        f"{release.name} is uninstalled. What was not made by it stays: the namespace {release.namespace}, your "
        "Secrets (API keys, hub token), the models volume, KubeRay's operator and CRDs.",
        soft_wrap=True,
    )
