"""Errors: each has a name on the wire, and carries its facts wherever it goes."""

import copy
import pickle

import pytest

from zstreampub import errors
from zstreampub.errors import SlowConsumer, ZStreamPubError

ALL = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, ZStreamPubError)]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_an_error_is_found_by_its_name_and_says_who_must_act(error):
    assert errors.by_name(error.__name__) is error
    assert error.__doc__


@pytest.mark.parametrize("name", ["Exception", "by_name", "annotations", "", "__builtins__", "Nothing"])
def test_what_is_no_error_of_ours_has_no_name(name):
    assert errors.by_name(name) is None


def test_an_error_carries_its_facts_also_through_pickle_and_copy():
    error = SlowConsumer("Read faster.", resume=5)

    for one in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(one), one.resume, one.facts) == ("Read faster.", 5, {"resume": 5})
    with pytest.raises(AttributeError):
        error.nothing  # noqa: B018
