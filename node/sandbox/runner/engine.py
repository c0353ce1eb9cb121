"""A container of the Docker driver, seen through the engine's socket with stdlib alone.

The daemon created the container; the runner attaches, starts, waits and kills. While the engine
does not answer, the container's state is unknown, never failed: the runner asks again.

Spec: specs/sandbox.md#docker-driver.
"""

import errno
import http.client
import json
import os
import socket
import time

from node.sandbox.runner import cgroups, egress, log_file, restore
from node.sandbox.runner.container import Container, StartFailed, Usage
from node.sandbox.runner.records import Fields

API = "/v1.41/containers/"
REQUEST_SECONDS = 60.0
HEADER_BYTES = 8  # Of a frame: the stream, three zeros, the size.
HEAD_BYTES_MAX = 16_384
DONE = 204
KILLED = 137
OOM_SECONDS = 2.0
OOM_PAUSE_SECONDS = 0.05
HOLDER_SECONDS = 30.0
HOLDER_PAUSE_SECONDS = 0.005
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
INIT_MARK = "[FATAL tini ("
"""The prefix of fatal errors of Docker's init."""
FAULTS = (OSError, http.client.HTTPException)
"""What a request raises when the engine is gone or its answer is malformed."""


class EngineRequest(http.client.HTTPConnection):
    """One request over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=REQUEST_SECONDS)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket instead of to the host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class EngineContainer(Container):
    """One container of the engine."""

    __slots__ = (
        "attached", "code", "fields", "frame_left", "group", "header", "never", "out", "paused",
        "peak", "spent", "stopped", "waiting",
    )  # fmt: skip

    def __init__(self, fields: Fields, out: int) -> None:
        self.fields = fields
        self.out = out
        self.code: int | None = None
        self.header = b""
        self.frame_left = 0
        self.paused = False
        self.stopped = False
        self.spent: int | None = None
        self.peak: int | None = None
        self.group = cgroups.Group({}, set())
        self.attached = _attach(fields)
        self.never, self.silent = os.pipe2(os.O_CLOEXEC)  # Nobody writes: never ready.
        self.log_source = self.attached.fileno()
        self.waiting: socket.socket | None = None
        self.answer = b""
        self.exit_source = os.dup(self.never)

    def read_log(self) -> bytes | None:
        try:
            data = self.attached.recv(log_file.CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            return None
        return self._unframe(data) if data else None

    def drain_log(self) -> bool:
        time.sleep(log_file.DRAIN_PAUSE_SECONDS)
        try:
            return bool(self.attached.recv(log_file.DRAIN_BYTES))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def exit_code(self) -> int | None:
        if self.code is None:
            self._sample()
            self._ask_for_exit()
        return self.code

    def excess(self) -> tuple[str, str] | None:
        return None  # The kernel watches all limits but that of the disk.

    def members(self) -> list[int]:
        return self.group.members()

    def pause(self) -> bool:
        if not self.paused:
            self.paused = _ask(self.fields, "POST", "/pause")[0] == DONE
        return self.paused

    def resume(self) -> bool:
        if self.paused and _ask(self.fields, "POST", "/unpause")[0]:
            self.paused = False
        return not self.paused

    def terminate(self) -> None:
        _ask(self.fields, "POST", "/kill?signal=TERM")  # The engine's init passes it on.

    def kill(self) -> None:
        self.stopped = True
        self._sample()
        try:  # A client that stops reading makes kill hang.
            self.attached.shutdown(socket.SHUT_RDWR)
        except OSError:
            self.header = b""  # The engine has closed the stream already.
        _ask(self.fields, "POST", "/kill?signal=KILL")
        self.resume()  # A frozen process dies when it resumes, before its next instruction.
        if os.geteuid() == 0:
            self.group.kill()

    def usage(self) -> Usage:
        if os.geteuid() == 0:
            self.group.kill()  # Do not rely on the engine's word that it is dead.
        return Usage(self.spent, self.peak, self._is_out_of_memory())

    def _is_out_of_memory(self) -> bool:
        """Return whether the memory limit ended the container, of which the engine hears late."""
        patience_s = OOM_SECONDS if self.code == KILLED and not self.stopped else 0.0
        end_s = time.monotonic() + patience_s
        while not (found := bool((_inspect(self.fields).get("State") or {}).get("OOMKilled"))):
            if time.monotonic() >= end_s:
                break
            time.sleep(OOM_PAUSE_SECONDS)
        return found

    def complaint(self, line: str) -> str:
        mark, found, why = line.partition("] ")
        return why if found and mark.startswith(INIT_MARK) else ""

    def outputs(self) -> int:
        return self.out

    def close(self) -> None:
        self.attached.close()
        self._forget_question()
        for descriptor in (self.exit_source, self.never, self.silent, self.out):
            os.close(descriptor)

    def watch(self) -> None:
        """Find the control group of the started container."""
        self.group = _group_of(_inspect(self.fields))

    def _sample(self) -> None:
        """Record what the container has used: its group is removed when it dies."""
        self.spent = self.group.cpu_ms() or self.spent
        self.peak = self.group.memory_peak_mib() or self.peak

    def _ask_for_exit(self) -> None:
        """Read the answer to our request for the exit as far as it has come, or send it again.

        The engine sends the answer's head at once and its body at the container's end.
        """
        if self.waiting is None:
            self._ask_again()
            return
        try:
            data = self.waiting.recv(log_file.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.answer += data
        if data:
            return
        body = self.answer.partition(b"\r\n\r\n")[2]
        self._forget_question()
        try:
            self.code = int(json.loads(body)["StatusCode"])
        except (KeyError, ValueError, TypeError):
            return  # The engine is gone; ask again at the next tick.

    def _ask_again(self) -> None:
        """Send a request for the exit; without an engine the next tick retries."""
        question = f"POST {API}{self.fields.one('name')}/wait HTTP/1.0\r\n\r\n"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(REQUEST_SECONDS)
            sock.connect(self.fields.one("socket"))
            sock.sendall(question.encode())
        except OSError:
            sock.close()
            return
        sock.setblocking(False)
        self.waiting = sock
        os.dup2(sock.fileno(), self.exit_source, inheritable=False)

    def _forget_question(self) -> None:
        """Close the ended connection, so that it no longer wakes the supervisor."""
        if self.waiting is not None:
            self.waiting.close()
        self.waiting = None
        self.answer = b""
        os.dup2(self.never, self.exit_source, inheritable=False)

    def _unframe(self, data: bytes) -> bytes:
        """Return the payload in a piece of the attached stream."""
        payload = b""
        while data:
            if self.frame_left:
                piece = data[: self.frame_left]
                payload += piece
                self.frame_left -= len(piece)
                data = data[len(piece) :]
                continue
            wanted = HEADER_BYTES - len(self.header)
            self.header += data[:wanted]
            data = data[wanted:]
            if len(self.header) == HEADER_BYTES:
                self.frame_left = int.from_bytes(self.header[4:])
                self.header = b""
        return payload


def start(fields: Fields) -> EngineContainer:
    """Attach to the created container and start it; StartFailed says why it does not run."""
    out = _hold_outputs(fields)
    try:
        restore.restore(out, fields, cgroups.Group({}, set()))
    except StartFailed:
        os.close(out)
        raise
    try:
        container = EngineContainer(fields, out)
    except FAULTS as fault:
        os.close(out)
        raise StartFailed(f"Docker Engine does not answer: {fault}") from fault
    try:
        if fields.one("network"):  # It exists before the job does.
            egress.offer(container, _start_holder(fields, fields.one("network")), fields)
        _require_started(_ask(fields, "POST", "/start"))
    except StartFailed:
        container.close()
        raise
    container.watch()
    container.exit_code()
    return container


def _hold_outputs(fields: Fields) -> int:
    """Return a descriptor of /out, through the holder if we could not mount it ourselves."""
    place, holder = fields.one("out"), fields.one("holder")
    if holder:
        place = f"/proc/{_start_holder(fields, holder)}/root/out"
    deadline = time.monotonic() + HOLDER_SECONDS
    while True:
        try:
            return os.open(place, FOLDER)
        except OSError as fault:
            # The engine answers before the holder's program runs; until then the process is root's.
            if fault.errno != errno.EACCES or time.monotonic() > deadline:
                raise StartFailed(f"the job's /out cannot be opened: {fault.strerror}") from fault
        time.sleep(HOLDER_PAUSE_SECONDS)


def _start_holder(fields: Fields, holder: str) -> int:
    """Start a container's holder; return its process id on this machine."""
    _require_started(_ask(fields, "POST", "/start", holder))
    found = _inspect(fields, holder)
    if not _group_of(found).folders:  # The process id would belong to another process.
        raise StartFailed("Docker Engine runs its containers on another machine")
    return found["State"]["Pid"]


