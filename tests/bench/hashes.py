"""Hash the blobs of a layout, and do nothing else: `python tests/bench/hashes.py LAYOUT`.

The bare loop of a verification: one thread per core, one buffer of 1 MiB each, the largest file first.
"""

import hashlib
import os
import sys
import threading

BUFFER = 1 << 20


def main(layout: str) -> None:
    files = iter(sorted(os.scandir(f"{layout}/blobs/sha256"), key=lambda file: -file.stat().st_size))
    wrong: list[str] = []

    def run() -> None:
        view = memoryview(bytearray(BUFFER))
        for one in files:
            hasher = hashlib.sha256()
            with open(one.path, "rb", buffering=0) as file:
                while count := file.readinto(view):
                    hasher.update(view[:count])
            if hasher.hexdigest() != one.name:
                wrong.append(one.name)

    threads = [threading.Thread(target=run) for _ in os.sched_getaffinity(0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise SystemExit(f"wrong: {', '.join(wrong)}")


if __name__ == "__main__":
    main(sys.argv[1])
