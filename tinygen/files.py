"""Files are written beside the old one and renamed into its place: a reader finds the old or the new one, never half of one."""

import os
import tempfile
from pathlib import Path


def write_whole(path, content):
    """Replace a file by these bytes, or, where that is interrupted, leave it. Folders on the way are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as beside:  # its own for each writer
        partial = Path(beside) / path.name
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the new name without the content
        os.replace(partial, path)
