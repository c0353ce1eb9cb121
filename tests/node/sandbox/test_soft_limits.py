"""What a job can take without control groups, where only its processes have bounds of their own.

Spec: specs/sandbox.md#soft-memory.
"""

import os
import re

import pytest

HELD = re.compile(r"^held (\d+)$", re.MULTILINE)
FILL = """
import socket, time
held, total, block = [], 0, b"x" * 65536
def fill(end):
    global total
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**24)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**24)
    end.setblocking(False)
    try:
        while True:
            total += end.send(block)
    except BlockingIOError:
        pass
def pair_of_tcp():
    client = socket.create_connection(listener.getsockname())
    return client, listener.accept()[0]
listener = socket.create_server(("127.0.0.1", 0))
try:
    while total < 2**30:
        pair = MAKE()
        held.append(pair)
        for end in pair:
            fill(end)
except OSError as fault:
    print(fault, flush=True)
print("held", total >> 20, flush=True)
time.sleep(5)
"""
MANY_SOCKETS = """
import os, socket, time
for _ in range(2):
    os.fork()
held = [socket.socketpair() for _ in range(100)]
time.sleep(60)
"""
"""Each process stays below its own bound; together they hold twice the job's memory."""
EMPTY_FILES = """
import os
for n in range(2**31):
    if n % 10_000 == 0:
        place = f"/tmp/{n}"
        os.mkdir(place)
    os.close(os.open(f"{place}/{n}", os.O_CREAT | os.O_WRONLY))
"""


async def test_sockets_of_a_process_hold_no_more_than_its_memory(bare_room):
    for make in ("socket.socketpair", "pair_of_tcp"):
        end, log, _ = await bare_room.run_python(FILL.replace("MAKE", make), timeout_ms=60_000)
        found = HELD.search(log)
        if found:
            assert "Too many open files" in log
            assert int(found.group(1)) <= 64
        else:
            assert end.reason == "memory"


@pytest.mark.parametrize("hoard", [MANY_SOCKETS, EMPTY_FILES], ids=["sockets", "files"])
async def test_what_adds_up_counts(bare_room, hoard):
    end, _, _ = await bare_room.run_python(hoard, timeout_ms=100_000, disk_in_memory=True)
    assert end.reason == "memory"


async def test_what_programs_do_with_sockets_still_works(bare_room):
    code = """
import multiprocessing, os, socket, threading
listener = socket.create_server(("127.0.0.1", 0))
def send():
    with socket.create_connection(listener.getsockname()) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**22)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.sendall(os.urandom(2**24))
threading.Thread(target=send).start()
reader, received = listener.accept()[0], 0
while piece := reader.recv(2**16):
    received += len(piece)
assert received == 2**24
a, b = socket.socketpair()
socket.send_fds(a, [b"x"], [0])
assert len(socket.recv_fds(b, 1, 1)[1]) == 1
with multiprocessing.Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
"""
    end, log, _ = await bare_room.run_python(code, memory_mib=256)
    assert (end.exit_code, log) == (0, "[1, 2]\n")


async def test_a_job_leaves_the_machines_user_watches_on_files(room):
    """Linux gives a user 128; a job of root's node has a user id, and so a share, of its own."""
    code = """
import ctypes
libc, count = ctypes.CDLL(None), 0
while count < 500 and libc.inotify_init1(0) >= 0:
    count += 1
print(count)
"""
    _, log, _ = await room.run_python(code)
    assert int(log) == 8 or os.geteuid() == 0
