"""The entry point of `lbr` and `python -m lbr_cli`. Ctrl-C ends it quietly even during imports."""

import sys


def main() -> None:
    try:
        from lbr_cli.commands import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
