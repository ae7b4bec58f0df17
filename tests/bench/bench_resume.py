#!/usr/bin/env python3
"""How quickly a farm on the embedded model gets over its losses, and what checkpoints cost; a CSV on stdout
(tests/bench/resume.csv is one).   tests/bench/bench_resume.py BIN_DIR SOURCE_DIR [ROUNDS]

notice: a worker's SIGKILL until the coordinator has the failure; computing: until another worker's first finished step of
the same training; durable: TERM until its checkpoint is under its name on the disk; coordinator: its SIGKILL until the next one
has taken the training over; left: until the farm is gone; counted: the share of a worker's own processor time that its checkpoints
took, as it counts itself (trainer/resume.c), which other work does not disturb; cost: processor seconds of a whole farm of one training,
its savers with it, with checkpoints in memory every 5 s, each second and also on the disk, and after each step, beside one without, in
turn: other work disturbs these least.   Further words, --times, --counted, --cost: only these."""
import json, os, re, shutil, signal, statistics, struct, subprocess, sys, tempfile, time

BIN, SRC = (os.path.abspath(p) for p in sys.argv[1:3])
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 5
WORK = tempfile.mkdtemp(prefix="cfarm-bench-resume-")
ENV = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive", OPENBLAS_NUM_THREADS="1")


class Farm:
    def __init__(self, name, steps, every, disk="never"):
        self.dir = os.path.join(WORK, name)
        toy = SRC + "/data/toyworld"
        with open(self.dir + ".yaml", "w") as f:
            f.write(f"farm: {name}\nbase: {toy}/model\ndefaults: {{steps: {steps}, batch: 4, class: mug, images: {toy}/subjects/mug, "
                    f"compute: f32}}\nlimits: {{checkpoint: {disk}}}\nconcepts:\n - {{name: c, token: <c>, seed: 1}}\n")
        self.log = open(self.dir + ".log", "w")
        self.p = subprocess.Popen([BIN + "/cfarm", "train", self.dir + ".yaml", "--workers", "1"], stdin=subprocess.DEVNULL,
                                  stdout=self.log, stderr=self.log, env=dict(ENV, CFARM_CHECKPOINT_S=str(every)))

    def children(self, program):
        with open(f"/proc/{self.p.pid}/task/{self.p.pid}/children") as f:
            pids = [int(x) for x in f.read().split()]
        return [p for p in pids if self.exe(p).endswith("/" + program)]

    @staticmethod
    def exe(pid):
        try:
            return os.readlink(f"/proc/{pid}/exe")
        except OSError:
            return ""

    def steps(self):
        """Of the two checkpoints in the agent's memory (trainer/checkpoint.h: u64 at byte 24)."""
        found = []
        for fd in os.listdir(f"/proc/{self.p.pid}/fd"):
            path = f"/proc/{self.p.pid}/fd/{fd}"
            try:
                if "cfarm-checkpoint" in os.readlink(path):
                    with open(path, "rb") as f:
                        head = f.read(32)
                    found.append(struct.unpack("<Q", head[24:32])[0] if len(head) == 32 else 0)
            except OSError:
                pass
        return found

    def wait_step(self, step, most=60):
        until = time.time() + most
        while time.time() < until:
            if max(self.steps(), default=0) >= step:
                return time.time()
            time.sleep(0.001)
        sys.exit(f"no step {step} within {most} s; see {self.dir}.log")

    def events(self, word):
        with open(self.dir + "/logs/events.jsonl") as f:
            rows = [json.loads(line) for line in f]
        return [stamp(r["time"]) for r in rows if r["event"] == word]

    def end(self):
        """Processor seconds of all its processes."""
        _, _, used = os.wait4(self.p.pid, 0)
        self.p.returncode = 0
        self.log.close()
        return used.ru_utime + used.ru_stime


def stamp(iso):
    import datetime
    return datetime.datetime.strptime(iso, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc).timestamp()


def lost_worker(n):
    f = Farm(f"worker{n}", 120, 0)
    f.wait_step(20)
    victim = f.children("cfarm-worker")[0]
    before, killed = max(f.steps()), time.time()
    os.kill(victim, signal.SIGKILL)
    # the one that goes on rewrites one of the two with a later step
    computing = f.wait_step(before + 2) - killed
    f.end()
    return {"notice": f.events("failed")[0] - killed, "computing": computing}


def notice(n):
    f = Farm(f"notice{n}", 400, 5)
    time.sleep(1.5)
    sent = time.time()
    f.p.send_signal(signal.SIGTERM)
    while not (os.path.isdir(f.dir + "/ckpt/c") and any(x in "01" for x in os.listdir(f.dir + "/ckpt/c"))):
        if time.time() - sent > 20:
            sys.exit("nothing became durable within 20 s")
        time.sleep(0.001)
    durable = time.time() - sent
    f.end()
    return {"durable": durable, "left": time.time() - sent}


def lost_coordinator(n):
    f = Farm(f"coordinator{n}", 120, 0)
    f.wait_step(20)
    killed = time.time()
    os.kill(f.children("cfarm")[0], signal.SIGKILL)
    f.end()
    return {"coordinator": f.events("goes-on")[0] - killed}


def counted(n, every, steps):
    """What the worker's last line of a concept says."""
    f = Farm(f"counted{n}-{every}", steps, every)
    f.end()
    with open(f.dir + "/logs/events.jsonl") as log:
        said = re.findall(r"checkpoints: (\d+), of the processor time ([0-9.]+)", log.read())
    if len(said) != 1:
        sys.exit(f"the worker has counted no checkpoints; see {f.dir}.log")
    return int(said[0][0]), float(said[0][1])


def seconds(n, every, disk="never"):
    return Farm(f"cost{n}-{every}-{disk}", 400, every, disk).end()


def wanted(part):
    asked = {"--times", "--counted", "--cost"} & set(sys.argv)
    return not asked or part in asked


def times():
    for measure in lost_worker, notice, lost_coordinator:
        rows = [measure(i) for i in range(ROUNDS)]
        for key in rows[0]:
            values = [r[key] * 1000 for r in rows]
            print(f"{key},ms,{statistics.median(values):.0f},{max(values):.0f},{ROUNDS}", flush=True)


def count():
    for every, steps in (5, 1500), (1, 600), (0, 200):
        rows = [counted(i, every, steps) for i in range(min(ROUNDS, 3))]
        made, shares = statistics.median(r[0] for r in rows), [r[1] for r in rows]
        print(f"counted: {made} checkpoints in {steps} steps; one every {every} s,of its processor time,{statistics.median(shares):.5f},"
              f"{max(shares):.5f},{len(rows)}", flush=True)


def cost():
    ways = {"processor time with one every 5 s": (5, "never"), "processor time with one every second and on the disk": (1, "1s"),
            "processor time with one after each step": (0, "never")}
    ratios = {name: [] for name in ways}
    for i in range(ROUNDS):
        without = seconds(i, 1000000)
        for name, how in ways.items():
            ratios[name].append(seconds(i, *how) / without)
    for name, values in ratios.items():
        print(f"{name},of without,{statistics.median(values):.3f},{max(values):.3f},{ROUNDS}", flush=True)


print("what,unit,median,worst,rounds")
for part, measure in ("--times", times), ("--counted", count), ("--cost", cost):
    if wanted(part):
        measure()
shutil.rmtree(WORK)
