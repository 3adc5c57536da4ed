"""Durable consumers: named cursors with acknowledgements, which members share."""

from .member import Delivery, Handout, Member, Notice
from .registry import Consumers

__all__ = ["Consumers", "Delivery", "Handout", "Member", "Notice"]
