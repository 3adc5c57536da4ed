"""``python -m zstreampub.cli``: the command, where the console script is not on the path."""

from . import main

main()
