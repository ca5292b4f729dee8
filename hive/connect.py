"""From what a person names to the Hive that it is. Apart from `target`, so that what both kinds of Hive share does not
depend on them."""

from pathlib import Path

from hive.errors import HiveError
from hive.target import Target


def connect(
    release: str | None = None,
    namespace: str | None = None,
    context: str | None = None,
    values_file: Path | None = None,
) -> Target:
    """The Hive that these name.

    Args:
        release: a Helm release; None: the Hive of this machine.
        namespace: where the release is; None: the kubeconfig's.
        context: of the kubeconfig; None: its current one.
        values_file: where the release's values are kept: `change` edits it and upgrades from it. None: no file is
            edited. The Hive of this machine has its own.

    Raises:
        HiveError: there is none.
    """
    if release is None:
        if values_file is not None:
            raise HiveError(
                "the Hive of this machine edits the file that it was started with", "leave out --values, or: hive up -f"
            )
        from hive.local.run import folders
        from hive.local.target import find

        return find(folders())
    from hive.cluster.target import ClusterHive

    return ClusterHive.open(release, namespace, context, values_file)
