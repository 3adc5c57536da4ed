"""Messages that wait for their time: each comes once, whatever happens meanwhile, or not at all if it is taken back."""

import time

import gevent
import pytest

from zstreampub import publishing
from zstreampub import schedule as schedules
from zstreampub.broker import Broker
from zstreampub.errors import AccessError, InvalidOption, LimitExceeded, Overloaded, StoreFull
from zstreampub.settings import Settings

FAR_S = 10_000


class Calendar:
    """The clock of the schedule; set by hand."""

    def __init__(self):
        self.ahead_us = 0

    def __call__(self):
        return time.time_ns() // 1000 + self.ahead_us


@pytest.fixture
def calendar(monkeypatch):
    one = Calendar()
    for module in (schedules, publishing):
        monkeypatch.setattr(module, "now_us", one)
    monkeypatch.setattr(schedules, "_LOOK_S", 0.01)
    return one


@pytest.fixture(params=["memory:", "lmdb:"])
def url(request, tmp_path):
    return request.param + (str(tmp_path / "store") if request.param == "lmdb:" else "")


@pytest.fixture
def broker(url, calendar):
    with Broker.open(url) as one:
        yield one


def payloads(broker, count):
    """Return the payloads of the first *count* messages to come, from the earliest on."""
    subscription = broker.subscribe(start="earliest")
    found = []
    while len(found) < count:
        found += subscription.get(10).payloads
    subscription.close()
    return found


def test_a_message_comes_when_it_is_due_and_not_before(broker, calendar):
    id = broker.publish("a", "later", delay_s=FAR_S)
    broker.publish("a", "now")
    assert isinstance(id, str)
    assert payloads(broker, 1) == ["now"]
    assert [(one["id"], one["topic"]) for one in broker.schedule.list()] == [(id, "a")]

    calendar.ahead_us = (FAR_S + 1) * 1_000_000
    assert payloads(broker, 2) == ["now", "later"]
    assert broker.schedule.list() == []
    assert broker.schedule.count == 0


def test_they_come_in_the_order_of_their_times(broker, calendar):
    now = time.time()
    for seconds in (300, 100, 200):
        broker.publish("a", seconds, at=now + seconds)

    assert [one["at"] - now for one in broker.schedule.list()] == pytest.approx([100, 200, 300], abs=0.01)
    calendar.ahead_us = 400 * 1_000_000
    assert payloads(broker, 3) == [100, 200, 300]


def test_what_is_due_at_one_time_comes_in_the_order_of_publishing_and_lies_in_the_log_together(broker, calendar):
    due = time.time() + FAR_S
    for number in range(10):
        broker.publish("a" if number < 6 else "b", number, at=due, key=f"k{number}" if number % 2 else None)
    subscription = broker.subscribe()
    calendar.ahead_us = (FAR_S + 1) * 1_000_000

    batches = [subscription.get(10), subscription.get(10)]
    assert [(batch.topic, batch.payloads) for batch in batches] == [("a", [0, 1, 2, 3, 4, 5]), ("b", [6, 7, 8, 9])]
    assert [message.key for message in batches[1].messages()] == [None, "k7", None, "k9"]
    assert broker.schedule.count == 0


def test_a_repeated_id_among_what_is_due_together_holds_up_nothing_else(broker, calendar):
    broker.publish("a", "first", id="x")
    due = time.time() + FAR_S
    for number, id in enumerate([None, "x", "y", "y", None]):
        broker.publish("a", number, at=due, id=id)
    broker.publish_many("a", [5, 6, 7], ids=["z", "x", "w"], at=due)
    calendar.ahead_us = (FAR_S + 1) * 1_000_000

    assert payloads(broker, 6) == ["first", 0, 2, 4, 5, 7]
    with gevent.Timeout(10):
        while broker.schedule.count:
            gevent.idle()
    assert broker.next == 6


def test_a_clock_that_is_set_back_makes_nobody_come_twice(broker, calendar):
    due = time.time() + FAR_S
    broker.publish("a", "now", at=due)
    broker.publish("a", "later", at=due + 50)
    calendar.ahead_us = (FAR_S + 20) * 1_000_000
    assert payloads(broker, 1) == ["now"]

    calendar.ahead_us = 0
    broker.publish("a", "between")
    assert [one["at"] for one in broker.schedule.list()] == pytest.approx([due + 50])

    calendar.ahead_us = (FAR_S + 60) * 1_000_000
    assert payloads(broker, 3) == ["now", "between", "later"]
    assert broker.schedule.count == 0


def test_a_time_that_is_past_is_now(broker):
    broker.publish("a", "past", at=1.0)
    assert payloads(broker, 1) == ["past"]


def test_a_list_comes_together_with_its_keys_headers_and_ids(broker, calendar):
    broker.publish_many("a", [1, 2], keys=["k", "l"], ids=["x", "y"], headers={"h": 1}, delay_s=FAR_S)
    calendar.ahead_us = (FAR_S + 1) * 1_000_000
    payloads(broker, 2)

    first, second = broker.get(0), broker.get(1)
    assert (first.key, first.id, first.headers) == ("k", "x", {"h": 1})
    assert (second.payload, second.key) == (2, "l")


