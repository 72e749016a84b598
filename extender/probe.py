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
    try:
        url = urllib.parse.urlsplit(arguments[0])
        host, port = url.hostname, url.port
    except ValueError as error:  # brackets that do not match, a port that is none
        return _refuse(arguments[0], str(error))
    if url.scheme != "http" or not host or port is None:
        return _refuse(arguments[0])
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", urllib.parse.urlunsplit(("", "", url.path or "/", url.query, "")))
        response = connection.getresponse()
        sys.stdout.write(f"{response.status} {response.read().decode(errors='replace')}\n")
    except (ValueError, http.client.InvalidURL) as error:  # characters that no request can have
        return _refuse(arguments[0], str(error))
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{arguments[0]}: {error or type(error).__name__}\n")
        return NOT_OK
    finally:
        connection.close()
    return OK if response.status == http.client.OK else NOT_OK


def _refuse(given: str, why: str = "") -> int:
    sys.stderr.write(f"{given}: {why}{'; ' if why else ''}expected http://HOST:PORT/PATH\n")
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
