"""A server that a script starts on a port of its own, and how it is spoken to over a connection."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

# Of the server, and of the clients; all of both where there is but one.
AVAILABLE = sorted(os.sched_getaffinity(0))
CORES = [AVAILABLE[: len(AVAILABLE) // 2] or AVAILABLE, AVAILABLE[len(AVAILABLE) // 2 :]]


class Server:
    """Serves when it is made. `prepare` is called in its process, before it is the server's."""

    def __init__(self, binary, directory, options=(), prepare=None):
        self.process = subprocess.Popen(
            [binary, "--listen", "127.0.0.1:0", "--data-dir", str(directory), *options],
            stderr=subprocess.PIPE, text=True, preexec_fn=prepare,
        )
        self.log = []
        for line in self.process.stderr:
            if found := re.search(r"https?://127\.0\.0\.1:(\d+)", line):
                self.port = int(found.group(1))
                break
        else:
            sys.exit("the server did not start")
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def rss_mib(self):
        """The most memory that was resident."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", text).group(1)) / 1024

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        """Ends it by SIGTERM; its exit status."""
        self.process.terminate()
        return self.process.wait(120)

    def stop(self):
        """As `end`, which has to be a good one."""
        if self.end() != 0:
            sys.exit("the server did not end well: " + "".join(self.log[-5:]))


async def exchange(reader, writer, request):
    """Status, head and body of the answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = number_of(head, b"content-length")
    body = await reader.readexactly(length) if length is not None else b""
    return int(head.split(b" ", 2)[1]), head, body


def number_of(head, field):
    """The number that a field of the head holds; None without the field."""
    found = re.search(field + rb": (\d+)", head, re.IGNORECASE)
    return int(found.group(1)) if found else None


def is_last(head):
    """Whether the connection ends behind this answer."""
    return re.search(rb"connection: close", head, re.IGNORECASE) is not None


def post(target, body, encoding=""):
    """The bytes of a request."""
    head = f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    if encoding:
        head += f"Content-Encoding: {encoding}\r\n"
    return head.encode() + b"\r\n" + body
