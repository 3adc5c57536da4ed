"""The Python client. It shares only the ground floor and the transport with the server."""

from .client import Client
from .consumption import Consumption
from .delivery import Delivery
from .producer import Producer
from .subscription import Subscription

__all__ = ["Client", "Consumption", "Delivery", "Producer", "Subscription"]
