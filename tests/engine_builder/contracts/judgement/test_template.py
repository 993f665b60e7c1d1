"""Judgement of chat templates: never stricter than the server's Jinja, and about as strict."""

from __future__ import annotations

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import BadConfig, BuilderError, UnsupportedRequest
from llmjp_builder.contracts.judgement.template import require_served_template
from llmjp_runtime.text.template_environment import build_environment

SERVED = [
    "",
    "plain",
    "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
    "{%- for m in messages -%}{%- if m -%}a{%- elif x -%}b{%- endif -%}{%- else -%}d{%- endfor -%}",
    "{% set a = 1 %}{% set b %}text{% endset %}{{ a }}{{ b }}",
    "{% set a = namespace(x='==') %}{% set a.x = 2 %}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(1) }}{% call f(2) %}{% endcall %}",
    "{% filter upper %}a{% endfilter %}{% with x = 1 %}{{ x }}{% endwith %}",
    "{% generation %}{{ x }}{% endgeneration %}{%- generation -%}a{%- endgeneration -%}",
    "{% for m in messages %}{% if m %}{% break %}{% else %}{% continue %}{% endif %}{% endfor %}",
    "{# {% if %} #}{{ '{% if %}' }}{% raw %}{% if %}{{ {% endraw %}",
    "{% if x == '%}' %}a{% endif %}{{ \"}}\" }}{{ 'it\\'s }}' }}",
    "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}",
    "{% block title %}a{% endblock title %}",
    "{{ raise_exception('no') }}{{ tools | tojson(indent=2) }}",
]
REFUSED = [
    ("{% if %}", BadConfig, "if is not closed"),
    ("{% if x %}a", BadConfig, "if is not closed"),
    ("{% for x in y %}{% if z %}{% endfor %}", BadConfig, "endfor closes nothing"),
    ("{% endif %}", BadConfig, "endif closes nothing"),
    ("{% else %}", BadConfig, "else stands outside"),
    ("{% for x in y %}{% elif z %}{% endfor %}", BadConfig, "elif stands outside"),
    ("{% set a %}text", BadConfig, "set is not closed"),
    ("{{ x", BadConfig, "}} is missing"),
    ("{% if x }a{ endif }", BadConfig, "%} is missing"),
    ("{# x", BadConfig, "#} is missing"),
    ("{% raw %}x", BadConfig, "raw is not closed"),
    ("{% break %}", BadConfig, "break stands outside of a loop"),
    ("{% if x %}{% continue %}{% endif %}", BadConfig, "continue stands outside of a loop"),
    ("{% do x.append(1) %}", UnsupportedRequest, "{% do %} is unknown"),
    ("{% trans %}x{% endtrans %}", UnsupportedRequest, "{% trans %} is unknown"),
    ("{% %}", UnsupportedRequest, "tag {%  %} is unknown"),
    ("{% include 'other.jinja' %}", UnsupportedRequest, "{% include %} reads another file"),
    ("{% extends 'other.jinja' %}", UnsupportedRequest, "{% extends %} reads another file"),
    ("{% from 'x' import y %}", UnsupportedRequest, "{% from %} reads another file"),
]


@pytest.mark.parametrize("source", SERVED)
def test_a_template_that_the_server_compiles(source: str) -> None:
    build_environment().from_string(source)
    require_served_template(source, "m")


@pytest.mark.parametrize(("source", "error", "words"), REFUSED)
def test_a_template_that_it_does_not(source: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as raised:
        require_served_template(source, "m")
    assert words in str(raised.value)
    assert str(raised.value).startswith("m: chat template: ")
    if "reads another file" not in words:
        with pytest.raises((jinja2.TemplateError, SyntaxError)):
            build_environment().from_string(source)


TAGS = (
    *("if x", "elif y", "else", "endif", "for a in b", "endfor", "break", "continue", "raw"),
    *("set q = 1", "set q", "set n.x = '=%}'", "endset", "macro f(a=1)", "endmacro", "endraw"),
    *("call f()", "call(x) f()", "endcall", "filter upper", "endfilter", "with", "endwith"),
    *("generation", "endgeneration", "block t", "endblock t", "print(x)", "do x", "if '%}' == x"),
)
FRAGMENTS = (
    *(f"{{% {tag} %}}" for tag in TAGS),
    *(f"{{%- {tag} -%}}" for tag in TAGS),
    *("{{ x }}", "{{- 'it\\'s }}' -}}", "{{ {'a': {'b': 1}} }}", "{# c #}", "{#- c %} -#}"),
    *("text", "\n", "}}", "%}", "#}", "'", '"', "{", "{{ x", "{% if x", "{% raw", "{{ '}}' }}"),
)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join))
@settings(max_examples=1500, deadline=None)
def test_it_is_never_stricter_than_jinja(source: str) -> None:
    """Jinja is asked afterwards where it is there, so it may be laxer."""
    try:
        require_served_template(source, "m")
    except BuilderError:
        with pytest.raises((jinja2.TemplateError, SyntaxError)):
            build_environment().from_string(source)
