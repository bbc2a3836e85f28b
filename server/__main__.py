"""``python -m server`` is ``nibble``."""

from server.cli import main

if __name__ == "__main__":
    main()
