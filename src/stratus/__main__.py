"""``python -m stratus``."""

import sys

if __name__ == "__main__":
    try:
        from stratus.cli.main import main
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(main())
