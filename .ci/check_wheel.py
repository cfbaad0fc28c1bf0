"""Build the wheel in the folder given and hold it against the tracked files of the package."""

import subprocess
import sys
import zipfile
from pathlib import Path

folder = Path(sys.argv[1])
subprocess.run(
    [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), "."],
    check=True,
)
(wheel,) = folder.glob("*.whl")
packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("largebatch/")}
listed = subprocess.run(
    ["git", "ls-files", "src/largebatch"], check=True, capture_output=True, text=True
).stdout.split()
tracked = {name.removeprefix("src/") for name in listed}
if packed != tracked:
    sys.exit(
        f"{wheel.name} must hold the tracked files of src/largebatch and nothing else; "
        f"missing {sorted(tracked - packed)}, too many {sorted(packed - tracked)}"
    )
print(f"{wheel.name} holds all {len(tracked)} files of the package")
