"""Receivers: what comes from a server or a plain ZeroMQ socket, handed to callbacks or into a store."""

from .messenger import Messenger
from .receiver import Receiver, ThreadedReceiver
from .source import Source

__all__ = ["Messenger", "Receiver", "Source", "ThreadedReceiver"]
