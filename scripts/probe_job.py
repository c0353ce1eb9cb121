"""The probe job: what a stranger's job tries first, a row each, with what must come of it.

It runs in the container, on the standard library alone. scripts/probe.py reads the rows too: it
compares what was seen with what is expected.

Spec: specs/sandbox.md#probe.
"""

# ruff: noqa: PTH110, PTH123

import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple

from scripts import probe_acts as acts
from scripts.probe_acts import calling, listed, opening, reading, trying


class Probe(NamedTuple):
    """One row. `expected` joins the words that are right by "or"; {name} stands for a fact."""

    group: str
    name: str
    expected: str
    see: Callable[[], str]


def rows(group: str, *table: tuple[str, str, Callable[[], str]]) -> tuple[Probe, ...]:
    return tuple(Probe(group, *row) for row in table)


def below(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in " ".join(names).split())


ROW_SECONDS = 20
WORD_BYTES = 4096
NO = "refused or absent"
LEAKS = below(
    "/proc", "buddyinfo config.gz iomem ioports kallsyms kcore keys key-users kmsg kpagecount",
    "modules pagetypeinfo sched_debug slabinfo timer_list vmallocinfo",
)  # fmt: skip
SETTINGS = below(
    "/proc/sys", "kernel/core_pattern kernel/modprobe kernel/hostname vm/drop_caches fs/file-max",
    "vm/overcommit_memory net/ipv4/ip_forward fs/binfmt_misc/register",
)  # fmt: skip
SYSFS = below(
    "/sys", "kernel/uevent_helper power/state kernel/mm/ksm/run fs/cgroup/cgroup.procs",
    "fs/cgroup/memory/cgroup.procs fs/cgroup/memory/release_agent fs/cgroup/pids/pids.max",
    "fs/cgroup/memory/memory.limit_in_bytes fs/cgroup/unified/cgroup.procs",
)  # fmt: skip
DEVICES = below(
    "/dev", "mem port kmsg vda sda nvme0n1 loop-control fuse kvm net/tun vhost-vsock uinput",
    "nvidiactl mapper/control",
)  # fmt: skip
SERVICES = (
    "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock",
    "/run/dbus/system_bus_socket", "/run/systemd/private",
)  # fmt: skip
NAMESPACES = 0x7E020000  # All CLONE_NEW flags.