def test_what_is_taken_back_never_comes(broker, calendar):
    id = broker.publish("a", "gone", delay_s=FAR_S)
    assert broker.schedule.cancel(id) is True
    assert broker.schedule.cancel(id) is False
    calendar.ahead_us = (FAR_S + 1) * 1_000_000
    broker.publish("a", "there")

    assert payloads(broker, 1) == ["there"]
    assert broker.schedule.count == 0


@pytest.mark.parametrize("id", ["", "nothing", "00" * 24, "ff" * 24])
def test_an_id_of_nothing_is_not_there(broker, id):
    assert broker.schedule.cancel(id) is False


def test_what_came_cannot_be_taken_back(broker):
    id = broker.publish("a", 1, delay_s=0)
    payloads(broker, 1)
    assert broker.schedule.cancel(id) is False


def test_what_could_not_be_taken_back_comes_even_if_it_became_due_in_between(broker, calendar):
    id = broker.publish("a", "there", delay_s=FAR_S)
    append, schedule = broker.append, broker.schedule

    def refuse(_):
        schedule._append = append
        calendar.ahead_us = (FAR_S + 1) * 1_000_000
        schedule._changed.set()
        for _ in range(5):
            gevent.idle()       # who moves looks, and finds that somebody else has it in hand
        raise Overloaded("Too much waits for the disk.")

    schedule._append = refuse
    with pytest.raises(Overloaded):
        schedule.cancel(id)

    assert payloads(broker, 1) == ["there"]


def test_the_schedule_survives_a_restart(tmp_path, calendar):
    url = f"lmdb:{tmp_path / 'store'}"
    with Broker.open(url) as broker:
        ids = [broker.publish("a", number, delay_s=FAR_S + number) for number in range(3)]
        broker.schedule.cancel(ids[1])
    calendar.ahead_us = (FAR_S + 10) * 1_000_000

    with Broker.open(url) as broker:
        assert payloads(broker, 2) == [0, 2]
    with Broker.open(url) as broker:
        assert payloads(broker, 2) == [0, 2]
        assert broker.next == 2
        assert broker.schedule.count == 0


def test_a_delayed_message_whose_id_is_there_already_is_not_stored_again(broker, calendar):
    broker.publish("a", "first", id="x")
    broker.publish("a", "again", id="x", delay_s=FAR_S)
    calendar.ahead_us = (FAR_S + 1) * 1_000_000
    broker.schedule._changed.set()
    with gevent.Timeout(10):
        while broker.schedule.count:
            gevent.idle()

    assert broker.next == 1


def test_a_publish_that_is_sent_again_waits_once(url, calendar):
    from zstreampub.requests import parse_publishing
    with Broker.open(url) as broker:
        options = {"delay_s": FAR_S, "producer": "p", "sequence": 1}
        ids = [broker.submit_and_wait(parse_publishing("publish", broker, ["a", 1, dict(options)])) for _ in range(2)]

        assert ids[0] == ids[1]
        assert broker.schedule.count == len(broker.schedule.list()) == 1


def test_so_many_may_wait_and_no_more(calendar):
    with Broker.open("memory:", Settings(max_scheduled=2)) as broker:
        ids = [broker.publish("a", number, delay_s=FAR_S) for number in range(2)]
        with pytest.raises(LimitExceeded, match="max_scheduled"):
            broker.publish("a", 3, delay_s=FAR_S)
        broker.schedule.cancel(ids[0])
        broker.publish("a", 4, delay_s=FAR_S)


def test_its_time_to_live_counts_from_when_it_can_be_seen(broker, calendar):
    broker.publish("a", "x", delay_s=FAR_S, ttl_s=60)
    calendar.ahead_us = (FAR_S + 1) * 1_000_000
    with gevent.Timeout(10):
        while not broker.next:
            gevent.idle()

    assert broker.get(0).expires == pytest.approx(time.time() + FAR_S + 60, abs=5)


def test_a_list_of_what_waits_can_be_asked_for_by_topic_and_in_parts(broker):
    for number in range(5):
        broker.publish(f"t.{number % 2}", number, delay_s=FAR_S + number)
    assert len(broker.schedule.list("t.1")) == 2
    first = broker.schedule.list(limit=2)
    rest = broker.schedule.list(after=first[-1]["id"])
    assert len(first) + len(rest) == 5
    assert first[-1]["at"] < rest[0]["at"]


@pytest.mark.parametrize("options", [
    {"delay_s": 1, "at": 1}, {"delay_s": -1}, {"delay_s": "1"}, {"at": 5e9}, {"delay_s": float("nan")},
    {"delay_s": 1, "expected_next": 0}, {"delay_s": 1, "wait": "acked"}], ids=str)
def test_terms_that_are_wrong_are_refused(broker, options):
    with pytest.raises(InvalidOption):
        broker.publish("a", 1, **options)


def test_dead_letters_are_not_for_publishers(broker):
    with pytest.raises(AccessError):
        broker.publish("$dead.c", 1, delay_s=1)


def test_a_full_store_takes_no_more_and_what_waits_is_not_lost(tmp_path, calendar):
    url, settings = f"lmdb:{tmp_path / 'store'}", Settings(max_store_bytes=1 << 20)
    with Broker.open(url, settings) as broker:
        waiting = 0
        with pytest.raises(StoreFull):
            while True:
                broker.publish("a", bytes(20_000), delay_s=FAR_S)
                waiting += 1
        assert broker.schedule.count == len(broker.schedule.list()) == waiting > 5
