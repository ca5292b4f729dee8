"""What a call asks for, what is sent for it, and what an answer says. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypedDict, TypeVar, cast

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from hive.errors import HiveError

Model = TypeVar("Model", bound=BaseModel)
Prompt: TypeAlias = str | Sequence[Mapping[str, object]]
"""A question, or OpenAI's list of messages."""
Json = dict[str, Any]
RETRIES = 5
ALL_THAT_FITS = -1  # vLLM: the model's length less the tokens that the request asks for


class Sampling(TypedDict, total=False):
    """OpenAI's parameters."""

    max_tokens: int | None
    """Of the answer; None or left out: what the model's entry says."""
    temperature: float
    top_p: float
    seed: int
    stop: str | list[str]
    presence_penalty: float
    frequency_penalty: float
    logit_bias: dict[str, int]


class VllmSampling(TypedDict, total=False):
    """What vLLM takes beside them."""

    top_k: int
    min_p: float
    repetition_penalty: float
    min_tokens: int
    stop_token_ids: list[int]
    ignore_eos: bool
    skip_special_tokens: bool
    bad_words: list[str]
    chat_template_kwargs: dict[str, Any]
    """For the chat template, like {"enable_thinking": False}."""


class Options(Sampling, VllmSampling, total=False):
    """Everything that a call takes by name, beside what has a type of its own there."""

    system: str
    """A message of the system, in front of the prompt."""
    truncate: bool | int
    """A prompt that is too long loses its beginning: keep so many tokens of it; True: all that fit beside `max_tokens`,
    which must be given then. Left out, the model's entry decides (`defaults.truncateInput`)."""
    extra_body: dict[str, Any]
    """Anything else that the server takes."""
    base_url: str | None
    """Another address than the one that is found, with /v1."""
    api_key: str | None
    timeout: float
    """Seconds without a byte of the answer; 600."""
    max_retries: int
    """How often a request is sent again after 429, 503 and the like, or where there was no connection; 5."""


class AnswerError(HiveError):
    """A model answered, and not with what was asked for.

    Args:
        text: what it said.
    """

    def __init__(self, what: str, fix: str, text: str) -> None:
        super().__init__(what, fix)
        self.text = text


@dataclass(frozen=True)
class Asking:
    """What is the same for every prompt of a call."""

    schema: type[BaseModel] | None
    model: str | None
    body: Json  # everything of a request but model and messages
    system: str | None
    base_url: str | None
    api_key: str | None
    max_retries: int

    @classmethod
    def of(cls, schema: type[BaseModel] | None, model: str | None, options: Options) -> Self:
        """From what a call was given.

        Raises:
            TypeError: there is no such option.
            HiveError: they contradict each other.
        """
        if unknown := options.keys() - Options.__annotations__.keys():
            raise TypeError(f"unknown option {', '.join(sorted(unknown))}; what vLLM alone knows goes into extra_body")
        given = cast("Json", options)
        body = {key: given[key] for key in Sampling.__annotations__ if given.get(key) is not None}
        extra = {key: given[key] for key in VllmSampling.__annotations__ if given.get(key) is not None}
        extra |= _truncation(options) | options.get("extra_body", {})
        if extra:
            body["extra_body"] = extra
        if schema is not None:
            body["response_format"] = _response_format(schema)
        if "timeout" in options:
            body["timeout"] = options["timeout"]
        return cls(
            schema=schema,
            model=model,
            body=body,
            system=options.get("system"),
            base_url=options.get("base_url"),
            api_key=options.get("api_key"),
            max_retries=options.get("max_retries", RETRIES),
        )

    def request(self, prompt: Prompt, model: str) -> Json:
        """The keywords of the official client's `chat.completions.create`.

        Args:
            model: asked, whatever the call named.
        """
        system = [{"role": "system", "content": self.system}] if self.system else []
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return {"model": model, "messages": [*system, *messages], **self.body}

    def read(self, answer: ChatCompletion) -> Any:
        """The text, or the instance.

        Raises:
            AnswerError: cut off, refused, or not what was asked for.
            HiveError: it is no answer of the OpenAI API.
        """
        if not isinstance(answer, ChatCompletion) or not answer.choices:  # the official client passes pages on as str
            raise HiveError(
                "the address answers, and not as the OpenAI API does", "base_url ends in /v1, as in http://HOST:8080/v1"
            )
        choice = answer.choices[0]
        text = choice.message.content
        if choice.message.refusal or choice.finish_reason == "content_filter":
            said = choice.message.refusal or text or ""
            raise AnswerError(f"{answer.model} refused to answer: {said}", "ask otherwise", said)
        if text is None or (self.schema and choice.finish_reason == "length"):
            after = f" after {answer.usage.completion_tokens} tokens" if answer.usage else ""
            raise AnswerError(
                f"the answer of {answer.model} was cut off{after} ({choice.finish_reason}): {text or 'no text yet'}",
                "raise max_tokens, or ask for less",
                text or "",
            )
        if self.schema is None:
            return text
        try:
            return self.schema.model_validate_json(text)
        except ValidationError as error:
            raise AnswerError(
                f"the answer of {answer.model} is no {self.schema.__name__}: {error}\nIt said: {text}",
                "see what is asked for beyond the JSON schema, like a validator of its own",
                text,
            ) from error


def piece(chunk: ChatCompletionChunk) -> str | None:
    """The text in an event of a stream; the last one may have none."""
    return chunk.choices[0].delta.content if chunk.choices else None


def generative(cards: Iterable[Mapping[str, Any]]) -> str:
    """The one model that answers prompts, of the cards in /v1/models.

    Raises:
        HiveError: there is none, or there are several.
    """
    able = [card for card in cards if "generate" in card.get("tasks", ["generate"])]
    # An alias or an adapter is one more name of the same model.
    models = sorted({str(card.get("model", card["id"])) for card in able})
    if len(models) == 1:
        return models[0]
    if not models:
        raise HiveError("no model that generates text serves now", "see what is wrong with it: hive status")
    raise HiveError("several models serve, and the call names none", f"name one as model=: {', '.join(models)}")


def _truncation(options: Options) -> Json:
    truncate = options.get("truncate", False)
    if truncate is False:
        return {}
    if truncate is True and options.get("max_tokens") is None:
        raise HiveError(
            "truncate=True keeps what fits beside the answer, and nothing says how long that may be",
            "give max_tokens, or the number of tokens to keep as truncate=",
        )
    keep = ALL_THAT_FITS if truncate is True else truncate
    return {"truncate_prompt_tokens": keep, "truncation_side": "left"}


class _Strict(GenerateJsonSchema):
    """As OpenAI wants it with `strict`: every field is said, and no other."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        if "properties" in found:
            found |= {"required": list(found["properties"])} | {"additionalProperties": False}
        return found


def _response_format(schema: type[BaseModel]) -> Json:
    content = schema.model_json_schema(schema_generator=_Strict)
    return {"type": "json_schema", "json_schema": {"name": schema.__name__, "schema": content, "strict": True}}
