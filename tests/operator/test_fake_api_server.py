"""The fake API server stores as the real one does, as far as the operator can tell."""

from __future__ import annotations

import asyncio

import pytest

from llmjp_operator.errors import ApiRefused
from llmjp_operator.names import FIELD_MANAGER, OWNERS_MANAGER
from llmjp_operator.observe.managed_fields import compute_object_digest, extract_owned_fields
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.fake_api_server import NAMESPACE, FakeApiServer
from tests.operator.model_bodies import Object, make_model_body
from tests.operator.simulation import Simulation


def a_service(port: int = 80, **metadata: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": NAMESPACE, "labels": {"a": "b"}, **metadata},
        "spec": {"ports": [{"port": port}]},
    }


def apply(server: FakeApiServer, wanted: Object, **options: object) -> Object:
    return asyncio.run(server.apply(wanted, **options))  # type: ignore[arg-type]


def test_what_is_owned_is_what_was_applied() -> None:
    """For every object of a model's life; `test_applied` says it of the real one."""
    simulation = Simulation()
    simulation.settle()
    ours = [
        body for body in simulation.objects.values() if extract_owned_fields(body, FIELD_MANAGER)
    ]
    assert len(ours) > 8
    for body in ours:
        applied = simulation.server._applied[ObjectRef(body["kind"], body["metadata"]["name"])]
        assert compute_object_digest(
            extract_owned_fields(body, FIELD_MANAGER)
        ) == compute_object_digest(applied[FIELD_MANAGER])


def test_versions_and_generations_count_changes() -> None:
    server = FakeApiServer()
    first, same, labelled, changed = (
        apply(server, wanted)["metadata"]
        for wanted in (a_service(), a_service(), a_service(labels={}), a_service(81, labels={}))
    )
    assert first == same
    assert len({m["uid"] for m in (first, labelled, changed)}) == 1
    assert [m["generation"] for m in (first, labelled, changed)] == [1, 1, 2]
    assert int(first["resourceVersion"]) < int(labelled["resourceVersion"])
    assert [event.type for event in server.watched] == ["ADDED", "MODIFIED", "MODIFIED"]


def test_what_is_applied_no_longer_goes_and_others_fields_stay() -> None:
    server = FakeApiServer()
    apply(server, a_service(annotations={"ours": "1"}))
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "ns"}}
    theirs["metadata"] |= {"annotations": {"theirs": "1"}}  # type: ignore[operator]
    apply(server, theirs, manager="somebody")
    stored = apply(server, a_service())
    assert stored["metadata"]["annotations"] == {"theirs": "1"}


def test_owners_of_two_managers_are_one_list() -> None:
    server = FakeApiServer()
    apply(server, a_service(ownerReferences=[{"uid": "one"}]))
    both = [{"uid": "one"}, {"uid": "two"}]
    stored = apply(server, a_service(ownerReferences=both), manager=OWNERS_MANAGER)
    assert stored["metadata"]["ownerReferences"] == both
    assert extract_owned_fields(stored, FIELD_MANAGER)["metadata"]["ownerReferences"] == [
        {"uid": "one"}
    ]


def test_a_status_is_another_resource() -> None:
    server = FakeApiServer()
    body = make_model_body() | {"status": {"phase": "Serving"}}
    with pytest.raises(ApiRefused):
        apply(server, body, status=True)
    server.put(make_model_body())
    stored = apply(server, body, status=True)
    assert (stored["status"], stored["metadata"]["generation"]) == ({"phase": "Serving"}, 1)


def test_an_object_is_removed_by_its_uid_and_takes_what_it_owns_along() -> None:
    server = FakeApiServer()
    owner = server.put(make_model_body())["metadata"]["uid"]
    apply(server, a_service(ownerReferences=[{"uid": owner}]))
    asyncio.run(server.delete("LlmJpModel", NAMESPACE, "a", "another"))
    assert len(server.stored) == 2
    asyncio.run(server.delete("LlmJpModel", NAMESPACE, "a", owner))
    asyncio.run(server.delete("LlmJpModel", NAMESPACE, "a", owner))
    assert not server.stored
    assert [event.type for event in server.watched[-2:]] == ["DELETED", "DELETED"]
