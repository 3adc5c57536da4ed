"""Settings: each is checked against its range when it is made."""

import pytest

from zstreampub.errors import InvalidOption
from zstreampub.settings import Settings


def test_the_defaults_are_within_their_own_ranges():
    assert Settings() == Settings()


@pytest.mark.parametrize("wrong", [
    {"max_message_bytes": 0}, {"max_message_bytes": "1"}, {"max_message_bytes": 1.5}, {"max_message_bytes": True},
    {"max_message_bytes": None}, {"max_batch_messages": 1 << 18}, {"heartbeat_s": 0}, {"heartbeat_s": -1},
    {"heartbeat_s": float("nan")}, {"heartbeat_s": "5"}, {"durability": "none"}, {"keep_over": "drop"}, {"policy": 5},
    {"retention": []}, {"max_credit": 9}], ids=str)
def test_a_setting_out_of_its_range_is_refused_by_name(wrong):
    with pytest.raises(InvalidOption) as caught:
        Settings(**wrong)
    assert caught.value.option == next(iter(wrong))


def test_seconds_may_be_whole_numbers():
    assert Settings(heartbeat_s=1).heartbeat_s == 1
