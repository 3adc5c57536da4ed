"""Stores of received messages: what came is on disk before anybody works on it.

``FifoStore`` (fifo.py) keeps them in order, ``LatestStore`` (latest.py) the newest only. Both are opened
from any thread or greenlet, commit what is waiting together, and keep named marks in the same transaction.
"""
