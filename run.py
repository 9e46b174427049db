"""The command of the README: ``python run.py technique=distill model=tinybert``. See ``--help``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # a checkout runs its own code, installed or not

from modelpress.launch import main

if __name__ == "__main__":
    sys.exit(main(program="python run.py"))
