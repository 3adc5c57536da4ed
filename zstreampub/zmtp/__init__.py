"""ZMTP 3.1, what ZeroMQ speaks on a connection, on the hub: no other thread, and no copy that is not needed."""
