"""Pending: a map like any other, none of whose parts is large."""

import random

import pytest

from zstreampub.consumers.lease import IN_FLIGHT, Lease, pairs, runs_of
from zstreampub.consumers.pending import Pending

PAGE = 4096


@pytest.fixture
def lease():
    return Lease(IN_FLIGHT)


def test_it_is_the_map_that_a_dict_would_be():
    chance, pending, model = random.Random(1), Pending(), {}
    leases = [Lease(IN_FLIGHT, token) for token in range(3)]
    for _ in range(400):
        first, lease = chance.randrange(5 * PAGE), chance.choice(leases)
        next = first + chance.choice((1, 1, 10, PAGE, 2 * PAGE))
        if chance.random() < 0.5:
            pending.put(first, next, lease)
            model.update(dict.fromkeys(range(first, next), lease))
        elif chance.random() < 0.7:
            gone = [offset for offset in range(first, next) if model.get(offset) is lease]
            assert pending.remove([first, next], lease) == len(gone)
            for offset in gone:
                del model[offset]
        elif first in model:
            assert pending.pop(first) is model.pop(first)
        else:
            pending[first] = model[first] = lease
        assert (len(pending), bool(pending), first in pending) == (len(model), bool(model), first in model)

        found = pending.lowest(first, next)
        assert found == min((offset for offset in range(first, next) if offset in model), default=None)

    assert dict(pending.items()) == model
    assert [pending.get(offset) for offset in range(7 * PAGE)] == [model.get(offset) for offset in range(7 * PAGE)]


@pytest.mark.parametrize("offset", [PAGE - 1, PAGE, PAGE + 1])
def test_what_is_not_there_is_a_key_error(lease, offset):
    pending = Pending()
    pending.put(PAGE, PAGE + 1, lease)
    del pending[PAGE]

    with pytest.raises(KeyError):
        pending[offset]
    with pytest.raises(KeyError):
        del pending[offset]
    assert (pending.get(offset), pending.pop(offset, 1), len(pending)) == (None, 1, 0)


def test_only_what_is_under_the_lease_is_removed(lease):
    pending, other = Pending(), Lease(IN_FLIGHT)
    pending.put(0, 3 * PAGE, lease)
    pending.put(PAGE - 2, PAGE + 2, other)

    assert pending.remove([0, 2 * PAGE, 3 * PAGE - 1, 3 * PAGE], lease) == 2 * PAGE - 4 + 1

    assert list(pairs(runs_of(sorted(pending)))) == [(PAGE - 2, PAGE + 2), (2 * PAGE, 3 * PAGE - 1)]


def test_no_page_grows_however_many_come_and_go_and_an_empty_one_is_none(lease):
    pending = Pending()
    for first in range(0, 40 * PAGE, 1000):
        pending.put(first, first + 1000, lease)
        pending.remove([first - 20_000, first - 19_000], lease)

    assert len(pending) == 20_000
    assert len(pending._pages) <= 20_000 // PAGE + 2
    assert max(map(len, pending._pages.values())) <= PAGE
