"""One question to one model, the answer as it comes."""

from collections.abc import Iterator

from hive.errors import HiveError


def ask(base_url: str, api_key: str | None, model: str, question: str, max_tokens: int | None = None) -> Iterator[str]:
    """Pieces of the answer.

    Args:
        base_url: like http://127.0.0.1:8080/v1.
        api_key: None where none is asked for.
        model: its name.
        question: one user message.
        max_tokens: at most so many; None leaves it to the model's entry.

    Raises:
        HiveError: the model does not answer.
    """
    import openai  # a second or more, which no other command needs

    client = openai.OpenAI(base_url=base_url, api_key=api_key or "unused", max_retries=0)
    try:
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            max_tokens=openai.omit if max_tokens is None else max_tokens,
            stream=True,
        )
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
    except openai.APIError as error:
        raise HiveError(f"{model} does not answer: {error.message}", "look at it: hive status") from error
