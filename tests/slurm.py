"""A SLURM cluster of this machine alone, for a test session, of Debian's packages slurm-wlm and munge."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol")
SBIN = "/usr/sbin"
CORES = 2

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
JobRequeue=1
MinJobAge=3600
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=2000 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes={host} Default=YES MaxTime=10 DefaultTime=5 State=UP
PartitionName=urgent Nodes={host} MaxTime=10 DefaultTime=5 PriorityTier=10 State=UP
"""

# Without slurmdbd there is no accounting to ask: what submitit asks sacct for, of the controller.
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
scontrol show job -o | sed -nE \\
    -e 's/^JobId=[0-9]+ ArrayJobId=([0-9]+) ArrayTaskId=([0-9]+) .*JobState=([A-Z_]+) .*/\\1_\\2|\\3|/p' \\
    -e '/ArrayJobId/!s/^JobId=([0-9]+) .*JobState=([A-Z_]+) .*/\\1|\\2|/p'
"""


def missing() -> str | None:
    """Why there can be no cluster here; None where there can."""
    absent = [program for program in PROGRAMS if not shutil.which(program, path=f"{os.environ['PATH']}:{SBIN}")]
    if absent:
        return f"SLURM NOT TESTED: no {', '.join(absent)} here; apt-get install --no-install-recommends slurm-wlm munge"
    return None if os.getuid() == 0 else "SLURM NOT TESTED: its daemons want to be started by root"


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which srun and sbatch find a cluster whose files are in `folder`; it ends with this context."""
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o711)  # munge's socket wants to be reached
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    (folder / "bin/sacct").write_text(SACCT)
    (folder / "bin/sacct").chmod(0o755)
    config = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    config.write_text(CONFIG.format(folder=folder, host=host, cores=CORES, ports=_free_ports(2)))
    path = f"{folder}/bin:{os.environ['PATH']}:{SBIN}"
    environment = {**os.environ, "SLURM_CONF": str(config), "PATH": path}
    names = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munged = ["munged", "--foreground", "--force", *(f"--{name}={folder}/munge.{end}" for name, end in names.items())]
    daemons = []
    try:
        for command in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-c"]):
            log = (folder / f"{command[0]}.out").open("wb")
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(0.5)
        _wait_until_idle(environment, folder)
        yield environment
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(["scancel", "--user=root", "--signal=KILL"], env=environment, timeout=10, check=False)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    for _ in range(60):
        asked = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, check=False)
        if asked.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    said = "\n".join(file.read_text()[-1500:] for file in sorted(folder.glob("slurm*.log")))
    raise RuntimeError(f"SLURM does not start ({asked.stdout}{asked.stderr}): {said}")
