"""Runs a program and ends or disturbs it at the n-th storage call on a directory, by ptrace.

    tracer.py --under DIR --log FILE [--at N --do before|after|torn|EIO|ENOSPC [--seconds S]]
              -- PROGRAM ARGUMENT..

A storage call changes what is stored under DIR: write, sync, rename, link, unlink, mkdir, truncate,
allocate, and open when it may create. They are counted over all threads in the order in which they
begin, so that every one has a number; strace's `when=` counts for each thread apart, and the first
thread to reach N hides the N-th call of the others. Only these calls stop: a seccomp filter lets
all others pass, and calls on sockets and other directories are not counted.

    before   the process is killed and call N is not done
    after    the process is killed when call N is done, before its thread goes on
    torn     call N, a write, is cut to half its bytes; then as after
    EIO      call N is not done and fails with this error; the process lives
    ENOSPC   so do call N and, for S seconds, all others that need space

FILE gets a JSON line for each call, and one more when something was done to it. SIGTERM is passed
on, SIGUSR1 as SIGKILL. The status is the program's own, 128 + n when signal n ended it. Linux on
x86_64; needs no rights beyond ptrace.
"""

import argparse
import contextlib
import ctypes
import errno
import json
import os
import platform
import signal
import struct
import sys
import time

# Call: its number, and what says where it works: a descriptor, a path, or two of them. The number
# behind `at` and `path` is the argument's place.
CALLS = {
    "write": (1, "fd"),
    "pwrite64": (18, "fd"),
    "writev": (20, "fd"),
    "pwritev": (296, "fd"),
    "pwritev2": (328, "fd"),
    "copy_file_range": (326, "out"),
    "sendfile": (40, "fd"),
    "fsync": (74, "fd"),
    "fdatasync": (75, "fd"),
    "sync_file_range": (277, "fd"),
    "ftruncate": (77, "fd"),
    "fallocate": (285, "fd"),
    "truncate": (76, "path"),
    "open": (2, "path"),
    "creat": (85, "path"),
    "openat": (257, "at"),
    "mkdir": (83, "path"),
    "mkdirat": (258, "at"),
    "rmdir": (84, "path"),
    "unlink": (87, "path"),
    "unlinkat": (263, "at"),
    "rename": (82, "path"),
    "renameat": (264, "at"),
    "renameat2": (316, "at"),
    "link": (86, "to"),
    "linkat": (265, "at_to"),
}
NAMES = {number: name for name, (number, _) in CALLS.items()}
WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
SYNCS = ("fsync", "fdatasync")
GROWS = (*WRITES, *"copy_file_range sendfile fallocate open creat openat mkdir mkdirat".split())
GROWS += ("rename", "renameat", "renameat2", "link", "linkat")

TRACE, ALLOW, AUDIT_X86_64 = 0x7FF00000, 0x7FFF0000, 0xC000003E
SEIZE, CONT, SYSCALL, LISTEN = 0x4206, 7, 24, 0x4208
GETREGS, SETREGS, GET_SYSCALL_INFO = 12, 13, 0x420E
# SYSGOOD, FORK, VFORK, CLONE, EXEC, SECCOMP, EXITKILL
OPTIONS = 1 | 2 | 4 | 8 | 16 | 128 | 1 << 20
EVENT_SECCOMP, EVENT_STOP, WAIT_ALL = 7, 128, 0x40000000
RAX, RDX, ORIG_RAX, REGISTERS = 10, 12, 15, 27

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread, address=0, data=0):
    """One request; a thread that has just died is not an error, its end is reported by wait."""
    if libc.ptrace(request, thread, address, data) < 0:
        number = ctypes.get_errno()
        if number != errno.ESRCH:
            raise OSError(number, f"ptrace {request:#x}: {os.strerror(number)}")
        return False
    return True


def install_filter():
    """Lets the kernel stop this process at the calls of `CALLS`, and at no others."""
    numbers = sorted(NAMES)
    code = [(0x20, 0, 0, 4), (0x15, 0, len(numbers) + 1, AUDIT_X86_64), (0x20, 0, 0, 0)]
    code += [(0x15, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    code += [(0x06, 0, 0, ALLOW), (0x06, 0, 0, TRACE)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *it) for it in code))
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(program))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(header), 0, 0):
        raise OSError(ctypes.get_errno(), "no seccomp filter")


def start(arguments):
    """A stopped child, to be seized; it goes on to the program by SIGCONT."""
    child = os.fork()
    if child == 0:
        try:
            os.kill(os.getpid(), signal.SIGSTOP)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            install_filter()
            os.execvp(arguments[0], arguments)
        except OSError as error:
            print(f"tracer: {arguments[0]}: {error}", file=sys.stderr)
        os._exit(127)
    os.waitpid(child, os.WUNTRACED)
    ptrace(SEIZE, child, 0, OPTIONS)
    os.kill(child, signal.SIGCONT)
    return child


