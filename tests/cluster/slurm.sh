#!/bin/bash
# Run a command with a Slurm of one node, this machine, at its service: tests/cluster/slurm.sh <folder> <command> ...
# Needs root and Debian's packages slurmctld, slurmd and munge. Everything it writes is in <folder>; its processes
# listen on the loopback address only, and end with the command.
set -euo pipefail

work=$(realpath -m "$1"); shift
missing=""
for program in munged slurmctld slurmd srun; do
  command -v "$program" >/dev/null || missing="$missing $program"
done
if [ -n "$missing" ]; then
  echo "Not installed:$missing. Install them: apt-get install slurmctld slurmd slurm-client munge" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "slurmd starts jobs and needs root: run this as root, in a container for example." >&2
  exit 1
fi

mkdir -p "$work"/state "$work"/spool "$work"/log "$work"/run
# munge wants folders that only its user may write to, all the way up.
secret=$(mktemp -d /run/emonet-fer-munge.XXXXXX)
chmod 755 "$secret"
head -c 1024 /dev/urandom > "$secret/key"
chmod 400 "$secret/key"
host=$(hostname -s)
cat > "$work/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
# A job that is put back into the queue waits until its credential has expired: two minutes unless told otherwise.
AuthInfo=socket=$secret/socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
CredType=cred/munge
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
JobRequeue=1
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
KillWait=5
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/run/slurmctld.pid
SlurmdPidFile=$work/run/slurmd.pid
SlurmctldLogFile=$work/log/slurmctld.log
SlurmdLogFile=$work/log/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(free -m | awk '/Mem:/ {print int($2 * 0.9)}') State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$work/slurm.conf"

pids=()
stop() {
  scancel --user=root 2>/dev/null || true
  sleep 1
  kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$secret"
}
trap stop EXIT

munged --foreground --force --key-file="$secret/key" --socket="$secret/socket" --pid-file="$secret/pid" \
  --log-file="$work/log/munged.log" --seed-file="$secret/seed" &
pids+=($!)
for _ in $(seq 50); do [ -S "$secret/socket" ] && break; sleep 0.1; done
slurmctld -D -f "$SLURM_CONF" > "$work/log/slurmctld.out" 2>&1 &
pids+=($!)
slurmd -D -f "$SLURM_CONF" -N "$host" > "$work/log/slurmd.out" 2>&1 &
pids+=($!)
for _ in $(seq 60); do
  sinfo --noheader --format=%t 2>/dev/null | grep -q idle && break
  sleep 0.5
done
sinfo
"$@"
