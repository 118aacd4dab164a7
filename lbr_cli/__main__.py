"""Where the program begins, as `lbr` and as `python -m lbr_cli`. Ctrl-C is heard from here on."""

import sys


def main() -> None:
    try:
        from lbr_cli.commands import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
