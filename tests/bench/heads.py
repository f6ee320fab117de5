"""Ask for the digests of many images, one after another, on one connection: `python tests/bench/heads.py LIST`.

LIST has a name HOST:PORT/REPOSITORY:TAG in each line.
"""

import http.client
import sys

ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"


def main(path: str) -> None:
    with open(path) as file:
        names = file.read().split()
    connection = http.client.HTTPConnection(names[0].partition("/")[0])
    for name in names:
        repo, _, tag = name.partition("/")[2].rpartition(":")
        connection.request("HEAD", f"/v2/{repo}/manifests/{tag}", headers={"Accept": ACCEPT})
        response = connection.getresponse()
        response.read()
        if response.status != 200 or "Docker-Content-Digest" not in response.headers:
            raise SystemExit(f"{name}: {response.status} {response.reason}")


if __name__ == "__main__":
    main(sys.argv[1])
