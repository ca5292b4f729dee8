"""When what was asked for serves, and when it will not. Pure: looks and times are handed in."""

from collections.abc import Sequence

from hive.errors import HiveError, HiveErrors
from hive.serve_api import Application

RECOVERY_SECONDS = 300  # for Serve to replace a replica that died


class Settling:
    """Judges one look after the other.

    Args:
        names: the models that are asked for, and no others.
        now: seconds of a monotonic clock.
    """

    def __init__(self, names: set[str], now: float) -> None:
        self._names = names
        self._sick_until = now + RECOVERY_SECONDS

    def done(self, found: Sequence[Application], now: float) -> bool:
        """Whether every model serves, with all replicas that are wanted and no other.

        Raises:
            HiveError: a model can't be served; the others go on.
        """
        sick = [app for app in found if app.status == "UNHEALTHY"]
        if not sick:
            self._sick_until = now + RECOVERY_SECONDS
        if failed := [app for app in found if app.failed] or (sick if now > self._sick_until else []):
            raise HiveErrors([_failure(app) for app in failed])
        return {app.name for app in found} == self._names and all(app.ready for app in found)


def _failure(app: Application) -> HiveError:
    """Most reasons carry their own mend."""
    what, _, fix = app.reason.partition("FIX: ")
    return HiveError(f"{app.name}: {what}", fix or f"see its log: hive logs {app.name}")
