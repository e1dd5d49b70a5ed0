"""`python -m cloud_hf`, for launchers such as torchrun."""

import sys

from cloud_hf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
