"""The `hive` command: which Hive is meant, and the commands of `hive.commands`."""

from typing import Annotated

import typer

from hive.commands.chat import chat
from hive.commands.deploy import deploy
from hive.commands.down import down
from hive.commands.logs import logs
from hive.commands.models import models
from hive.commands.plan import plan
from hive.commands.scale import scale
from hive.commands.shared import Chosen, Commands
from hive.commands.shutdown import shutdown
from hive.commands.status import status
from hive.commands.up import up

app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_short=True)


@app.callback()
def main(
    ctx: typer.Context,
    release: Annotated[
        str | None,
        typer.Option(envvar="HIVE_RELEASE", help="A Helm release of a cluster. Without it: the Hive of this machine."),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(envvar="HIVE_NAMESPACE", help="Of the release. Without it: the kubeconfig's.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(envvar="HIVE_CONTEXT", help="Of the kubeconfig. Without it: its current one.")
    ] = None,
) -> None:
    """Many LLMs on the GPUs you own, every byte accounted for."""
    ctx.obj = Chosen(release, namespace, context)


for command in (up, down, status, models, plan, deploy, scale, shutdown, chat, logs):
    app.command()(command)

if __name__ == "__main__":
    app()