PROBES: tuple[Probe, ...] = (
    *rows(
        "identity",
        ("user ids", "{user}", lambda: listed(map(str, os.getresuid()))),
        ("group ids", "65532", lambda: listed(map(str, os.getresgid()))),
        ("further groups", "none or 65532", lambda: listed(map(str, os.getgroups()))),
        ("user ids are", "the container's", acts.user_map),
        ("host name", "job", lambda: os.uname().nodename),
        ("become root", NO, trying(os.setresuid, 0, 0, 0)),
        ("become another group", NO, trying(os.setresgid, 0, 0, 0)),
        ("take further groups", NO, trying(os.setgroups, [0])),
        ("no new privileges", "1", lambda: acts.status("NoNewPrivs")),
        ("controlling terminal", NO, trying(os.open, "/dev/tty", os.O_RDWR)),
        ("standard input", "empty", lambda: "empty" if os.read(0, 1) == b"" else "full"),
        ("descriptors left open", "none", acts.strange_descriptors),
        ("variables of others", "none", acts.variables),
    ),
    *rows(
        "capabilities",
        ("held", "none", acts.capabilities),
        ("make a device", NO, trying(os.mknod, "/tmp/device", 0o20666, os.makedev(1, 1))),
        ("change the root", NO, trying(os.chroot, "/tmp")),
        ("raw socket", NO, trying(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)),
        ("real-time priority", NO, trying(os.sched_setscheduler, 0, 1, os.sched_param(1))),
        ("higher priority", NO, trying(os.setpriority, os.PRIO_PROCESS, 0, -5)),
        ("another host name", NO, trying(socket.sethostname, "evil")),
        ("raise a limit", NO, trying(acts.raise_limit)),
    ),
    *rows(
        "system calls",
        ("filter", "2", lambda: acts.status("Seccomp")),
        ("by the i386 entry", "killed", acts.call_as_i386),
        ("ptrace", NO, calling(101, 117, 0, 0, 0, 0)),
        ("process_vm_readv", NO, calling(310, 270, 1, 0, 0, 0, 0, 0)),
        ("process_vm_writev", NO, calling(311, 271, 1, 0, 0, 0, 0, 0)),
        ("pidfd_getfd", NO, calling(438, 438, -1, 0, 0)),
        ("kcmp", NO, calling(312, 272, 1, 1, 0, 0, 0)),
        ("perf_event_open", NO, calling(298, 241, 0, 0, -1, -1, 0)),
        ("bpf", NO, calling(321, 280, 0, 0, 0)),
        ("userfaultfd", NO, calling(323, 282, 1)),
        ("io_uring_setup", NO, calling(425, 425, 1, 0)),
        ("add_key", NO, calling(248, 217, 0, 0, 0, 0, -3)),
        ("request_key", NO, calling(249, 218, 0, 0, 0, 0)),
        ("keyctl", NO, calling(250, 219, 0, -3, 0)),
        ("name_to_handle_at", NO, calling(303, 264, -100, b"/", 0, 0, 0)),
        ("open_by_handle_at", NO, calling(304, 265, -1, 0, 0)),
        ("fanotify_init", NO, calling(300, 262, 0, 0)),
        ("syslog", NO, calling(103, 116, 10, 0, 0)),
        ("memfd_secret", NO, calling(447, 447, 0)),
        ("vmsplice", NO, calling(278, 75, -1, 0, 0, 0)),
        ("mq_open", NO, calling(240, 180, b"x", 0, 0, 0)),
        ("shmget", NO, calling(29, 194, 0, 4096, 0o1600)),
        ("semget", NO, calling(64, 190, 0, 1, 0o1600)),
        ("msgget", NO, calling(68, 186, 0, 0o1600)),
        ("modify_ldt", NO, calling(154, None, 0, 0, 0)),
        ("init_module", NO, calling(175, 105, 0, 0, 0)),
        ("kexec_load", NO, calling(246, 104, -1, 0, 0, 0)),
        ("swapon", NO, calling(167, 224, 0, 0)),
        ("acct", NO, calling(163, 89, 0)),
        ("quotactl", NO, calling(179, 60, 0, 0, 0, 0)),
        ("reboot", NO, calling(169, 142, 0, 0, 0, 0)),
        ("clock_settime", NO, calling(227, 112, 0, 0)),
        ("iopl", NO, calling(172, None, 3)),
        ("type into a terminal", NO, trying(acts.type_for_others)),
    ),
    *rows(
        "sockets",
        ("to the hypervisor", NO, trying(socket.socket, 40, socket.SOCK_STREAM)),
        ("of the kernel's ciphers", NO, trying(socket.socket, 38, socket.SOCK_SEQPACKET)),
        ("of raw packets", NO, trying(socket.socket, 17, socket.SOCK_DGRAM)),
        ("of Bluetooth", NO, trying(socket.socket, 31, socket.SOCK_RAW)),
        ("of keys", NO, trying(socket.socket, 15, socket.SOCK_RAW)),
        ("of express data paths", NO, trying(socket.socket, 44, socket.SOCK_RAW)),
    ),
    *rows(
        "namespaces",
        ("shared with the machine", "none", acts.own_namespaces),
        ("new ones by unshare", NO, calling(272, 97, NAMESPACES)),
        ("a user's by unshare", NO, calling(272, 97, 0x10000000)),
        ("new ones by clone", NO, calling(56, 220, 0x10000000 | 17, 0, 0, 0, 0)),
        ("clone3", NO, calling(435, 435, 0, 0)),
        ("setns", NO, calling(308, 268, 0, 0)),
    ),
    *rows(
        "mounts",
        ("mount", NO, calling(165, 40, b"none", b"/tmp", b"tmpfs", 0, 0)),
        ("mount anew", NO, calling(165, 40, b"none", b"/", 0, 0x1020, 0)),
        ("unmount", NO, calling(166, 39, b"/proc", 2)),
        ("pivot_root", NO, calling(155, 41, b"/tmp", b"/tmp")),
        ("open_tree", NO, calling(428, 428, -100, b"/", 1)),
        ("fsopen", NO, calling(430, 430, b"tmpfs", 0)),
        ("write to the image", NO, trying(os.mkdir, "/home-of-a-job")),
        ("write to its folders", NO, trying(os.mkdir, "/etc/x")),
        ("write to the inputs", NO, trying(os.mkdir, "/in/x")),
        ("change an input's mode", NO, trying(acts.change_input)),
        ("writable", "/dev/shm /out /scratch /tmp", lambda: listed(acts.writable())),
        ("writable and larger than allowed", "none", acts.unsized),
        ("writable and of any number of files", "none", acts.uncounted),
        ("writable and with devices", "none", lambda: acts.without_flag(os.ST_NODEV)),
        ("writable and with user ids set", "none", lambda: acts.without_flag(os.ST_NOSUID)),
        ("a program that sets the user id", "ignored", acts.set_user_id),
    ),
    *rows(
        "processes",
        ("to be seen", "its own", acts.processes),
        ("change the first one's program", NO, trying(acts.change_program)),
        ("write the first one's program", NO, trying(os.open, "/proc/1/exe", os.O_RDWR)),
        ("patch the first one's memory", NO, trying(acts.patch_first_process)),
        ("look through the first one's root", NO, trying(os.stat, "/proc/1/root/proc")),
        ("be killed after the node", NO, trying(acts.outlive_the_node)),
    ),
    *rows(
        "what /proc and /sys tell",
        ("of the kernel and the machine", "none", reading(*LEAKS)),
        ("of the node in its arguments", "none", acts.words_of_the_machine("cmdline", "environ")),
        ("of the node's folders", "none", acts.words_of_the_machine("mountinfo", "maps")),
        ("of control groups", "none", acts.words_of_the_machine("cgroup")),
        ("of the machine's hardware", "none", reading("/sys/class/dmi/id/product_name")),
        ("settings to be changed", "none", opening(*SETTINGS)),
        ("the emergency keys", NO, trying(os.open, "/proc/sysrq-trigger", os.O_WRONLY)),
        ("switches in /sys", "none", opening(*SYSFS)),
    ),
    *rows(
        "devices",
        ("unknown", "none", acts.strange_devices),
        ("to be opened", "none", acts.opening(*DEVICES, mode=os.O_RDONLY)),
    ),
    *rows(
        "network",
        ("interfaces", "lo", lambda: listed(name for _, name in socket.if_nameindex())),
        ("the job itself", "done", trying(acts.reach_oneself)),
        ("the machine's loopback", NO, trying(acts.reach_the_machine)),
        ("a nameless socket of the machine", NO, trying(acts.reach_the_machines_socket)),
        ("the cloud's metadata", NO, trying(acts.connect, socket.AF_INET, ("169.254.169.254", 80))),
        ("the node's proxy", NO, trying(acts.reach_the_proxy)),
        ("routes", "none", acts.routes),
        ("name servers", "none", acts.name_servers),
        ("sockets of services", "none", lambda: listed(s for s in SERVICES if os.path.exists(s))),
    ),
    *rows(
        "limits",
        ("open files", "bounded", acts.open_many),
        ("processes", "bounded", acts.fork_many),
        ("core files", "0", acts.limit(resource.RLIMIT_CORE)),
        ("message queues", "0", acts.limit(resource.RLIMIT_MSGQUEUE)),
        ("locked memory", NO, trying(acts.lock_memory)),
        ("size of a file", "{file_bytes}", acts.limit(resource.RLIMIT_FSIZE)),
        ("leave a process behind", "done", acts.leave_a_daemon),
    ),
)  # fmt: skip


