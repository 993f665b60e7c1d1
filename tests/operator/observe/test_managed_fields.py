"""Fields that a manager owns, and when two objects are the same to it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from llmjp_operator.observe.managed_fields import compute_object_digest, extract_owned_fields
from tests.operator.model_bodies import Object

US = "llmjp-operator"


def entry(fields: Object, **changes: Any) -> Object:
    return {"manager": US, "operation": "Apply", "fieldsV1": fields, **changes}


def live(fields: Object, *others: Object, **parts: Any) -> Object:
    return {"metadata": {"name": "a", "managedFields": [*others, entry(fields)]}, **parts}


def test_fields_of_others_are_not_ours() -> None:
    found = extract_owned_fields(live({"f:spec": {"f:a": {}}}, spec={"a": 1, "b": 2}), US)
    assert found == {"spec": {"a": 1}}


def test_a_field_that_names_no_further_fields_is_ours_whole() -> None:
    found = extract_owned_fields(live({"f:spec": {"f:a": {}}}, spec={"a": {"deep": [1, 2]}}), US)
    assert found == {"spec": {"a": {"deep": [1, 2]}}}


def test_a_field_that_is_gone_is_left_out() -> None:
    assert extract_owned_fields(live({"f:spec": {"f:a": {}, "f:b": {}}}, spec={"b": 2}), US) == {
        "spec": {"b": 2}
    }


def test_the_object_itself_is_no_field() -> None:
    assert extract_owned_fields(live({"f:spec": {".": {}, "f:a": {}}}, spec={"a": 1}), US) == {
        "spec": {"a": 1}
    }


@pytest.mark.parametrize(
    "changes",
    [{"manager": "kubectl"}, {"operation": "Update"}, {"subresource": "status"}],
    ids=["other manager", "update", "status"],
)
def test_other_entries_are_passed_over(changes: Object) -> None:
    theirs = entry({"f:spec": {"f:a": {}}}, **changes)
    assert (
        extract_owned_fields({"metadata": {"managedFields": [theirs]}, "spec": {"a": 1}}, US) == {}
    )


@pytest.mark.parametrize("metadata", [{}, {"managedFields": None}, None])
def test_an_object_without_managers_is_nobodys(metadata: Object | None) -> None:
    assert extract_owned_fields({"metadata": metadata, "spec": {}}, US) == {}


PORTS = [{"port": 1, "name": "a"}, {"port": 2, "protocol": "UDP"}, {"port": 3}]


@pytest.mark.parametrize(
    ("key", "value", "items"),
    [
        ('k:{"port":1,"protocol":"TCP"}', [{"port": 1, "name": "a"}], PORTS),
        ('k:{"port":2,"protocol":"UDP"}', [{"port": 2, "protocol": "UDP"}], PORTS),
        ('k:{"port":2,"protocol":"TCP"}', [], PORTS),
        ('v:"x"', ["x"], ["y", "x"]),
        ('v:"z"', [], ["y", "x"]),
        ("i:1", ["x"], ["y", "x"]),
        ("i:2", [], ["y", "x"]),
    ],
)
def test_items_of_lists_are_owned_by_key_value_or_index(
    key: str, value: list[Any], items: list[Any]
) -> None:
    assert extract_owned_fields(live({"f:items": {key: {}}}, items=items), US) == {"items": value}


def test_a_part_of_a_list_item_is_owned() -> None:
    fields: Object = {"f:items": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:image": {}}}}
    found = extract_owned_fields(live(fields, items=[{"name": "a", "image": "x", "tty": True}]), US)
    assert found == {"items": [{"name": "a", "image": "x"}]}


def test_fields_named_where_there_is_a_plain_value() -> None:
    assert extract_owned_fields(live({"f:a": {"f:b": {}}}, a="text"), US) == {"a": "text"}


WANTED: Object = {
    "apiVersion": "v1",
    "kind": "Thing",
    "metadata": {"name": "a", "namespace": "ns", "labels": {"x": "1", "y": "2"}},
    "spec": {"items": [{"name": "a", "v": [2, 1]}, {"name": "b"}], "words": ["b", "a"]},
}


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o.pop("kind"),
        lambda o: o.update(status={"ready": True}),
        lambda o: o["metadata"].update(uid="u", resourceVersion="1", annotations={}),
        lambda o: o["metadata"].update(labels={"y": "2", "x": "1"}),
        lambda o: o["spec"]["items"].reverse(),
    ],
    ids=["kind", "status", "metadata", "order of keys", "order of objects"],
)
def test_what_makes_no_difference(change: Any) -> None:
    other = copy.deepcopy(WANTED)
    change(other)
    assert compute_object_digest(other) == compute_object_digest(WANTED)


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o["spec"]["items"].pop(),
        lambda o: o["spec"]["words"].reverse(),
        lambda o: o["spec"]["items"][0]["v"].reverse(),
        lambda o: o["metadata"]["labels"].update(x="2"),
        lambda o: o["metadata"].update(annotations={"a": "b"}),
        lambda o: o["metadata"].update(ownerReferences=[{"uid": "u"}]),
        lambda o: o.update(data={}),
    ],
    ids=["item", "order of words", "order of numbers", "label", "annotation", "owner", "data"],
)
def test_what_makes_a_difference(change: Any) -> None:
    other = copy.deepcopy(WANTED)
    change(other)
    assert compute_object_digest(other) != compute_object_digest(WANTED)
