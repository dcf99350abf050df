"""`python -m medembed`."""

from medembed.cli import main

main()
