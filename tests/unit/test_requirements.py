"""Requirements: equal sets have one spelling, and so one key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement

from pool.dependencies.requirements import PackageList, key_of, normalise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["Requests"], ["requests"]),
        (["zope.interface"], ["zope_Interface"]),
        (["a", "b"], ["b", "a", "a"]),
        (["a[X,y_Z]"], ["a[y-z, x]"]),
        (["a>=1,<2"], ["a <2, >=1"]),
        (["a==1.0"], ["a==1.0.0"]),
        (["a==1.0RC1"], ["a==1.0rc1"]),
        (["a; python_version<'4'"], ['a ;python_version < "4"']),
    ],
)
def test_what_means_the_same_is_spelled_the_same(one: list[str], other: list[str]) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a"], ["b"]),
        (["a"], ["a", "b"]),
        (["a"], ["a[x]"]),
        (["a==1"], ["a>=1"]),
        (["a~=1.0"], ["a~=1.0.0"]),
        (["a===1.0"], ["a===1.0.0"]),
        (["a==1.*"], ["a==1.0.*"]),
        (["a"], ["a; python_version<'4'"]),
    ],
)
def test_what_means_something_else_is_spelled_otherwise(one: list[str], other: list[str]) -> None:
    assert normalise(one) != normalise(other)


@given(st.permutations(["a", "B[y,x]>=1.0,<2", "c-d==1.0", "b", "A"]))
def test_the_order_never_counts_and_normalising_twice_changes_nothing(items: list[str]) -> None:
    once = normalise(items)
    assert once == ("a", "b", "b[x,y]<2,>=1", "c-d==1")
    assert normalise(once) == once


def test_what_is_no_requirement_is_an_error() -> None:
    with pytest.raises(InvalidRequirement):
        normalise(["--option"])


def test_the_key_depends_on_the_requirements_and_on_all_about_them() -> None:
    keys = {
        key_of(requirements, *about)
        for requirements in (("a",), ("a", "b"))
        for about in (("image", "index"), ("image", "other"), ("imageindex", ""))
    }
    assert len(keys) == 6


def test_lists_of_packages_go_by_the_canonical_name() -> None:
    packages = PackageList(allowed=frozenset({"good-one"}), denied=frozenset({"bad"}))
    assert packages.refuses("Good_One[x]>=1") is None
    assert packages.refuses("BAD") == "is denied on this server"
    assert packages.refuses("other") == "is not among the packages that this server allows"
    assert PackageList().refuses("other") is None
