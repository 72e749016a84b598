"""Asks the extender beside it how it is, for probes that run inside the container: exit status 0 if it answers 200.

    python -m extender.probe http://127.0.0.1:8888/readyz

In the default chart the extender listens on loopback only, where the kubelet cannot ask, and the image has no other
program that could. A probe runs every few seconds, so nothing is imported here but a part of the standard library.
"""

import http.client
import sys
import urllib.parse

from extender.closed_pipe import quiet_on_closed_pipe

TIMEOUT_SECONDS = 4.0
OK, NOT_OK, USAGE_ERROR = 0, 1, 2
EXIT_STATUS = "\nExit codes: 0 it answered 200; 1 another status, or no answer; 2 the URL was refused.\n"


@quiet_on_closed_pipe
def main(arguments: list[str]) -> int:
    """Ask once; the answer, or why there is none, goes to stdout, where the kubelet takes it from for its event."""
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(__doc__ + EXIT_STATUS)
        return OK
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m extender.probe http://HOST:PORT/PATH\n")
        return USAGE_ERROR
    url = urllib.parse.urlsplit(arguments[0])
    if url.scheme != "http" or url.hostname is None or url.port is None:
        sys.stderr.write(f"{arguments[0]}: expected http://HOST:PORT/PATH\n")
        return USAGE_ERROR
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", url.path or "/")
        response = connection.getresponse()
        sys.stdout.write(f"{response.status} {response.read().decode(errors='replace')}\n")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{arguments[0]}: {error or type(error).__name__}\n")
        return NOT_OK
    finally:
        connection.close()
    return OK if response.status == http.client.OK else NOT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
