"""LMDB environments: one in a directory of its own, opened by one process. The door to LMDB."""