def _require_started(answered: tuple[int, dict[str, object]]) -> None:
    """Raise StartFailed unless the answer means that the container runs."""
    status, answer = answered
    if status == 0:
        raise StartFailed(f"Docker Engine does not answer: {answer['message']}")
    if status not in (DONE, 304):
        why = str(answer.get("message", f"status {status}"))
        raise StartFailed("Docker Engine: " + " ".join(why.split())[:300])


def _attach(fields: Fields) -> socket.socket:
    """Return a socket that receives the container's output."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(REQUEST_SECONDS)
        sock.connect(fields.one("socket"))
        path = API + fields.one("name") + "/attach?stream=1&stdout=1&stderr=1"
        lines = (f"POST {path} HTTP/1.1", "Host: localhost", "Upgrade: tcp", "Connection: Upgrade")
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        _require_stream(sock)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _require_stream(sock: socket.socket) -> None:
    """Read the answer's head, byte by byte: the container's output follows it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte or len(head) > HEAD_BYTES_MAX:
            raise OSError("the engine ended the attach stream")
        head += byte
    status = head.split(b"\r\n")[0]
    if b" 101 " not in status:
        raise OSError(status.decode(errors="replace"))


def _ask(fields: Fields, method: str, what: str, name: str = "") -> tuple[int, dict[str, object]]:
    """Send a request about our container, or one of another name; return status and JSON.

    The status is 0 if the engine does not answer.
    """
    call = EngineRequest(fields.one("socket"))
    try:
        call.request(method, API + (name or fields.one("name")) + what)
        answer = call.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body else {}
    except (*FAULTS, ValueError) as fault:
        return 0, {"message": str(fault)}
    finally:
        call.close()


def _inspect(fields: Fields, name: str = "") -> dict[str, dict[str, int]]:
    """Return the engine's data of the container."""
    return _ask(fields, "GET", "/json", name)[1]  # type: ignore[return-value]


def _group_of(found: dict[str, dict[str, int]]) -> cgroups.Group:
    """Return the control group of a container that runs on this machine, else an empty one."""
    process, mark = (found.get("State") or {}).get("Pid"), str(found.get("Id") or "")
    if not process or len(mark) < cgroups.MARK_CHARACTERS:
        return cgroups.Group({}, set())
    return cgroups.of_process(process, mark)
