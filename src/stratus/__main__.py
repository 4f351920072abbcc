"""``python -m stratus``."""

import os
import sys

if __name__ == "__main__":
    try:
        from stratus.cli.main import main
    except KeyboardInterrupt:
        sys.exit(130)
    except MemoryError:
        os.write(2, b"stratus: there is not enough memory\nhint: see `ulimit -v`\n")
        os._exit(1)
    sys.exit(main())
