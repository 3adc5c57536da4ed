"""What one reader, publisher or connection can make the server hold in memory."""

from tests.hand_store import Stage
from zstreampub import broker as broker_module
from zstreampub.broker import Broker
from zstreampub.requests import parse_publishing


def test_what_a_held_publisher_sent_is_not_kept_for_the_sake_of_its_answer():
    stage = Stage()
    reader = stage.subscribe("a", policy="block", max_messages=1)
    append, result = parse_publishing("publish_many", stage.broker, ["a", [1, 2, 3]])
    answers = []
    append.reply = lambda one: answers.append(result(one))

    stage.broker.append(append)
    stage.store.commit()
    stage.store.tell()

    assert not answers and not append.batches
    reader.stage.settle()
    assert answers == [[0, 3]]
    stage.close()


def test_a_reader_that_takes_as_soon_as_it_is_told_holds_no_publisher():
    stage = Stage()
    subscription = stage.broker.subscribe("a", policy="block", max_messages=1)
    subscription.on_ready = subscription.take

    stage.publish(("a", [1, 2], None))
    stage.store.settle()

    assert stage.replies == stage.appends
    subscription.close()
    stage.close()


def test_the_tail_in_memory_is_bounded_by_messages_too(monkeypatch):
    monkeypatch.setattr(broker_module, "_TAIL_MESSAGES", 100)
    with Broker.open("memory:") as broker:
        for _ in range(5):
            broker.publish_many("a", [None] * 40)

        assert broker.tail_from(119) is None
        assert [batch.first for batch in broker.tail_from(120)] == [120, 160]
