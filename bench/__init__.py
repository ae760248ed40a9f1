"""What the README promises, measured: `python -m bench`. One question a module, answered as `report.Row`s."""

import os

# As the service does, before NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
