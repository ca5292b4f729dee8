"""Chat templates are checked before they reach an engine, where a broken one would cost a whole start."""

from collections.abc import Mapping
from typing import Any

import jinja2
import jinja2.sandbox

from hive.errors import HiveError

SPECIAL_TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>"}
SAMPLE = [{"role": "user", "content": "Hello"}]


def check(serve_config: Mapping[str, Any]) -> list[HiveError]:
    """Mistakes in the chat templates of a rendered serve config, found by rendering one message with each."""
    errors = []
    for app in serve_config["applications"]:
        template = app["args"]["chatTemplate"]
        if template is None:
            continue
        field = f"models.{app['name']}.chatTemplate"
        try:
            _environment().from_string(template).render(messages=SAMPLE, add_generation_prompt=True, **SPECIAL_TOKENS)
        except jinja2.TemplateSyntaxError as error:
            errors.append(HiveError(f"{field}, line {error.lineno}: {error.message}", "mend the Jinja template"))
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            errors.append(
                HiveError(
                    f"{field} can't render one user message: {error}", "mend the Jinja template; it gets `messages`"
                )
            )
    return errors


def _environment() -> jinja2.Environment:
    """As transformers sets it up: sandboxed, blocks trimmed, raise_exception and loop controls at hand."""

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda pattern: pattern
    return environment
