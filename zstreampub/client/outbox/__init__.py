"""The outbox: what a client publishes while its server is away is on its own disk, and is sent later."""
