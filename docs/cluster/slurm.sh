#!/usr/bin/env bash
# A study on the nodes of a Slurm job:  sbatch slurm.sh space.yaml
# The same command again goes on. Everything lies in the folder it is sent from, which all nodes see.
#SBATCH --job-name=attnsearch
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180
# EDIT the lines above, and make `attnsearch` and `ray` callable here, for instance:
# source "$HOME/venv/bin/activate"
set -euo pipefail
space=$1
export ATTNSEARCH_STORE=${ATTNSEARCH_STORE:-$PWD/attnsearch-weights}
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=${nodes[0]}:$((20000 + SLURM_JOB_ID % 10000))
ray_on() { # NODE OPTION...: Ray on a node, until the job ends
  srun --nodes=1 --ntasks=1 --nodelist="$1" \
    ray start --num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats --block "${@:2}" &
}
ray_on "${nodes[0]}" --head --port="${address##*:}" --include-dashboard=false
for _ in {1..120}; do
  (exec 3<>"/dev/tcp/${address%:*}/${address##*:}") 2> /dev/null && break
  sleep 1
done
for node in "${nodes[@]:1}"; do
  ray_on "$node" --address="$address"
done

# Slurm sends TERM three minutes before the time is up: then what trains is saved and handed over.
attnsearch run "$space" --set "resources.address=$address" &
driver=$!
trap 'kill -TERM "$driver"' TERM
status=0
wait "$driver" || status=$?
while kill -0 "$driver" 2> /dev/null; do # the wait was cut short by TERM
  status=0
  wait "$driver" || status=$?
done
jobs -p | xargs -r kill 2> /dev/null || true
exit "$status"