EGRESS_PROBES = (
    *rows(
        "network of a job that may reach any name",
        ("host name", "job", lambda: os.uname().nodename),
        ("interfaces", "lo", lambda: listed(name for _, name in socket.if_nameindex())),
        ("capabilities held", "none", acts.capabilities),
        ("raw socket", NO, trying(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)),
        ("the machine's loopback", NO, trying(acts.reach_the_machine)),
        ("a nameless socket of the machine", NO, trying(acts.reach_the_machines_socket)),
        ("the cloud's metadata", NO, trying(acts.connect, socket.AF_INET, ("169.254.169.254", 80))),
        ("routes", "none", acts.routes),
        ("name servers", "none", acts.name_servers),
        ("the node's proxy", "done", trying(acts.reach_the_proxy)),
        ("the machine's loopback by it", "403", acts.by_the_proxy("127.0.0.1:{port}")),
        ("the same by its name", "403", acts.by_the_proxy("localhost:{port}")),
        ("the same as IPv6", "403", acts.by_the_proxy("[::ffff:127.0.0.1]:{port}")),
        ("the cloud's metadata by it", "403", acts.by_the_proxy("169.254.169.254:80")),
        ("a private network by it", "403", acts.by_the_proxy("10.0.0.1:80")),
        ("another port by it", "403", acts.by_the_proxy("1.1.1.1:22")),
        ("what is no name by it", "400", acts.by_the_proxy("a\0b:80")),
    ),
)  # fmt: skip
"""The rows of a job whose owner and provider allow any name."""


def main(probes: tuple[Probe, ...] = PROBES) -> None:
    """Try every row; leave what was seen in /out."""
    with open("/in/facts.json") as file:
        acts.FACTS.update(json.load(file))
    seen = [in_child(probe.see) for probe in probes]
    with open("/out/seen.json", "w") as file:
        json.dump(seen, file)


def in_child(see: Callable[[], str]) -> str:
    """Return what a row saw; what it did to itself, if a wall is missing, ends with its process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(ROW_SECONDS)
        os.close(reader)
        try:
            os.write(writer, see().encode()[:WORD_BYTES])
        except Exception as fault:  # noqa: BLE001 - a row that breaks is a finding, not the end.
            os.write(writer, f"broke ({type(fault).__name__}: {fault})".encode()[:WORD_BYTES])
        os._exit(0)
    os.close(writer)
    word = os.read(reader, WORD_BYTES).decode(errors="replace")
    os.close(reader)
    _, code = os.waitpid(child, 0)
    return word or f"broke (status {code})"


if __name__ == "__main__":
    main()
