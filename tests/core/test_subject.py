"""Who acts: a subject refuses to exist in a wrong state."""

from __future__ import annotations

import dataclasses

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.proposal import Subject

NAMES = st.text(min_size=1, max_size=6)


@given(
    st.none() | NAMES,
    st.none() | NAMES,
    st.none() | NAMES,
    st.lists(NAMES, max_size=4),
    st.randoms(),
)
def test_a_subject_is_its_parts(tenant, user, agent, roles, random):
    """The text is the RFC 8785 form of all parts; order and repetition of roles mean nothing."""
    shuffled = random.sample(roles, len(roles)) + roles[:1]
    subject = Subject(tenant=tenant, user=user, agent=agent, roles=roles)
    twin = Subject(tenant=tenant, user=user, agent=agent, roles=iter(shuffled))
    assert subject == twin
    assert hash(subject) == hash(twin)
    told = {"tenant": tenant, "user": user, "agent": agent, "roles": sorted(set(roles))}
    assert subject.text == twin.text == rfc8785.dumps(told).decode()


@pytest.mark.parametrize("part", ["tenant", "user", "agent"])
def test_each_part_makes_another_subject(part):
    """A name in one place is not the same name in another, nor a missing one."""
    subjects = {Subject(**{name: "x"}) for name in ("tenant", "user", "agent")} | {Subject()}
    assert len({subject.text for subject in subjects}) == len(subjects) == 4
    assert getattr(Subject(**{part: "x"}), part) == "x"


def test_a_subject_is_frozen():
    """Nobody becomes somebody else after the decision."""
    subject = Subject(tenant="acme")
    with pytest.raises(dataclasses.FrozenInstanceError):
        subject.tenant = "other"
    with pytest.raises((AttributeError, TypeError)):
        subject.extra = 1
    with pytest.raises(TypeError):
        Subject("acme")


@pytest.mark.parametrize(
    ("parts", "error", "problem"),
    [
        ({"tenant": ""}, ValueError, "tenant has 0 characters; it must have 1 to 1000"),
        ({"user": "u" * 1001}, ValueError, "user has 1001 characters"),
        ({"agent": "a\udc80"}, ValueError, "agent is 'a\\udc80', which has a lone surrogate"),
        ({"tenant": 5}, TypeError, "tenant is 5; it must be a str"),
        ({"roles": "admin"}, TypeError, "roles is 'admin'; it must be a list of texts"),
        ({"roles": None}, TypeError, "roles is None; it must be a list of texts"),
        ({"roles": ["ok", ""]}, ValueError, "a role has 0 characters"),
        ({"roles": [1]}, TypeError, "a role is 1"),
        ({"roles": b"ad"}, TypeError, "a role is 97"),
    ],
)
def test_parts_that_are_no_short_text_are_refused(parts, error, problem):
    """A subject that the program got wrong does not exist."""
    with pytest.raises(error) as caught:
        Subject(**parts)
    assert str(caught.value) == problem or str(caught.value).startswith(problem)