class Tracer:
    def __init__(self, options):
        self.under = os.path.realpath(options.under)
        self.options = options
        self.log = open(options.log, "w", encoding="utf-8")
        self.count, self.result = 0, None
        self.full_until = 0.0
        self.dying = set()

    def write(self, **record):
        self.log.write(json.dumps(record) + "\n")
        self.log.flush()

    def kill(self, number=signal.SIGKILL):
        if self.result is None:
            # It may have ended at this moment.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, number)

    def text_at(self, address):
        """The string at `address` of the traced process."""
        with open(f"/proc/{self.child}/mem", "rb", 0) as memory:
            memory.seek(address)
            text = b""
            while b"\0" not in text and len(text) < 4096:
                # To the end of the page: the next one may not be mapped.
                text += memory.read(4096 - (address + len(text)) % 4096)
        return os.fsdecode(text.split(b"\0")[0])

    def path_of(self, thread, name, arguments):
        """What the call works on; empty when it cannot be said or when it changes nothing."""
        form = CALLS[name][1]
        try:
            if form in ("fd", "out"):
                number = arguments[2 if form == "out" else 0] & 0xFFFFFFFF
                return os.readlink(f"/proc/{thread}/fd/{number}")
            flags = {"open": arguments[1], "openat": arguments[2]}.get(name, os.O_CREAT)
            if not flags & (os.O_CREAT | os.O_TRUNC):
                return ""
            place = {"path": 0, "to": 1, "at": 1, "at_to": 3}[form]
            path = self.text_at(arguments[place])
            base = f"/proc/{thread}/cwd"
            directory = ctypes.c_int(arguments[place - 1] & 0xFFFFFFFF).value if place else -100
            if form in ("at", "at_to") and directory >= 0:
                base = f"/proc/{thread}/fd/{directory}"
            return path if path.startswith("/") else os.path.join(os.readlink(base), path)
        except OSError:
            return ""

    def at_call(self, thread):
        """A thread stands before a call: counts it, and does what was asked. How to go on."""
        info = ctypes.create_string_buffer(88)
        if not ptrace(GET_SYSCALL_INFO, thread, len(info), ctypes.addressof(info)):
            return CONT
        number, *arguments = struct.unpack_from("7Q", info, 24)
        name = NAMES.get(number, "")
        path = self.path_of(thread, name, arguments) if name else ""
        if not path.startswith(self.under + "/"):
            return CONT
        self.count += 1
        with open(f"/proc/{thread}/comm", encoding="utf-8") as comm:
            where = {"thread": comm.read().strip(), "path": path[len(self.under) + 1 :]}
        now, act = time.monotonic(), self.options.do
        self.write(n=self.count, call=name, **where, time=now)
        if self.count == self.options.at and act:
            self.full_until = now + self.options.seconds
        elif not (now < self.full_until and name in GROWS):
            return CONT
        self.write(done=act, at=self.count, call=name, **where, time=now)
        return self.disturb(thread, name, arguments)

    def disturb(self, thread, name, arguments):
        """Does what was asked to a call that stands before its begin; how to go on."""
        act = self.options.do
        if act == "before":
            self.kill()
            return CONT
        registers = (ctypes.c_ulonglong * REGISTERS)()
        ptrace(GETREGS, thread, 0, ctypes.addressof(registers))
        if act in ("after", "torn"):
            self.dying.add(thread)
            if act == "torn" and name in WRITES:
                self.cut(name, arguments, registers)
        else:
            registers[ORIG_RAX] = ctypes.c_ulonglong(-1).value
            registers[RAX] = ctypes.c_ulonglong(-getattr(errno, act)).value
        ptrace(SETREGS, thread, 0, ctypes.addressof(registers))
        return SYSCALL if thread in self.dying else CONT

    def cut(self, name, arguments, registers):
        """Halves a write in the registers, or in the vector that they point to."""
        if name in ("write", "pwrite64"):
            registers[RDX] = arguments[2] // 2
            return
        address, count = arguments[1], arguments[2]
        with open(f"/proc/{self.child}/mem", "r+b", 0) as memory:
            memory.seek(address)
            parts = list(struct.iter_unpack("QQ", memory.read(16 * count)))
            left = sum(length for _, length in parts) // 2
            for at, (base, length) in enumerate(parts):
                if left <= length:
                    memory.seek(address + 16 * at)
                    memory.write(struct.pack("QQ", base, left))
                    registers[RDX] = at + 1
                    return
                left -= length

    def run(self, arguments):
        """Follows all threads until the last has ended; returns the status of the program."""
        passed_on = (signal.SIGTERM, signal.SIGUSR1)
        signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
        self.child = start(arguments)
        signal.signal(signal.SIGTERM, lambda *_: self.kill(signal.SIGTERM))
        signal.signal(signal.SIGUSR1, lambda *_: self.kill())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
        while True:
            try:
                thread, status = os.waitpid(-1, WAIT_ALL)
            except ChildProcessError:
                # What is asked of a tracer that ends must not change its status.
                signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
                return self.result
            if not os.WIFSTOPPED(status):
                if thread == self.child:
                    self.result = os.waitstatus_to_exitcode(status)
                continue
            stop, event, resume, passed = os.WSTOPSIG(status), status >> 16, CONT, 0
            if event == EVENT_SECCOMP:
                resume = self.at_call(thread)
            elif event == EVENT_STOP and stop != signal.SIGTRAP:
                resume = LISTEN
            elif stop == signal.SIGTRAP | 0x80:
                if thread in self.dying:
                    self.kill()
            elif event == 0:
                passed = stop
            ptrace(resume, thread, 0, passed)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--under", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--do", default="")
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    if platform.machine() != "x86_64":
        sys.exit(f"tracer: expected x86_64, found {platform.machine()}")
    result = Tracer(options).run(options.program)
    sys.exit(result if result >= 0 else 128 - result)


if __name__ == "__main__":
    main()
