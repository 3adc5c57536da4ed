"""Policies of one's own, and how a policy is found."""

import logging

import gevent
import pytest

from tests.hand_store import Stage
from zstreampub.broker import Broker
from zstreampub.errors import InternalError, InvalidOption
from zstreampub.policy import BUILT_IN, Policy, Spill, find_policy
from zstreampub.settings import Settings
from zstreampub.store import Gap


class Newest(Policy):
    """A good one: throws away what is queued and takes the newest."""

    name = "newest"

    def on_full(self, subscription, batch):
        subscription.force(batch)
        subscription.dropped += subscription.queue.drop_oldest("newest")


class Raising(Policy):
    name = "raising"

    def on_full(self, subscription, batch):
        raise ValueError("broken policy")


class Idle(Policy):
    name = "idle"

    def on_full(self, subscription, batch):
        pass


def stage_with(*policies):
    stage = Stage()
    stage.broker = Broker(stage.store, stage.settings, policies)
    return stage


def publish(stage, *batches):
    for topic, count in batches:
        stage.publish((topic, [0] * count, None))
    stage.store.settle()


@pytest.mark.parametrize("asked", ["newest", Newest, Newest()], ids=["by name", "class", "instance"])
def test_a_policy_of_ones_own_decides_what_a_full_queue_does(asked):
    stage = stage_with(Newest)
    reader = stage.subscribe("a", policy=asked, max_messages=2)

    publish(stage, ("a", 2), ("a", 3))
    reader.take_all()

    assert reader.items == [Gap(0, 3, 3, "newest"), (3, "a", None), (4, "a", None)]
    assert reader.subscription.describe()["policy"] == "newest"


@pytest.mark.parametrize(("policy", "complaint"), [(Raising, "broken policy"), (Idle, "neither took nor left")])
def test_a_broken_policy_ends_its_own_subscription_and_no_other(policy, complaint, caplog):
    stage = stage_with(policy)
    victim = stage.subscribe("a", policy=policy.name, max_messages=1)
    other = stage.subscribe("a")

    with caplog.at_level(logging.ERROR):
        publish(stage, ("a", 3))
    other.take_all()

    error = victim.subscription.error
    assert isinstance(error, InternalError)
    assert error.reference in caplog.text and complaint in caplog.text
    assert error.resume == 0, "nothing was taken, nothing is lost"
    assert len(other.messages) == 3
    assert stage.replies == stage.appends


def test_the_policy_of_the_settings_is_the_default():
    stage = Stage(policy="drop")

    assert stage.subscribe("a").subscription.policy.name == "drop"


@pytest.mark.parametrize("name", ["none", "", 5, [], {}, "Spill"])
def test_a_policy_that_is_not_known_is_refused_with_the_names_of_those_that_are(name):
    with pytest.raises(InvalidOption, match="block, conflate, disconnect, drop, drop_oldest, spill"):
        find_policy(name)


def test_each_subscription_has_a_policy_of_its_own():
    assert find_policy("spill") is not find_policy("spill")
    assert isinstance(find_policy(Spill), Spill)
    assert sorted(BUILT_IN) == ["block", "conflate", "disconnect", "drop", "drop_oldest", "spill"]


def test_a_policy_that_ends_its_subscription_loses_nothing():
    class Leaving(Policy):
        name = "leaving"

        def on_full(self, subscription, batch):
            subscription.end()

    stage = Stage()
    reader = stage.subscribe("a", policy=Leaving(), max_messages=2)

    publish(stage, ("a", 1), ("a", 5))

    assert reader.subscription.ended
    assert reader.subscription.position == 0


def test_a_broker_keeps_the_policies_it_was_opened_with():
    with gevent.Timeout(10), Broker.open("memory:", Settings(), policies=[Newest]) as broker:
        with broker.subscribe(policy="newest") as subscription:
            assert subscription.policy.name == "newest"
