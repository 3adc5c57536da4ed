"""Durable consumers: named cursors with acknowledgements, which members share."""

from .handout import Delivery, Handout, Notice
from .member import Member
from .registry import Consumers

__all__ = ["Consumers", "Delivery", "Handout", "Member", "Notice"]
