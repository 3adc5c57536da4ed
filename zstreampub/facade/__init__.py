"""Queues and tables by where they are, for any thread: a directory or a server, opened for their sake."""
