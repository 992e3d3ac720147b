"""``python -m varprop``: the command line."""

from varprop.cli import main

if __name__ == "__main__":
    main()
