#!/usr/bin/env python3
"""A host of files for scripts/agent-cost.sh: 8 cores, 12 mounts, 40 interfaces, 30 containers.

    agent-cost-host.py DIR        writes DIR/proc, DIR/sys and DIR/root
    agent-cost-host.py DIR run    then moves the counters once a second, until it is killed
"""
import hashlib
import os
import random
import subprocess
import sys
import time

ROOT = sys.argv[1]
CORES, MOUNTS, INTERFACES, CONTAINERS, DISKS = 8, 12, 40, 30, 4
random.seed(7)
ticks = [[random.randrange(10**6) for _ in range(10)] for _ in range(CORES)]
net = [[random.randrange(10**9) for _ in range(16)] for _ in range(INTERFACES)]
disks = [[random.randrange(10**6) for _ in range(17)] for _ in range(DISKS)]
used = [[10**9, 10**8] for _ in range(CONTAINERS)]
misc = {"ctxt": 10**9, "forks": 10**6, "faults": 10**5, "segs": 10**8}
ids = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(CONTAINERS)]


def put(path, text):
    """Writes in place: the agent keeps files open."""
    path = os.path.join(ROOT, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:
        file.write(text.encode())
        file.truncate()


def still():
    lines = []
    for n in range(MOUNTS):
        point = os.path.join(ROOT, "root", "mnt%d" % n)
        os.makedirs(point, exist_ok=True)
        # Only root may; without, they are one file system, which counts once.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", point], stderr=subprocess.DEVNULL)
        device = os.stat(point).st_dev
        row = (20 + n, os.major(device), os.minor(device), n, 97 + n)
        lines.append("%d 1 %d:%d / /mnt%d rw,relatime - ext4 /dev/sd%c1 rw\n" % row)
    put("proc/mountinfo", "".join(lines))
    put("proc/sys/net/netfilter/nf_conntrack_max", "262144\n")
    put("proc/sys/kernel/hostname", "cost\n")
    put("proc/mdstat", "Personalities : \nunused devices: <none>\n")
    put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
    for n in range(INTERFACES):
        put("sys/class/net/eth%d/operstate" % n, "up\n")
        put("sys/class/net/eth%d/speed" % n, "10000\n")
    for n in range(DISKS):
        put("sys/block/sd%c/stat" % (97 + n), "0\n")
        os.makedirs(os.path.join(ROOT, "sys/block/sd%c/device" % (97 + n)), exist_ok=True)
    for n in range(CORES):
        put("sys/devices/system/cpu/cpu%d/cpufreq/cpuinfo_max_freq" % n, "3500000\n")
        put("sys/class/hwmon/hwmon0/temp%d_label" % (n + 1), "Core %d\n" % n)
    put("sys/class/hwmon/hwmon0/name", "coretemp\n")


def moving():
    up = time.time()
    for core in ticks:
        for at, most in ((0, 30), (2, 10), (3, 60), (4, 3), (6, 1)):
            core[at] += random.randrange(most + 1)
    lines = ["cpu  %s\n" % " ".join(str(sum(core[at] for core in ticks)) for at in range(10))]
    lines += ["cpu%d %s\n" % (n, " ".join(map(str, core))) for n, core in enumerate(ticks)]
    for name, most in (("ctxt", 9000), ("forks", 20), ("faults", 5), ("segs", 3000)):
        misc[name] += random.randrange(most)
    lines += ["ctxt %d\nbtime 1770000000\nprocesses %d\nprocs_running 2\nprocs_blocked 0\n" % (misc["ctxt"], misc["forks"])]
    put("proc/stat", "".join(lines))
    free = 8_000_000 + random.randrange(10**6)
    fields = {"MemTotal": 16_000_000, "MemFree": free // 2, "MemAvailable": free, "Buffers": 200_000, "Cached": 3_000_000,
              "SwapTotal": 4_000_000, "SwapFree": 4_000_000, "Shmem": 50_000, "Slab": 300_000, "SReclaimable": 200_000,
              "HugePages_Total": 0, "HugePages_Free": 0, "Hugepagesize": 2048}
    put("proc/meminfo", "".join("%s: %12d kB\n" % row for row in fields.items()))
    put("proc/loadavg", "%.2f 0.50 0.40 2/500 1234\n" % (random.random() * 4))
    put("proc/uptime", "%.2f 1000.00\n" % up)
    rows = ["Inter-|   Receive  |  Transmit\n face |bytes packets\n"]
    for n, counters in enumerate(net):
        for at, most in ((0, 10**6), (1, 10**3), (8, 10**6), (9, 10**3)):
            counters[at] += random.randrange(most)
        rows.append("  eth%d: %s\n" % (n, " ".join(map(str, counters))))
    put("proc/net/dev", "".join(rows))
    rows = []
    for n, counters in enumerate(disks):
        for at, most in ((0, 50), (2, 9000), (3, 90), (4, 80), (6, 9000), (7, 90), (9, 400), (10, 800)):
            counters[at] += random.randrange(most)
        rows.append("   8 %7d sd%c %s\n" % (16 * n, 97 + n, " ".join(map(str, counters))))
    put("proc/diskstats", "".join(rows))
    put("proc/vmstat", "pgmajfault %d\npswpin 0\npswpout 0\noom_kill 0\n" % misc["faults"])
    for name in ("cpu", "memory", "io"):
        total = misc["ctxt"] // 100
        line = "%s avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n"
        put("proc/pressure/" + name, line % ("some", total) + line % ("full", total // 2))
    put("proc/sys/fs/file-nr", "%d\t0\t9223372036854775807\n" % (2000 + random.randrange(99)))
    put("proc/sys/net/netfilter/nf_conntrack_count", "%d\n" % random.randrange(900))
    put("proc/net/snmp", "Tcp: ActiveOpens EstabResets CurrEstab OutSegs RetransSegs\nTcp: 1 2 %d %d 5\nUdp: InDatagrams InErrors\nUdp: 9 0\n" % (random.randrange(400), misc["segs"]))
    put("proc/net/netstat", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 0 0\n")
    put("proc/net/sockstat", "sockets: used %d\nTCP: inuse 20 orphan 0 tw 3 alloc 25 mem 4\nUDP: inuse 5 mem 1\n" % (300 + random.randrange(50)))
    for n in range(CORES):
        put("sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq" % n, "%d\n" % (2_000_000 + random.randrange(10**6)))
        put("sys/class/hwmon/hwmon0/temp%d_input" % (n + 1), "%d\n" % (40_000 + 1000 * random.randrange(9)))
    for n, container in enumerate(used):
        folder = "sys/fs/cgroup/system.slice/docker-%s.scope/" % ids[n]
        container[0] += random.randrange(400_000)
        container[1] += random.randrange(10**6)
        put(folder + "cpu.stat", "usage_usec %d\nuser_usec 1\nsystem_usec 1\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n" % container[0])
        put(folder + "memory.current", "%d\n" % (10**8 + 4096 * random.randrange(10**4)))
        put(folder + "memory.stat", "anon 1\nfile 2\ninactive_file 4096\n")
        put(folder + "memory.max", "536870912\n")
        put(folder + "memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n")
        put(folder + "pids.current", "%d\n" % (5 + random.randrange(9)))
        put(folder + "io.stat", "8:0 rbytes=%d wbytes=%d rios=1 wios=1 dbytes=0 dios=0\n" % (container[1], container[1] * 2))


still()
moving()
while len(sys.argv) > 2:
    time.sleep(1)
    moving()
