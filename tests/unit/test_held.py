"""What was taken from a work queue is found again by the object, and nobody else's is taken for it."""

import threading

import gevent

from zstreampub.views.held import Held


def other(function):
    """Return what *function* returns in another greenlet."""
    return gevent.spawn(function).get()


def test_an_item_is_found_by_identity():
    held = Held()
    first, second = {"n": 1}, {"n": 1}

    held.add(10, first, 100)
    held.add(11, second, 101)

    assert (held.find(second), held.find(first)) == (11, 10)
    assert held.token(11) == 101


def test_an_equal_item_is_found_if_the_caller_took_it_and_not_if_another_did():
    held = Held()
    other(lambda: held.add(1, {"n": 1}, 100))

    assert held.find({"n": 1}) is None
    held.add(2, {"n": 1}, 101)
    assert held.find({"n": 1}) == 2


def test_equal_numbers_of_another_type_are_not_the_item():
    held = Held()

    held.add(1, 1, 100)

    assert held.find(1.0) is None and held.find(True) is None


def test_of_deliveries_that_are_one_object_the_callers_own_comes_first():
    held = Held()
    other(lambda: held.add(1, 5, 100))
    held.add(2, 5, 101)
    held.add(3, 5, 102)

    assert held.find(5) == 2
    held.remove(2)
    held.remove(3)
    assert held.find(5) == 1      # somebody else took it and gave the object to us


def test_the_newest_own_is_what_the_caller_took_last():
    held = Held()
    held.add(1, "a", 100)
    held.add(2, "b", 101)
    other(lambda: held.add(3, "c", 102))

    assert held.newest_own() == 2
    assert other(held.newest_own) is None


def test_a_thread_that_has_ended_is_not_mistaken_for_a_later_one():
    held = Held()
    found = []
    for work in (lambda: held.add(1, "a", 100), lambda: found.append(held.newest_own())):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert found == [None]


def test_what_is_removed_is_not_found_and_its_place_is_empty():
    held = Held()
    held.add(1, "a", 100)

    assert held.remove(1) == 100 and held.remove(1) is None
    assert held.find("a") is None and held.token(1) is None and held.newest_own() is None
    assert len(held) == 0 and 1 not in held and held.deliveries() == []


def test_what_is_delivered_again_has_its_new_token():
    held = Held()
    held.add(1, "a", 100)
    held.add(1, "b", 200)

    assert held.find("b") == 1 and held.find("a") is None
    assert held.deliveries() == [(1, 200)]
