"""`hive down`: end a Hive."""

from hive.commands.shared import out, report
from hive.local import driver
from hive.local.run import folders


def down() -> None:
    """Stop the Hive of this machine: no process and no lease stays."""
    driver.stop(folders(), report)
    out.print("Hive is down: no process and no lease is left.")
