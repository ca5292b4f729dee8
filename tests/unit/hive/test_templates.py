"""Chat templates are checked before they reach an engine."""

import pytest

from hive.templates import check


def errors(template: str | None) -> list[str]:
    return [str(e) for e in check({"applications": [{"name": "m", "args": {"chatTemplate": template}}]})]


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m['role'] }}{% endfor %}",
        "{{ messages | tojson }}{{ strftime_now('%Y') }}",
    ],
)
def test_good(template: str | None) -> None:
    assert errors(template) == []


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("line\n{% for m in messages %}", "models.m.chatTemplate, line 2"),
        ("{{ messages | nosuchfilter }}", "nosuchfilter"),
        ("{{ raise_exception('only for two') }}", "only for two"),
        ("{{ messages[3].content.x.y }}", "can't render one user message"),
    ],
)
def test_broken(template: str, words: str) -> None:
    (error,) = errors(template)
    assert words in error
    assert "FIX: " in error
