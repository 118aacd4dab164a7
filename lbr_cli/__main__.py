"""`python -m lbr_cli` is the same program as `lbr`."""

from lbr_cli.commands import main

main()
