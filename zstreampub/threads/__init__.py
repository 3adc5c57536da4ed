"""Native threads and hubs: how a call gets from the one to the other, and how its caller waits."""
