"""Filters: which messages somebody wants, said as plain maps; the same words in the server, in a chain, before a store.

No code is evaluated, and no pattern of characters is matched: a filter that a stranger sends is checked, has bounds
(``words.py``), and costs its own subscription. docs/filters.rst explains the words.
"""
