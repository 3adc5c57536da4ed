"""Which callbacks want a message."""

import pytest

from zstreampub.errors import InvalidOption, InvalidTopic, RequestError
from zstreampub.receive.routes import Routes


def own(message):
    pass


def first(message):
    pass


def second(message):
    pass


@pytest.fixture
def routes():
    return Routes(["orders.>"], own)


def test_each_callback_is_found_once_whatever_patterns_it_has(routes):
    routes.add("orders.eu", first)
    routes.add("*.eu", first)
    routes.add("prices", second)

    assert set(routes.wanting("orders.eu")) == {own, first} and len(routes.wanting("orders.eu")) == 2
    assert routes.wanting("prices") == [second]
    assert routes.wanting("other") == []
    assert routes.patterns == ("orders.>", "orders.eu", "*.eu", "prices")


def test_a_callback_is_taken_away_alone_or_with_all_of_its_pattern(routes):
    for callback in (first, second):
        routes.add("prices", callback)
        routes.add("orders.eu", callback)

    routes.remove("prices", first)
    routes.remove("orders.eu")

    assert routes.wanting("prices") == [second]
    assert routes.wanting("orders.eu") == [own]
    assert routes.patterns == ("orders.>", "prices")


def test_taking_away_what_is_not_there_is_an_error(routes):
    routes.add("prices", first)

    with pytest.raises(RequestError, match="with this callback"):
        routes.remove("prices", second)
    with pytest.raises(RequestError, match="Nothing was subscribed"):
        routes.remove("other")


def test_without_a_callback_of_its_own_its_patterns_are_not_asked_for(routes):
    changes = routes.changes
    routes.replace(first)
    assert (routes.wanting("orders.eu"), routes.changes) == ([first], changes)

    routes.replace(None)

    assert (routes.patterns, routes.wanting("orders.eu")) == ((), [])
    assert routes.changes == changes + 1


@pytest.mark.parametrize(("pattern", "callback", "error"), [("a..b", first, InvalidTopic), ("a", 7, InvalidOption)])
def test_what_is_wrong_is_refused_and_changes_nothing(routes, pattern, callback, error):
    with pytest.raises(error):
        routes.add(pattern, callback)

    assert (routes.patterns, routes.changes) == (("orders.>",), 0)


def test_callbacks_need_no_hash_and_may_be_equal(routes):
    class Seen(list):
        def __call__(self, message):
            self.append(message)

    one, other = Seen(), Seen()
    routes.add("prices", one)
    routes.add("prices", other)
    routes.add("prices", one.append)
    routes.add("prices", one.append)

    assert list(map(id, routes.wanting("prices")))[:2] == [id(one), id(other)]
    routes.remove("prices", one.append)
    routes.remove("prices", other)
    assert [found is one for found in routes.wanting("prices")] == [True]


def test_the_receivers_own_callback_is_called_once_whatever_patterns_it_has(routes):
    routes.add("orders.eu", own)

    assert routes.wanting("orders.eu") == [own]
