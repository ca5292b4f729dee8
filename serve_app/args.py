"""The `args` of a Serve application, as the chart renders them from one entry of `models`.

Unknown and missing keys are refused: the chart renders each one every time, and has the defaults.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from serve_app import lora


class Args(BaseModel):
    """Keys are spelt as in values.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Defaults(Args):
    """What a request gets when it does not say otherwise; null leaves the model's own generation_config.json."""

    max_tokens: int | None = Field(gt=0, description="Tokens to generate.")
    temperature: float | None = Field(ge=0)
    top_p: float | None = Field(gt=0, le=1)
    truncate_input: bool = Field(description="A prompt that is too long loses its beginning and is not refused.")


class ModelArgs(Args):
    """One model."""

    name: str = Field(description="What clients send as `model`.")
    aliases: tuple[str, ...] = Field(description="Other names that clients may send.")
    source: str = Field(description="Hub id, `./folder` in the models volume, or an absolute path.")
    adapters: dict[str, str] = Field(description="LoRA adapters: the name that clients send, and a source.")
    vram_mib: int = Field(gt=0, description="Budget of one replica on each of its devices, MiB.")
    max_model_len: int | None = Field(gt=0, description="Tokens of prompt and answer together.")
    max_num_seqs: int | None = Field(gt=0, description="Sequences that run at once.")
    tensor_parallel: int = Field(gt=0, description="Devices of one replica.")
    chat_template: str | None = Field(description="Jinja; null takes the model's own.")
    defaults: Defaults
    engine: dict[str, Any] = Field(description="Any other argument of the vLLM engine.")

    def engine_kwargs(self, adapter_ranks: Iterable[int] = ()) -> dict[str, Any]:
        """vLLM's arguments that follow from the entry alone; `engine` wins over what Hive would choose.

        Args:
            adapter_ranks: of the adapters, where their files are at hand.

        Raises:
            RankError: vLLM takes no adapter of such a rank.
        """
        generation = {
            "max_new_tokens": self.defaults.max_tokens,
            "temperature": self.defaults.temperature,
            "top_p": self.defaults.top_p,
        }
        kwargs: dict[str, Any] = {
            "max_model_len": self.max_model_len,
            "max_num_seqs": self.max_num_seqs,
            "tensor_parallel_size": self.tensor_parallel,
            "chat_template": self.chat_template,
            "override_generation_config": {key: value for key, value in generation.items() if value is not None},
        }
        chosen = {key: value for key, value in kwargs.items() if value not in (None, {})}
        if self.adapters:
            chosen |= lora.engine_kwargs(len(self.adapters), adapter_ranks)
        return chosen | self.engine
