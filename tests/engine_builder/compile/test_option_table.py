"""Our table of options against the recorded parser of the real command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmjp_builder.compile.option_table import OPTIONS, SetBy

if TYPE_CHECKING:
    from pathlib import Path

CHECKED_LATER_BY_UPSTREAM = {"kv_cache_type"}
"""Its choices are checked by a type function, so the recording has none."""


def test_every_recorded_option_is_in_the_table_and_no_other(recording: Path) -> None:
    recorded = {record["flags"][0][2:]: record for record in json.loads(recording.read_bytes())}
    assert recorded.keys() == OPTIONS.keys()
    for name, record in recorded.items():
        option = OPTIONS[name]
        assert tuple(flag[2:] for flag in record["flags"][1:]) == option.aliases, name
        assert record["default"] == option.default, name
        assert type(record["default"]) is type(option.default), name
        assert record["store_true"] == (option.form == "flag"), name
        if name not in CHECKED_LATER_BY_UPSTREAM:
            assert set(record["choices"] or ()) == set(option.choices), name


def test_forms_fit_defaults_and_choices() -> None:
    for option in OPTIONS.values():
        match option.form:
            case "int":
                assert option.default is None or type(option.default) is int
            case "flag":
                assert option.default is False
            case "switch":
                assert option.choices == ("enable", "disable")
                assert option.default in option.choices
            case "choice":
                assert option.choices
            case "text":
                assert not option.choices


def test_what_cannot_be_set_says_why() -> None:
    for option in OPTIONS.values():
        assert bool(option.why) == (option.set_by in {SetBy.NOBODY, SetBy.INERT}), option.name
