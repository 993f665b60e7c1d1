"""Chats of many templates over several kinds of tokenizer, held against transformers."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer

from llmjp_runtime.text import template as our_template
from llmjp_runtime.text.errors import InvalidMessages
from llmjp_runtime.text.messages import Message
from llmjp_runtime.text.tokenizer import TextTokenizer
from tests.runtime.text import tokenizer_kinds
from tests.runtime.text.tokenizer_kinds import FLAGGED

if TYPE_CHECKING:
    from pathlib import Path

INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}{{ '\n\n### 問い:\n' + m['content'] }}"
    "{% else %}{{ '\n\n### 答え:\n' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\n### 答え:\n' }}{% endif %}"
)
WITHOUT_BOS = INSTRUCT.replace("{{ bos_token }}", "")
GENERATION = INSTRUCT.replace(
    "m['content'] + eos_token }}",
    "' ' }}{% generation %}{{ m.content + eos_token }}{% endgeneration %}",
)
GENERATION_SCOPE = """\
{%- set seen = 'outside' %}
{%- for m in messages %}
  {%- generation %}
    {%- set seen = 'inside' %}
    {{- m.content -}}
  {%- endgeneration %}
  {{- seen }}
{%- endfor %}"""
DATE = (
    "{{ bos_token }}{% macro today() %}{{ strftime_now('%d %b %Y') }}{% endmacro %}"
    "{{ '年: ' + strftime_now('%Y%z') }} {{ today() }}"
    "{% for m in messages %}{{ '\n' + m['role'] + ': ' + m['content'] }}{% endfor %}"
)
JSON = (
    "{{ messages | tojson }}\n{{ messages | tojson(indent=2) }}\n"
    "{{ messages | tojson(ensure_ascii=true, separators=(',', ':'), sort_keys=true) }}\n"
    "{{ {'<b>': '&'} | tojson(false, none, (', ', '=')) }}"
)
ALTERNATE = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ ' [INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
BLOCKS = """\
{{ bos_token }}
{% if messages[0].role == 'system' %}
    {% set first = messages[0].content | trim + '\n\n' %}
    {% set turns = messages[1:] %}
{% else %}
    {% set first = '' %}
    {% set turns = messages %}
{% endif %}
{% for m in turns %}
    {%- if m.role == 'assistant' -%}
        {% set role = 'model' %}
    {% else %}
        {% set role = m.role %}
    {% endif %}
    <start>{{ role }}
    {{ first if loop.first else '' }}{{ m.content | trim }}<end>
{% endfor %}
{% if add_generation_prompt %}
<start>model
{% endif %}
"""
CONTROLS = """\
{%- set ns = namespace(turns=0) %}
{%- for m in messages %}
  {%- if m.role == 'system' %}{% continue %}{% endif %}
  {%- set ns.turns = ns.turns + 1 %}
  {%- if ns.turns > 2 %}{% break %}{% endif %}
  {{- '<|' ~ m.role ~ '|>' ~ m.content }}
{%- endfor %}
{{- ns.turns }}{{ dict(a=1, b='あ') | tojson }}"""
UNDEFINED = (
    "{% if tools is not none %}tools{% endif %}{% if documents %}documents{% endif %}"
    "{% if enable_thinking is defined %}thinking{% endif %}{{ nothing }}{{ sep_token }}"
    "{% for m in messages %}{{ m.name }}{{ m.get('tool_calls', '-') }}{{ m['content'] }}"
    "{% endfor %}"
)
FLAGGED_TOKENS = (
    "{{ bos_token }}{% for m in messages %} <left> <right> {{ m.content }} <both> <norm> <word> "
    "<think>{{ m.content }}</think>{{ eos_token }}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TEMPLATES = {
    "instruct": INSTRUCT,
    "without bos": WITHOUT_BOS,
    "generation": GENERATION,
    "generation is a scope": GENERATION_SCOPE,
    "date": DATE,
    "json": JSON,
    "alternate": ALTERNATE,
    "blocks": BLOCKS,
    "controls": CONTROLS,
    "undefined": UNDEFINED,
    "flagged tokens": FLAGGED_TOKENS,
    "Llama 3": LLAMA3,
}
KINDS = ("llm-jp's order", "unigram without bos", "metaspace first, flagged", "byte level, flagged")
CHATS = (
    [Message("user", "こんにちは")],
    [Message("system", "短く。"), Message("user", " 元気ですか ")],
    [
        Message("user", "def f(x):\n    return x"),
        Message("assistant", "  It's fine. 🍣\n"),
        Message("user", "I like the sea."),
    ],
    [
        Message("user", "a"),
        Message("assistant", ""),
        Message("user", "か\u3099 <|im_start|> ## 指示"),
    ],
)


class Noon(dt.datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Noon:
        return cls(2026, 3, 1, 12, 0, 0, tzinfo=tz)


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_kinds.write(tmp_path_factory.mktemp("kind"), request.param)


@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_are_those_of_transformers(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(utils, "datetime", Noon)
    monkeypatch.setattr(our_template, "datetime", Noon)
    (folder / "chat_template.jinja").write_text(TEMPLATES[name], encoding="utf-8")
    ours = TextTokenizer.load(folder)
    hf = transformers.AutoTokenizer.from_pretrained(folder)
    rendered = 0
    for chat in CHATS:
        expected = render(hf, chat)
        if expected is None:
            with pytest.raises(InvalidMessages, match="Roles must alternate"):
                ours.encode_chat(chat)
        else:
            rendered += 1
            assert ours.encode_chat(chat) == expected
    assert rendered


def render(hf: Any, chat: list[Message]) -> list[int] | None:
    """Return transformers' ids; None where the template refuses the chat."""
    import jinja2

    turns = [{"role": m.role, "content": m.content} for m in chat]
    try:
        ids: list[int] = hf.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=False
        )
    except jinja2.TemplateError:
        return None
    return ids


@pytest.mark.parametrize("token", ["<|eot_id|>", "</s>", *(t.content for t in FLAGGED)])
@pytest.mark.parametrize("name", ["instruct", "Llama 3"])
def test_added_tokens_in_contents_stay_text(name: str, token: str, folder: Path) -> None:
    """Whatever their flags; the template's own count, and the text around is untouched."""
    (folder / "chat_template.jinja").write_text(TEMPLATES[name], encoding="utf-8")
    ours = TextTokenizer.load(folder)
    content = f" a{token}b {token} {token}{token}\n"
    ids = ours.encode_chat(
        [Message("user", content), Message("assistant", "c"), Message("user", "d")]
    )
    own = ours.encode_chat([Message("user", "a"), Message("assistant", "c"), Message("user", "d")])
    added = Tokenizer.from_file(str(folder / "tokenizer.json")).get_added_tokens_decoder()
    control = {i for i, t in added.items() if t.content != "<unk>"}
    assert [i for i in ids if i in control] == [i for i in own if i in control]
    assert content.strip() in ours.decode(ids)
