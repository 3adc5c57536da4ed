"""The client for asyncio: ``from zstreampub.aio import Client``.

It is zstreampub's own client, which runs in a native thread with a hub of its own; what is here carries
calls there and answers back. It decides nothing about the protocol.
"""

from .client import Client
from .consumption import Consumption
from .delivery import Delivery
from .subscription import Subscription

__all__ = ["Client", "Consumption", "Delivery", "Subscription"]
