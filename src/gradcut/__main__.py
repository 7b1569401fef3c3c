"""The program: ``gradcut``, and ``python -m gradcut``."""

import sys

try:
    from gradcut.cli import main
except KeyboardInterrupt:  # the imports take half a second, in which nothing has begun
    print("gradcut: stopped", file=sys.stderr)
    sys.exit(130)

__all__ = ["main"]

if __name__ == "__main__":
    main()
