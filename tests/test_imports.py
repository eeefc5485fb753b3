"""Each module can be loaded, under every Python that is promised, and none warns."""

import subprocess
import sys

LOADS = """
import importlib, pkgutil, bunqueue_trio
names = [each.name for each in pkgutil.walk_packages(bunqueue_trio.__path__, "bunqueue_trio.") if not each.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_is_loaded_without_a_warning():
    done = subprocess.run([sys.executable, "-W", "error", "-c", LOADS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 200
